//! Waiting for a socket of the node, for as long as somebody wants to.
//!
//! # Why not `tokio::net::UdpSocket`
//! It is registered for both directions from birth to death. Then the kernel wakes a thread of
//! the runtime for each datagram that arrives, although an event loop has taken over receiving,
//! and for each one that has left, because room to send counts as news. A watch is for one
//! direction, and is there only while it is waited for.

use std::io;
use std::sync::Arc;

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// Something to receive.
    Readable,
    /// Room to send.
    Writable,
}

/// A registration of the socket with the runtime.
#[derive(Debug)]
pub struct Watch {
    #[cfg(unix)]
    socket: tokio::io::unix::AsyncFd<Arc<std::net::UdpSocket>>,
    #[cfg(not(unix))]
    socket: tokio::net::UdpSocket,
    interest: tokio::io::Interest,
}

impl Watch {
    pub(super) fn new(socket: Arc<std::net::UdpSocket>, interest: Interest) -> io::Result<Self> {
        let interest = match interest {
            Interest::Readable => tokio::io::Interest::READABLE,
            Interest::Writable => tokio::io::Interest::WRITABLE,
        };
        #[cfg(unix)]
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that may close the \
                                       descriptor under the registration; a std socket cannot"
        )]
        let socket = tokio::io::unix::AsyncFd::with_interest(socket, interest)?;
        #[cfg(not(unix))]
        let socket = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
        Ok(Self { socket, interest })
    }

    /// Returns when it may be so; at once until an [`attempt`](Self::attempt) found that it is not.
    ///
    /// # Errors
    /// The runtime ends.
    pub async fn ready(&self) -> io::Result<()> {
        self.socket.ready(self.interest).await.map(drop)
    }

    /// Does what was waited for. On `WouldBlock`, [`ready`](Self::ready) waits again; news that
    /// came during the attempt is not missed.
    ///
    /// # Errors
    /// Those of `act`.
    pub fn attempt<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(unix)]
        let done = self.socket.try_io(self.interest, |_| act());
        #[cfg(not(unix))]
        let done = self.socket.try_io(self.interest, act);
        done
    }
}
