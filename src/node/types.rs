//! The values that a node's API takes and gives.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use crate::proto::nat::NatKind;
use crate::proto::path::{Candidate, TrafficClass};
use crate::wire::{Addr, NodeId};

/// Who to talk to: a node, or a hostname that the registry knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PeerRef {
    /// By number.
    Node(NodeId),
    /// By hostname.
    Hostname(String),
}

impl fmt::Display for PeerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "{}", Addr::global(*node)),
            Self::Hostname(name) => f.write_str(name),
        }
    }
}

impl From<NodeId> for PeerRef {
    fn from(node: NodeId) -> Self {
        Self::Node(node)
    }
}

impl FromStr for PeerRef {
    type Err = std::convert::Infallible;

    /// An address text gives a node; anything else is taken for a hostname.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.parse::<Addr>() {
            Ok(addr) => Self::Node(addr.node),
            Err(_) => Self::Hostname(text.to_owned()),
        })
    }
}

/// What the bytes of a payload are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PayloadKind {
    /// Raw bytes.
    #[default]
    Bytes,
    /// UTF-8 text.
    Text,
    /// UTF-8 JSON.
    Json,
}

/// Bytes to send, and what they are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Payload {
    /// What the bytes are.
    pub kind: PayloadKind,
    /// The bytes.
    pub data: Bytes,
    /// Small texts that travel beside the payload (trace context); at most 8 KiB together.
    pub headers: Vec<(String, String)>,
    /// How it may travel; the receiver does not learn it.
    pub class: TrafficClass,
}

/// A message that has arrived.
#[derive(Clone, Debug)]
pub struct Message {
    /// Address of the node that sent it, as its tunnel authenticated it.
    pub sender: Addr,
    /// Its hostname, where this node knows it.
    pub sender_hostname: Option<String>,
    /// Unique among the messages of one sender process.
    pub id: u64,
    /// What arrived.
    pub payload: Payload,
    /// A file of data exchange: its base name and where it was stored.
    pub file: Option<(String, PathBuf)>,
}

/// A request that waits for [`Node::reply`](super::Node::reply).
#[derive(Clone, Debug)]
pub struct Request {
    /// Hand this to [`Node::reply`](super::Node::reply).
    pub ticket: u64,
    /// Address of the node that asks.
    pub sender: Addr,
    /// Its hostname, where this node knows it.
    pub sender_hostname: Option<String>,
    /// The question.
    pub payload: Payload,
}

/// How packets travel to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathKind {
    /// From socket to socket.
    Direct,
    /// Through the beacon, still encrypted end to end.
    Relay,
}

/// The answer to a ping.
#[derive(Clone, Copy, Debug)]
pub struct Pong {
    /// The node that answered.
    pub address: Addr,
    /// Round-trip time.
    pub rtt: Duration,
    /// Which way it went.
    pub path: PathKind,
    /// The UDP address packets are sent to (the beacon's, when relayed).
    pub endpoint: std::net::SocketAddr,
    /// Share of datagrams that this path lost of late, from 0 to 1, where known.
    pub loss: Option<f32>,
    /// Bytes of UDP payload that this path carries, once something large was sent that way.
    pub path_mtu: Option<u16>,
}

/// A datagram that has arrived.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Sender.
    pub sender: Addr,
    /// Sender's port: send an answer there.
    pub port: u16,
    /// Content.
    pub data: Bytes,
}

/// An agent found by what it can do.
#[derive(Clone, Debug)]
pub struct AgentInfo {
    /// Its address.
    pub address: Addr,
    /// Its hostname, if it has one.
    pub hostname: Option<String>,
    /// What it says it can do.
    pub capabilities: Vec<String>,
    /// How well that fits the query; higher is better, comparable within one answer only.
    pub score: f64,
}

/// A peer that this node has a tunnel with, or is making one.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its address.
    pub address: Addr,
    /// Its hostname, where known.
    pub hostname: Option<String>,
    /// Its Ed25519 public key, once known.
    pub public_key: Option<[u8; 32]>,
    /// Whether keys are agreed.
    pub encrypted: bool,
    /// Which way packets go.
    pub path: PathKind,
    /// Where they go.
    pub endpoint: Option<std::net::SocketAddr>,
    /// Smoothed round-trip time, once measured.
    pub rtt: Option<Duration>,
    /// Bytes of UDP payload that the path carries, once something large was sent that way.
    pub path_mtu: Option<u16>,
    /// Streams open with it.
    pub streams: usize,
    /// Bytes of UDP payload sent to it and received from it.
    pub bytes_sent: u64,
    /// Bytes received from it.
    pub bytes_received: u64,
}

/// What a node knows of itself.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Address.
    pub address: Addr,
    /// Hostname, if any.
    pub hostname: Option<String>,
    /// Ed25519 public key.
    pub public_key: [u8; 32],
    /// The UDP socket.
    pub local_addr: std::net::SocketAddr,
    /// The UDP address the rendezvous saw, once it answered.
    pub observed_addr: Option<std::net::SocketAddr>,
    /// Where others may reach it, best first.
    pub candidates: Vec<Candidate>,
    /// What kind of NAT it is behind.
    pub nat: NatKind,
    /// How long the NAT keeps a mapping that nobody uses, at least; once it is measured.
    pub mapping_lifetime: Option<Duration>,
    /// How the beacon is reached: `udp`, or `websocket` while UDP is blocked.
    pub transport: &'static str,
    /// Where the registry is.
    pub rendezvous: String,
    /// Whether this node hosts the embedded rendezvous right now.
    pub hosts_rendezvous: bool,
    /// Whether the registry answers.
    pub registered: bool,
    /// Whether any registered agent may find and connect to it.
    pub public: bool,
    /// What it offers.
    pub capabilities: Vec<String>,
    /// Time since start.
    pub uptime: Duration,
    /// Peers known.
    pub peers: usize,
    /// Streams open.
    pub streams: usize,
    /// Named counters, for people and dashboards.
    pub counters: Vec<(&'static str, u64)>,
}

/// A request for trust that waits for [`Node::approve`](super::Node::approve) or
/// [`Node::reject`](super::Node::reject).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingTrust {
    /// Who asks.
    pub address: Addr,
    /// Its hostname, where known.
    pub hostname: Option<String>,
    /// Its registered Ed25519 key.
    pub public_key: [u8; 32],
    /// Why, in its own words.
    pub justification: String,
    /// When it came, in seconds since 1970.
    pub received_at: u64,
}

/// A peer that may find and reach this node although it is private.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustedPeer {
    /// Its address.
    pub address: Addr,
    /// Its hostname, where known.
    pub hostname: Option<String>,
    /// The Ed25519 key that is trusted.
    pub public_key: [u8; 32],
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// It has said that it trusts this node, too.
    pub mutual: bool,
}

/// What became of a request for trust.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrustAnswer {
    /// The peer trusts this node, and this node the peer.
    Granted,
    /// The peer's owner has not decided yet. The request stays with the peer.
    Undecided,
    /// The peer refused, with this reason (possibly none).
    Refused(String),
}
