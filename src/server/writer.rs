//! Writes effects to the store in batches, so that many registrations share one disk flush.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::error;

use super::store::{Batch, Store};
use crate::proto::directory::Effect;

/// Commits begin at least this far apart; what comes in between shares one.
const INTERVAL: Duration = Duration::from_millis(10);
/// The pause after a commit that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Resolves when effects are safe, or could not be written.
pub(super) type Ticket = oneshot::Receiver<Result<(), String>>;

/// Where effects are left for the task.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pending: Mutex<Pending>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    batch: Batch,
    tickets: Vec<oneshot::Sender<Result<(), String>>>,
}

impl Writer {
    /// Leaves effects, in the order in which they happened: call it under the lock of what made
    /// them.
    pub(super) fn submit(&self, effects: Vec<Effect>) {
        if effects.is_empty() {
            return;
        }
        let mut pending = self.lock();
        for effect in effects {
            pending.batch.push(effect);
        }
        drop(pending);
        self.wake.notify_one();
    }

    /// A ticket for all that was submitted so far.
    pub(super) fn ticket(&self) -> Ticket {
        let (done, ticket) = oneshot::channel();
        self.lock().tickets.push(done);
        self.wake.notify_one();
        ticket
    }

    /// Commits until `closing`, and once more then.
    pub(super) async fn run(self: Arc<Self>, store: Store, mut closing: watch::Receiver<()>) {
        let store = Arc::new(store);
        let mut is_closing = false;
        while !is_closing {
            tokio::select! {
                () = self.wake.notified() => {}
                _ = closing.changed() => is_closing = true,
            }
            let next = Instant::now() + INTERVAL;
            if !self.commit(&store).await && !is_closing {
                sleep(RETRY).await;
                self.wake.notify_one();
            }
            tokio::select! {
                () = sleep_until(next) => {}
                _ = closing.changed() => is_closing = true,
            }
        }
        self.commit(&store).await;
    }

    /// Whether all that was pending is safe now.
    async fn commit(&self, store: &Arc<Store>) -> bool {
        let Pending { batch, tickets } = std::mem::take(&mut *self.lock());
        if batch.is_empty() {
            finish(tickets, Ok(()));
            return true;
        }
        let task_store = store.clone();
        let commit = move || (task_store.commit(&batch), batch);
        let result = tokio::task::spawn_blocking(commit).await;
        let reason = match result {
            Ok((Ok(()), _)) => {
                finish(tickets, Ok(()));
                return true;
            }
            Ok((Err(failure), batch)) => {
                self.lock().batch.restore(batch);
                failure.to_string()
            }
            Err(panicked) => panicked.to_string(),
        };
        error!(%reason, "cannot write the rendezvous database");
        finish(tickets, Err(reason));
        false
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn finish(tickets: Vec<oneshot::Sender<Result<(), String>>>, result: Result<(), String>) {
    for ticket in tickets {
        let _ = ticket.send(result.clone());
    }
}
