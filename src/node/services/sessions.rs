//! Accepting streams of a service: one task each, and only so many.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;
use tracing::debug;

use crate::node::error::NodeError;
use crate::node::stream::{Listener, NodeStream};
use crate::wire::NodeId;

/// How many sessions a service holds at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// With everybody together.
    pub(super) total: usize,
    /// With one peer, so that one cannot take the place of all.
    pub(super) per_peer: usize,
}

/// Runs `session` for each accepted stream, until the node closes. A stream beyond the limits is
/// reset. How a session ends concerns that stream only.
pub(super) async fn serve<F>(listener: Listener, limits: Limits, session: impl Fn(NodeStream) -> F)
where
    F: Future<Output = Result<(), NodeError>> + Send + 'static,
{
    let open = Arc::new(Mutex::new(HashMap::new()));
    let mut tasks = JoinSet::new();
    while let Ok(stream) = listener.accept().await {
        while tasks.try_join_next().is_some() {}
        let (port, peer) = (listener.port(), stream.peer());
        let slot = Slot::take(&open, peer.node, limits).filter(|_| tasks.len() < limits.total);
        let Some(slot) = slot else {
            debug!(%peer, port, "too many sessions");
            stream.abort();
            continue;
        };
        let session = session(stream);
        tasks.spawn(async move {
            let _slot = slot;
            if let Err(error) = session.await {
                debug!(%peer, port, %error, "session ended");
            }
        });
    }
}

type Open = Arc<Mutex<HashMap<NodeId, usize>>>;

/// One session with a peer; counted as long as it lives.
#[derive(Debug)]
struct Slot {
    open: Open,
    peer: NodeId,
}

impl Slot {
    fn take(open: &Open, peer: NodeId, limits: Limits) -> Option<Self> {
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_insert(0);
        if *count >= limits.per_peer {
            return None;
        }
        *count += 1;
        Some(Self { open: open.clone(), peer })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}
