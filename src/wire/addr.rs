//! Addresses: a 16-bit network and a 32-bit node, written `N:NNNN.HHHH.LLLL`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::WireError;

/// A node's number; the same in every network. 0 is never assigned. In JSON it is a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl NodeId {
    /// No node: the registry counts up from 1.
    pub const UNSPECIFIED: Self = Self(0);
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
///
/// The text form is `N:NNNN.HHHH.LLLL`: the network in decimal and again in hex, then the high and
/// the low half of the node id in hex. Reading accepts either case of hex digit and leading zeros
/// in `N`, and nothing else; writing has upper case and no leading zeros.
///
/// ```
/// use pilot_agent::wire::{Addr, NodeId};
/// let addr: Addr = "1:0001.00a3.f291".parse()?;
/// assert_eq!(addr, Addr { network: 1, node: NodeId(0x00a3_f291) });
/// assert_eq!(addr.to_string(), "1:0001.00A3.F291");
/// # Ok::<(), pilot_agent::wire::WireError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Addr {
    /// 0 is the global network, in which every node has an address.
    pub network: u16,
    /// The node.
    pub node: NodeId,
}

impl Addr {
    /// No address. The keep-alive of release 1.18 carries it as its destination.
    pub const UNSPECIFIED: Self = Self::global(NodeId::UNSPECIFIED);

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

    /// Whether this is no address at all.
    #[must_use]
    pub fn is_unspecified(self) -> bool {
        self == Self::UNSPECIFIED
    }

    /// Whether this means every node of its network.
    #[must_use]
    pub fn is_broadcast(self) -> bool {
        self.node == NodeId::BROADCAST
    }
}

impl FromStr for Addr {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        const SHAPE: WireError = WireError::Invalid { what: "address: expected N:NNNN.HHHH.LLLL" };
        let (decimal, hex) = text.split_once(':').ok_or(SHAPE)?;
        let network = parse_decimal(decimal).ok_or(SHAPE)?;
        let mut groups = hex.split('.').map(parse_group);
        let (Some(Some(again)), Some(Some(high)), Some(Some(low)), None) =
            (groups.next(), groups.next(), groups.next(), groups.next())
        else {
            return Err(SHAPE);
        };
        if again != network {
            return Err(WireError::Invalid { what: "address: it names two different networks" });
        }
        Ok(Self { network, node: NodeId(u32::from(high) << 16 | u32::from(low)) })
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

/// An address and a port, written `<address>:<port>`. Not an Internet address: that one is always
/// spelled `std::net::SocketAddr`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SocketAddr {
    /// The node's address.
    pub addr: Addr,
    /// The port.
    pub port: u16,
}

impl SocketAddr {
    /// `port` at `addr`.
    #[must_use]
    pub const fn new(addr: Addr, port: u16) -> Self {
        Self { addr, port }
    }
}

impl FromStr for SocketAddr {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let (addr, port) = text
            .rsplit_once(':')
            .ok_or(WireError::Invalid { what: "socket address: expected <address>:<port>" })?;
        let port = parse_decimal(port)
            .ok_or(WireError::Invalid { what: "port: expected a number up to 65535" })?;
        Ok(Self { addr: addr.parse()?, port })
    }
}

impl fmt::Display for SocketAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.addr, self.port)
    }
}

impl fmt::Debug for SocketAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Digits only: the parser of the standard library would also take a sign.
fn parse_decimal(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Exactly four hex digits.
fn parse_group(text: &str) -> Option<u16> {
    let four_digits = text.len() == 4 && text.bytes().all(|b| b.is_ascii_hexdigit());
    four_digits.then(|| u16::from_str_radix(text, 16).ok())?
}
