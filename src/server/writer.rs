//! Writes effects to the store in batches, so that many registrations share one disk flush.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep;
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
        let path = store.path().to_owned();
        let mut store = Some(store);
        let mut is_closing = false;
        while !is_closing {
            tokio::select! {
                () = self.wake.notified() => {}
                _ = closing.changed() => is_closing = true,
            }
            let pause = match self.commit(&path, store.take()).await {
                Some(open) => {
                    store = Some(open);
                    INTERVAL
                }
                None => {
                    self.wake.notify_one();
                    RETRY
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                _ = closing.changed() => is_closing = true,
            }
        }
        self.commit(&path, store).await;
    }

    /// Writes what is pending. The store is gone if that failed: redb wants to be opened anew
    /// after an error of the file system, which the next call does.
    async fn commit(&self, path: &Path, store: Option<Store>) -> Option<Store> {
        let Pending { batch, tickets } = std::mem::take(&mut *self.lock());
        if batch.is_empty() && store.is_some() {
            finish(tickets, Ok(()));
            return store;
        }
        let path = path.to_owned();
        let commit = move || {
            let result = store.map_or_else(|| Store::open(path), Ok).and_then(|store| {
                store.commit(&batch)?;
                Ok(store)
            });
            (result, batch)
        };
        let reason = match tokio::task::spawn_blocking(commit).await {
            Ok((Ok(store), _)) => {
                finish(tickets, Ok(()));
                return Some(store);
            }
            Ok((Err(failure), batch)) => {
                self.lock().batch.restore(batch);
                failure.to_string()
            }
            Err(panicked) => panicked.to_string(),
        };
        error!(%reason, "cannot write the rendezvous database");
        finish(tickets, Err(reason));
        None
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
