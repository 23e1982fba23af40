//! The two ends of a direct path: one of our sockets, and an address.

use std::fmt;
use std::net::SocketAddr;

/// One of a node's UDP sockets. All but the main one exist to punch through symmetric NATs, which
/// give each socket a port of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct SocketId(pub u16);

impl SocketId {
    /// The socket that the node is registered with.
    pub const MAIN: Self = Self(0);
}

/// An address as one of our sockets reaches it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Remote {
    /// Ours.
    pub socket: SocketId,
    /// Theirs.
    pub addr: SocketAddr,
}

impl From<SocketAddr> for Remote {
    fn from(addr: SocketAddr) -> Self {
        Self { socket: SocketId::MAIN, addr }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr.fmt(f)
    }
}
