//! Which nodes are connected, and what waits for each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::net::frame_queue::FrameQueue;
use crate::wire::NodeId;

/// One connection of a node.
#[derive(Debug)]
pub(in crate::server) struct Session {
    node: NodeId,
    pub(super) queue: FrameQueue,
    /// Rings when another connection of the node takes over.
    pub(super) replaced: Notify,
}

/// See the [module](self). Its lock may be held while the beacon's is taken, never the other way
/// round.
#[derive(Debug, Default)]
pub(in crate::server) struct Hub {
    sessions: Mutex<HashMap<NodeId, Arc<Session>>>,
    dropped: AtomicU64,
}

impl Hub {
    /// A node has logged in: it takes the place of its earlier connection. `attach` is called
    /// under the lock, so that no other connection comes between.
    pub(super) fn enter(&self, node: NodeId, attach: impl FnOnce()) -> Arc<Session> {
        let session =
            Arc::new(Session { node, queue: FrameQueue::default(), replaced: Notify::new() });
        let mut sessions = self.lock();
        if let Some(old) = sessions.insert(node, session.clone()) {
            old.replaced.notify_one();
        }
        attach();
        session
    }

    /// The connection is over; `detach` is called unless another one has taken over.
    pub(super) fn leave(&self, session: &Arc<Session>, detach: impl FnOnce()) {
        let mut sessions = self.lock();
        if sessions.get(&session.node).is_some_and(|current| Arc::ptr_eq(current, session)) {
            sessions.remove(&session.node);
            detach();
        }
    }

    /// Leaves datagrams for a node, cut from `contents`; without room or connection they are
    /// lost.
    pub(in crate::server) fn push(&self, node: NodeId, contents: &[u8], segment_size: usize) {
        let session = self.lock().get(&node).cloned();
        let dropped = session.map_or(1, |session| session.queue.push(contents, segment_size));
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    /// Nodes that are connected.
    pub(in crate::server) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Datagrams that were lost.
    pub(in crate::server) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
