//! Beacon messages: endpoint discovery, hole punching and relaying, on the tunnel's UDP socket.
//!
//! The first byte is the type and below 0x10, which no tunnel frame begins with.
//!
//! ```text
//! 0x01 discover          node u32 [| ed25519 public(32)]              node   -> beacon
//! 0x02 discover reply    endpoint                                     beacon -> node
//! 0x03 punch request     requester u32 | target u32 [| expiry u64 | signature(64)]
//! 0x04 punch command     endpoint                                     beacon -> node
//! 0x05 relay             sender u32 | destination u32 | frame         node   -> beacon
//! 0x06 relay delivery    sender u32 | frame                           beacon -> node
//! 0x07 sync              beacon u32 | count u16 | count x node u32    beacon <-> beacon
//! 0x08 discover          as 0x01, and "I understand 0x09"
//! 0x09 relay delivery    sender u32 | destination u32 | frame         only after 0x08
//! 0x0A notify            kind u8                                      beacon -> node
//!
//! endpoint: length u8 (4 or 16) | IP address | port u16
//! ```
//! Bytes after a layout are ignored. Nothing here is authenticated, except the punch grant: what
//! a message says is a hint, and only frames that open under a key move a path.
//!
//! Two of ours ride on these, so that a beacon believes a node that moved, and nobody else:
//!
//! ```text
//! 0x0A 0x02 challenge    cookie(16)                                   beacon -> node
//! 0x01 prove             node u32 | ed25519 public(32) | cookie(16) | signature(64)
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr as Endpoint};

use super::cursor::Reader;
use super::{NodeId, WireError};

/// Types below this are beacon messages.
const TYPES: u8 = 0x10;
/// Bytes that [`relay_header`] puts before a frame.
pub const RELAY_HEADER_LEN: usize = 9;
/// Bytes before the frame of a 0x06.
pub const DELIVER_HEADER_LEN: usize = 5;
/// The kind of a [`BeaconMessage::Notify`] that says: a handshake waits at the registry.
pub const NOTIFY_HANDSHAKE: u8 = 1;
/// The kind of a notify that is a [`BeaconMessage::Challenge`].
const NOTIFY_CHALLENGE: u8 = 2;
/// Bytes of the cookie in a challenge.
pub const COOKIE_LEN: usize = 16;
/// Bytes of a challenge: no shorter datagram may cause one.
pub const CHALLENGE_LEN: usize = 2 + COOKIE_LEN;

const DISCOVER: u8 = 0x01;
const DISCOVER_REPLY: u8 = 0x02;
const PUNCH_REQUEST: u8 = 0x03;
const PUNCH_COMMAND: u8 = 0x04;
const RELAY: u8 = 0x05;
const RELAY_DELIVER: u8 = 0x06;
const SYNC: u8 = 0x07;
const DISCOVER_EXTENDED: u8 = 0x08;
const RELAY_DELIVER_TO: u8 = 0x09;
const NOTIFY: u8 = 0x0a;

/// Whether a datagram is a beacon message, known or not.
#[must_use]
pub fn is_beacon(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|&kind| kind < TYPES)
}

/// One message, borrowed from its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BeaconMessage<'a> {
    /// 0x01, 0x08: note my endpoint, and tell me what it is.
    Discover {
        /// The sender; 0 asks without being noted.
        node: NodeId,
        /// Its identity; newer beacons keep the first one they see for a node.
        public_key: Option<&'a [u8; 32]>,
        /// The sender understands [`Self::RelayDeliver`] with a destination.
        extended: bool,
    },
    /// 0x02: the endpoint that your message came from.
    DiscoverReply {
        /// What the beacon saw.
        endpoint: Endpoint,
    },
    /// 0x03: tell `target` and me to punch toward each other.
    PunchRequest {
        /// The sender.
        requester: NodeId,
        /// The node to reach.
        target: NodeId,
        /// The target's consent; only some operators demand it.
        grant: Option<PunchGrant<'a>>,
    },
    /// 0x04: send punch frames there.
    PunchCommand {
        /// Where.
        endpoint: Endpoint,
    },
    /// 0x05: pass a frame on.
    Relay {
        /// The sender, by its own word.
        sender: NodeId,
        /// The receiver.
        destination: NodeId,
        /// A complete tunnel frame.
        frame: &'a [u8],
    },
    /// 0x06, 0x09: a frame passed on.
    RelayDeliver {
        /// Who sent it, by its own word.
        sender: NodeId,
        /// To whom; only in a 0x09.
        destination: Option<NodeId>,
        /// A complete tunnel frame.
        frame: &'a [u8],
    },
    /// 0x07: the nodes that a beacon knows.
    Sync {
        /// The beacon.
        beacon: u32,
        /// Its nodes.
        nodes: NodeList<'a>,
    },
    /// 0x0A: something waits for you elsewhere. Ignore kinds you do not know.
    Notify {
        /// See [`NOTIFY_HANDSHAKE`].
        kind: u8,
    },
    /// 0x0A 0x02: I do not know you at this endpoint; prove that you are who you say.
    Challenge {
        /// To be signed.
        cookie: &'a [u8; COOKIE_LEN],
    },
    /// 0x01 with a longer trailer: a discover that answers a challenge. With a cookie and a
    /// signature of zeros it asks for one, and is as long as what it may cause.
    Prove {
        /// The sender.
        node: NodeId,
        /// Its identity.
        public_key: &'a [u8; 32],
        /// As it came.
        cookie: &'a [u8; COOKIE_LEN],
        /// By the identity, over [`prove_string`].
        signature: &'a [u8; 64],
    },
}

/// What answers a challenge, once it is signed.
#[must_use]
pub fn prove_string(node: NodeId, cookie: &[u8; COOKIE_LEN]) -> String {
    format!("pilot-agent discover v1:{node}:{:032x}", u128::from_be_bytes(*cookie))
}

/// Consent of the target of a punch, signed by its identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PunchGrant<'a> {
    /// Unix time in seconds at which it ends.
    pub expiry: u64,
    /// Signature over [`punch_grant_string`].
    pub signature: &'a [u8; 64],
}

/// What the target of a punch signs.
#[must_use]
pub fn punch_grant_string(requester: NodeId, target: NodeId, expiry: u64) -> String {
    format!("punch-grant:{requester}:{target}:{expiry}")
}

/// Node ids as they stand in the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeList<'a>(&'a [[u8; 4]]);

impl<'a> NodeList<'a> {
    /// Most nodes in one message: what the largest UDP datagram over IPv4 has room for.
    pub const MAX: usize = (65_507 - 7) / 4;

    /// A list of big-endian node ids.
    ///
    /// # Errors
    /// More than [`Self::MAX`].
    pub fn new(ids: &'a [[u8; 4]]) -> Result<Self, WireError> {
        if ids.len() > Self::MAX {
            let (len, limit) = (ids.len() * 4, Self::MAX * 4);
            return Err(WireError::TooLong { what: "beacon sync", len, limit });
        }
        Ok(Self(ids))
    }

    /// The nodes.
    pub fn iter(self) -> impl ExactSizeIterator<Item = NodeId> + 'a {
        self.0.iter().map(|id| NodeId(u32::from_be_bytes(*id)))
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> BeaconMessage<'a> {
    /// Decodes a message.
    ///
    /// # Errors
    /// The type is unknown, the datagram shorter than its layout, or an IP length not 4 or 16.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new("beacon message", datagram);
        match r.u8()? {
            DISCOVER => read_discover(r),
            DISCOVER_EXTENDED => Ok(Self::Discover {
                node: NodeId(r.u32()?),
                public_key: r.array_ref().ok(),
                extended: true,
            }),
            DISCOVER_REPLY => Ok(Self::DiscoverReply { endpoint: read_endpoint(&mut r)? }),
            PUNCH_REQUEST => Ok(Self::PunchRequest {
                requester: NodeId(r.u32()?),
                target: NodeId(r.u32()?),
                grant: read_grant(r).ok(),
            }),
            PUNCH_COMMAND => Ok(Self::PunchCommand { endpoint: read_endpoint(&mut r)? }),
            RELAY => Ok(Self::Relay {
                sender: NodeId(r.u32()?),
                destination: NodeId(r.u32()?),
                frame: r.rest(),
            }),
            RELAY_DELIVER => Ok(Self::RelayDeliver {
                sender: NodeId(r.u32()?),
                destination: None,
                frame: r.rest(),
            }),
            RELAY_DELIVER_TO => Ok(Self::RelayDeliver {
                sender: NodeId(r.u32()?),
                destination: Some(NodeId(r.u32()?)),
                frame: r.rest(),
            }),
            SYNC => {
                let (beacon, count) = (r.u32()?, r.u16()?);
                let ids = r.bytes(usize::from(count) * 4)?;
                Ok(Self::Sync { beacon, nodes: NodeList(ids.as_chunks().0) })
            }
            NOTIFY => match (r.u8()?, r.array_ref()) {
                (NOTIFY_CHALLENGE, Ok(cookie)) => Ok(Self::Challenge { cookie }),
                (kind, _) => Ok(Self::Notify { kind }),
            },
            _ => Err(WireError::Invalid { what: "beacon message type" }),
        }
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Discover { node, public_key, extended } => {
                out.push(if extended { DISCOVER_EXTENDED } else { DISCOVER });
                out.extend_from_slice(&node.0.to_be_bytes());
                if let Some(key) = public_key {
                    out.extend_from_slice(key);
                }
            }
            Self::DiscoverReply { endpoint } => {
                out.push(DISCOVER_REPLY);
                write_endpoint(endpoint, out);
            }
            Self::PunchRequest { requester, target, grant } => {
                out.push(PUNCH_REQUEST);
                out.extend_from_slice(&requester.0.to_be_bytes());
                out.extend_from_slice(&target.0.to_be_bytes());
                if let Some(grant) = grant {
                    out.extend_from_slice(&grant.expiry.to_be_bytes());
                    out.extend_from_slice(grant.signature);
                }
            }
            Self::PunchCommand { endpoint } => {
                out.push(PUNCH_COMMAND);
                write_endpoint(endpoint, out);
            }
            Self::Relay { sender, destination, frame } => {
                out.extend_from_slice(&relay_header(sender, destination));
                out.extend_from_slice(frame);
            }
            Self::RelayDeliver { sender, destination, frame } => {
                let kind = if destination.is_some() { RELAY_DELIVER_TO } else { RELAY_DELIVER };
                out.push(kind);
                out.extend_from_slice(&sender.0.to_be_bytes());
                if let Some(destination) = destination {
                    out.extend_from_slice(&destination.0.to_be_bytes());
                }
                out.extend_from_slice(frame);
            }
            Self::Sync { beacon, nodes } => {
                out.push(SYNC);
                out.extend_from_slice(&beacon.to_be_bytes());
                let count = u16::try_from(nodes.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&count.to_be_bytes());
                out.extend_from_slice(nodes.0.as_flattened());
            }
            Self::Notify { kind } => out.extend_from_slice(&[NOTIFY, kind]),
            Self::Challenge { cookie } => {
                out.extend_from_slice(&[NOTIFY, NOTIFY_CHALLENGE]);
                out.extend_from_slice(cookie);
            }
            Self::Prove { node, public_key, cookie, signature } => {
                out.push(DISCOVER);
                out.extend_from_slice(&node.0.to_be_bytes());
                out.extend_from_slice(public_key);
                out.extend_from_slice(cookie);
                out.extend_from_slice(signature);
            }
        }
    }
}

/// What stands before a frame that the beacon is to pass on. Write it into the buffer first, then
/// the frame, and nothing is copied.
#[must_use]
pub fn relay_header(sender: NodeId, destination: NodeId) -> [u8; RELAY_HEADER_LEN] {
    let [a, b, c, d] = sender.0.to_be_bytes();
    let [e, f, g, h] = destination.0.to_be_bytes();
    [RELAY, a, b, c, d, e, f, g, h]
}

/// What stands before a frame that the beacon has passed on (0x06).
#[must_use]
pub fn deliver_header(sender: NodeId) -> [u8; DELIVER_HEADER_LEN] {
    let [a, b, c, d] = sender.0.to_be_bytes();
    [RELAY_DELIVER, a, b, c, d]
}

/// Splits a relay delivery (0x06, 0x09) into its sender and the frame, for decryption in place.
///
/// # Errors
/// Another message, or a truncated one.
pub fn split_delivery(datagram: &mut [u8]) -> Result<(NodeId, &mut [u8]), WireError> {
    let have = datagram.len();
    let truncated = |need| WireError::Truncated { what: "relay delivery", need, have };
    let header_len = match datagram.first() {
        Some(&RELAY_DELIVER) => DELIVER_HEADER_LEN,
        Some(&RELAY_DELIVER_TO) => RELAY_HEADER_LEN,
        Some(_) => return Err(WireError::Invalid { what: "beacon message type" }),
        None => return Err(truncated(DELIVER_HEADER_LEN)),
    };
    let Some((head, frame)) = datagram.split_at_mut_checked(header_len) else {
        return Err(truncated(header_len));
    };
    let mut r = Reader::new("relay delivery", head);
    r.u8()?;
    Ok((NodeId(r.u32()?), frame))
}

fn read_discover(mut r: Reader<'_>) -> Result<BeaconMessage<'_>, WireError> {
    let node = NodeId(r.u32()?);
    let Ok(public_key) = r.array_ref() else {
        return Ok(BeaconMessage::Discover { node, public_key: None, extended: false });
    };
    match (r.array_ref(), r.array_ref()) {
        (Ok(cookie), Ok(signature)) => {
            Ok(BeaconMessage::Prove { node, public_key, cookie, signature })
        }
        _ => Ok(BeaconMessage::Discover { node, public_key: Some(public_key), extended: false }),
    }
}

fn read_grant(mut r: Reader<'_>) -> Result<PunchGrant<'_>, WireError> {
    Ok(PunchGrant { expiry: r.u64()?, signature: r.array_ref()? })
}

/// An address as these messages have it.
pub(crate) fn read_endpoint(r: &mut Reader<'_>) -> Result<Endpoint, WireError> {
    let ip = match r.u8()? {
        4 => IpAddr::V4(Ipv4Addr::from(r.array::<4>()?)),
        16 => IpAddr::V6(Ipv6Addr::from(r.array::<16>()?)).to_canonical(),
        _ => return Err(WireError::Invalid { what: "beacon endpoint" }),
    };
    Ok(Endpoint::new(ip, r.u16()?))
}

/// An IPv4 address that a dual-stack socket reports as IPv6 goes out as IPv4; flow label and
/// scope of an IPv6 address mean nothing to others and are left out.
pub(crate) fn write_endpoint(endpoint: Endpoint, out: &mut Vec<u8>) {
    match endpoint.ip().to_canonical() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(16);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&endpoint.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(message: BeaconMessage<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        message.encode(&mut out);
        out
    }

    #[test]
    fn a_dual_stack_endpoint_goes_out_as_ipv4() {
        let mapped = "[::ffff:203.0.113.7]:4000".parse().unwrap();
        let bytes = encoded(BeaconMessage::PunchCommand { endpoint: mapped });
        assert_eq!(bytes, [4, 4, 203, 0, 113, 7, 0x0f, 0xa0]);
        let plain = "203.0.113.7:4000".parse().unwrap();
        assert_eq!(
            BeaconMessage::parse(&bytes),
            Ok(BeaconMessage::PunchCommand { endpoint: plain })
        );
    }

    #[test]
    fn an_incomplete_trailer_is_no_trailer() {
        let mut bytes = vec![1, 0, 0, 0, 9];
        bytes.extend_from_slice(&[0xee; 31]);
        let discover =
            BeaconMessage::Discover { node: NodeId(9), public_key: None, extended: false };
        assert_eq!(BeaconMessage::parse(&bytes), Ok(discover));
    }

    #[test]
    fn a_proof_is_a_discover_to_whoever_does_not_know_it() {
        let (public_key, cookie, signature) = (&[1; 32], &[0xc0; 16], &[2; 64]);
        let proof = BeaconMessage::Prove { node: NodeId(9), public_key, cookie, signature };
        let bytes = encoded(proof);
        assert_eq!(BeaconMessage::parse(&bytes), Ok(proof));
        let known = BeaconMessage::Discover {
            node: NodeId(9),
            public_key: Some(public_key),
            extended: false,
        };
        assert_eq!(BeaconMessage::parse(&bytes[..bytes.len() - 1]), Ok(known));
        assert_eq!(bytes[..37], encoded(known));
        let text = "pilot-agent discover v1:9:c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0";
        assert_eq!(prove_string(NodeId(9), cookie), text);
    }

    #[test]
    fn a_challenge_is_a_notify_to_whoever_does_not_know_it() {
        let bytes = encoded(BeaconMessage::Challenge { cookie: &[7; 16] });
        assert_eq!(bytes.len(), CHALLENGE_LEN);
        assert_eq!(bytes[..2], encoded(BeaconMessage::Notify { kind: NOTIFY_CHALLENGE }));
        let cut = BeaconMessage::parse(&bytes[..17]);
        assert_eq!(cut, Ok(BeaconMessage::Notify { kind: NOTIFY_CHALLENGE }));
    }

    #[test]
    fn a_delivery_splits_for_decryption_in_place() {
        for destination in [None, Some(NodeId(2))] {
            let message =
                BeaconMessage::RelayDeliver { sender: NodeId(1), destination, frame: b"PILP" };
            let mut bytes = encoded(message);
            let (sender, frame) = split_delivery(&mut bytes).unwrap();
            assert_eq!((sender, &*frame), (NodeId(1), b"PILP".as_slice()));
        }
        assert!(split_delivery(&mut [6, 0, 0, 0]).is_err());
        assert!(split_delivery(&mut encoded(BeaconMessage::Notify { kind: 1 })).is_err());
    }

    #[test]
    fn a_sync_that_promises_more_nodes_than_it_holds_is_truncated() {
        let bytes = [7, 0, 0, 0, 9, 0, 2, 0, 0, 0, 1];
        assert!(matches!(BeaconMessage::parse(&bytes), Err(WireError::Truncated { .. })));
    }
}
