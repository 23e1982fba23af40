//! Datagrams: unreliable, unordered, one packet each.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::core::Shared;
use super::error::NodeError;
use super::types::Datagram;
use super::waiting::DatagramQueue;
use crate::proto::endpoint::MAX_DATAGRAM;
use crate::wire::Addr;

pub(super) fn send(
    shared: &Shared,
    to: Addr,
    src_port: u16,
    port: u16,
    data: &[u8],
) -> Result<(), NodeError> {
    if data.len() > MAX_DATAGRAM {
        let (size, limit) = (data.len(), MAX_DATAGRAM);
        return Err(NodeError::TooLarge { what: "datagram", size, limit });
    }
    if data.is_empty() {
        // Nobody would see it: receivers of both kinds throw it away.
        return Err(NodeError::Invalid("a datagram must not be empty".to_owned()));
    }
    shared.act(|core, now| {
        if core.is_closed {
            return Err(NodeError::Closed);
        }
        let src_port = if src_port == 0 { core.endpoint.ephemeral_port() } else { src_port };
        // Dropping is what datagrams may do.
        core.endpoint.send_datagram(now, to, src_port, port, data);
        Ok(())
    })
}

/// Receives the datagrams for one port until it is dropped.
#[derive(Debug)]
pub struct DatagramPort {
    shared: Arc<Shared>,
    port: u16,
}

impl DatagramPort {
    pub(super) fn bind(shared: &Arc<Shared>, port: u16) -> Result<Self, NodeError> {
        shared.act(|core, _| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            if core.datagrams.contains_key(&port) {
                return Err(NodeError::PortInUse(port));
            }
            core.datagrams.insert(port, DatagramQueue::default());
            Ok(())
        })?;
        Ok(Self { shared: shared.clone(), port })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next datagram, if one waits.
    ///
    /// # Errors
    /// [`NodeError::Closed`].
    pub fn try_recv(&self) -> Result<Option<Datagram>, NodeError> {
        self.shared.look(|core| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            Ok(core.datagrams.get_mut(&self.port).and_then(|queue| queue.queue.pop_front()))
        })
    }

    /// As [`try_recv`](Self::try_recv), waiting.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Datagram, NodeError>> {
        self.shared.look(|core| {
            if core.is_closed {
                return Poll::Ready(Err(NodeError::Closed));
            }
            let queue = core.datagrams.entry(self.port).or_default();
            match queue.queue.pop_front() {
                Some(datagram) => Poll::Ready(Ok(datagram)),
                None => {
                    queue.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    /// Datagrams dropped because nobody fetched them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.look(|core| core.datagrams.get(&self.port).map_or(0, |queue| queue.dropped))
    }
}

impl Drop for DatagramPort {
    fn drop(&mut self) {
        self.shared.look(|core| core.datagrams.remove(&self.port));
    }
}
