//! Nodes that reach the beacon over a connection of their own (WebSocket) instead of UDP.
//!
//! To the beacon such a node has an address like any other, with its id in it, in a block that no
//! packet can come from (100::/64, RFC 6666). So everything else in here, relaying and limits, is
//! the same for both kinds. The differences:
//!
//! * The connection proved its node by a signature, so it speaks for that node only, and is
//!   believed whatever was noted before.
//! * While it is open, the node moves to UDP only if it also registered an endpoint, which is
//!   signed, too: others behind its proxy must not take its traffic with a discover.
//! * Nobody is told to punch toward it, or it toward others.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use super::{Beacon, Noted};
use crate::wire::NodeId;

const BLOCK: [u16; 4] = [0x100, 0, 0, 0];
/// Not 0, which means that there is no endpoint.
const PORT: u16 = 1;

/// The address that stands for the connection of `node`.
#[must_use]
pub fn address_of(node: NodeId) -> SocketAddr {
    let [a, b, c, d] = node.0.to_be_bytes();
    let [high, low] = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    let [p, q, r, s] = BLOCK;
    SocketAddr::new(Ipv6Addr::new(p, q, r, s, 0, 0, high, low).into(), PORT)
}

/// The node whose connection this address stands for; `None` for a real address.
#[must_use]
pub fn node_at(addr: SocketAddr) -> Option<NodeId> {
    let IpAddr::V6(ip) = addr.ip() else { return None };
    let [p, q, r, s, _, _, high, low] = ip.segments();
    ([p, q, r, s] == BLOCK).then_some(NodeId(u32::from(high) << 16 | u32::from(low)))
}

impl Beacon {
    /// `node` has proved itself on a connection, or shown life on it. From now on what is for it
    /// goes to [`address_of`] it.
    pub fn attach(&mut self, now: Instant, node: NodeId) {
        let endpoint = address_of(node);
        match self.nodes.get_mut(now, node) {
            Some(noted) if noted.endpoint == endpoint => noted.last_heard = now,
            _ => {
                self.insert(node, Noted::new(now, endpoint));
            }
        }
    }

    /// A sign of life of an attached node; nothing if it has moved to UDP meanwhile.
    pub fn touch(&mut self, now: Instant, node: NodeId) {
        if let Some(noted) = self.nodes.get_mut(now, node)
            && noted.endpoint == address_of(node)
        {
            noted.last_heard = now;
        }
    }

    /// The connection of `node` is gone.
    pub fn detach(&mut self, node: NodeId) {
        self.nodes.remove_from(address_of(node), node);
    }
}
