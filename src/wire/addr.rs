//! Addresses: a 16-bit network and a 32-bit node, written `N:NNNN.HHHH.LLLL`.

use std::fmt;

/// A node's number; the same in every network. 0 is never assigned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NodeId(pub u32);

impl NodeId {
    /// Every node of a network.
    pub const BROADCAST: Self = Self(u32::MAX);
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A 48-bit virtual address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Addr {
    /// 0 is the global network, in which every node has an address.
    pub network: u16,
    /// The node.
    pub node: NodeId,
}

impl Addr {
    /// The address of `node` in the global network.
    #[must_use]
    pub const fn global(node: NodeId) -> Self {
        Self { network: 0, node }
    }

    /// Decodes six bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 6]) -> Self {
        let [n0, n1, a, b, c, d] = bytes;
        Self {
            network: u16::from_be_bytes([n0, n1]),
            node: NodeId(u32::from_be_bytes([a, b, c, d])),
        }
    }

    /// Encodes six bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 6] {
        let [n0, n1] = self.network.to_be_bytes();
        let [a, b, c, d] = self.node.0.to_be_bytes();
        [n0, n1, a, b, c, d]
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (high, low) = (self.node.0 >> 16, self.node.0 & 0xffff);
        write!(f, "{}:{:04X}.{high:04X}.{low:04X}", self.network, self.network)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address and a port, written `<address>:<port>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SocketAddr {
    /// The node's address.
    pub addr: Addr,
    /// The port.
    pub port: u16,
}
