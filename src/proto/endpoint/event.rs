//! What an endpoint tells its driver, and what the driver calls things by.

use std::net::SocketAddr;
use std::time::Duration;

use crate::proto::path::{Remote, SocketId, Via};
use crate::proto::stream::StreamEvent;
use crate::wire::{Addr, NodeId};

/// Names a stream of an endpoint. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StreamId {
    pub(super) slot: usize,
    pub(super) serial: u64,
}

/// Why a stream could not even be begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectError {
    /// No record of the peer was given.
    #[error("unknown peer")]
    UnknownPeer,
    /// There are too many streams with it already.
    #[error("too many streams with this peer")]
    TooManyStreams,
}

/// Something the driver must know of.
#[derive(Debug)]
#[non_exhaustive]
pub enum EndpointEvent {
    /// Ask the registry (or the pins) for this peer, and answer with
    /// [`set_peer`](super::Endpoint::set_peer) or [`reject_peer`](super::Endpoint::reject_peer).
    NeedPeer(NodeId),
    /// Something happened on a stream.
    Stream(StreamId, StreamEvent),
    /// A stream waits to be accepted on this port.
    Incoming(u16),
    /// A datagram arrived for this port.
    Datagram {
        /// Sender.
        from: Addr,
        /// Its port.
        src_port: u16,
        /// Ours.
        dst_port: u16,
        /// Content.
        payload: Vec<u8>,
    },
    /// A ping was answered.
    Pong {
        /// What [`ping`](super::Endpoint::ping) returned.
        token: u64,
        /// The peer.
        node: NodeId,
        /// Round-trip time.
        rtt: Duration,
        /// The way the answer came.
        via: Via,
    },
    /// Keys are agreed with this peer.
    PeerReady(NodeId),
    /// The peer came back with a new process; its streams have failed.
    PeerRestarted(NodeId),
    /// No keys could be agreed; its streams have failed.
    PeerUnreachable(NodeId),
    /// Somebody presented, for this node, a key that is not the node's.
    IdentityMismatch {
        /// The node.
        node: NodeId,
        /// The key that was presented.
        presented: [u8; 32],
    },
    /// The beacon says from which address our datagrams come.
    Observed(SocketAddr),
    /// The beacon says that a trust handshake waits at the registry.
    HandshakeWaiting,
    /// A peer's frames go another way from now on.
    PathChanged {
        /// The peer.
        node: NodeId,
        /// How they went; `None` if they did not.
        from: Option<Via>,
        /// How they go.
        to: Via,
    },
    /// Open this many more sockets, on ports of the system's choice.
    OpenSockets {
        /// Name of the first; the others follow.
        first: SocketId,
        /// How many.
        count: u16,
    },
    /// Close these sockets.
    CloseSockets {
        /// Name of the first.
        first: SocketId,
        /// How many, it included.
        count: u16,
    },
}

/// A run of equal datagrams to send with one system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Where to.
    pub destination: Remote,
    /// Size of each datagram; the last may be shorter.
    pub segment_size: usize,
}

/// Counters of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Datagrams that were no frame at all, or of a kind that is ignored.
    pub dropped_malformed: u64,
    /// Sealed frames that did not open: forged, replayed, or under a key that is gone.
    pub dropped_unauthenticated: u64,
    /// Packets that opened but were not acceptable: wrong source, wrong destination, bad checksum.
    pub dropped_invalid: u64,
    /// Work refused because a limit was reached.
    pub dropped_limited: u64,
    /// Symmetric NATs punched through.
    pub punches: u64,
    /// Attempts at that which failed.
    pub punches_failed: u64,
    /// Streams opened, by either side.
    pub streams_opened: u64,
    /// Times that a peer's frames left the relay for a direct path.
    pub paths_upgraded: u64,
    /// Times that they left a direct path for the relay.
    pub paths_lost: u64,
    /// Probes of paths sent.
    pub probes_sent: u64,
    /// Probes of paths that were answered.
    pub probes_answered: u64,
    /// Candidates that peers have told us.
    pub candidates_received: u64,
    /// Frames that went through the relay.
    pub frames_relayed: u64,
}
