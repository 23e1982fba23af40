//! One peer: its tunnel, its paths, its streams' turn to send, and small packets that wait.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::StreamId;
use super::streams::StreamSlot;
use super::turns::{Senders, Turn, Turns};
use crate::proto::path::{PathPolicy, PathSet, Via};
use crate::proto::pmtud::PathMtu;
use crate::proto::stream::Macroflow;
use crate::proto::tunnel::Tunnel;
use crate::wire::{Flags, Header, NodeId, Protocol};

/// Small packets (datagrams, control) kept while keys are agreed. The newest is dropped, as
/// release 1.18 does.
const MAX_WAITING: usize = 64;

/// What the registry, or the node's pins, say of a peer.
#[derive(Clone, Debug, Default)]
pub struct PeerRecord {
    /// Its Ed25519 key.
    pub public_key: [u8; 32],
    /// Where to reach it directly.
    pub endpoint: Option<std::net::SocketAddr>,
    /// Its addresses in its own network.
    pub lan_addrs: Vec<std::net::SocketAddr>,
    /// It can be reached by relay only.
    pub relay_only: bool,
    /// It is one of ours (its registered version says so).
    pub is_native: bool,
    /// It may open streams to a private node.
    pub is_trusted: bool,
}

/// A packet that is not part of a stream.
#[derive(Debug)]
pub(super) struct LoosePacket {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    /// Send it this way, whatever the path in use is: it is about that way.
    pub(super) via: Option<Via>,
}

impl LoosePacket {
    /// Whether this is a ping, whose answer the path can wait for. Nothing answers a datagram or
    /// a keep-alive, and a probe is about a path of its own.
    pub(super) fn is_question(&self) -> bool {
        self.header.protocol == Protocol::Control
            && !self.header.flags.contains(Flags::ACK)
            && !self.payload.is_empty()
            && self.via.is_none()
    }
}

/// A ping that waits for its answer.
#[derive(Debug)]
pub(super) struct PendingPing {
    pub(super) token: u64,
    pub(super) seq: u32,
    pub(super) sent: Instant,
}

/// State of one peer.
#[derive(Debug)]
pub struct Peer {
    pub(super) tunnel: Tunnel,
    pub(super) path: PathSet,
    /// The path that the driver and the streams know of.
    pub(super) told_route: Option<Via>,
    /// Another policy than the node's.
    pub(super) policy: Option<Box<PathPolicy>>,
    /// Streams with something to send.
    pub(super) turns: Turns<StreamId>,
    /// What they share, once there was one.
    pub(super) flow: Option<Macroflow>,
    /// When the first of those that are held may go on.
    pub(super) pace_armed: Option<Instant>,
    /// Its own turn among the peers.
    pub(super) turn: Turn,
    pub(super) waiting: VecDeque<LoosePacket>,
    /// Streams that may go directly only wait for a direct path.
    pub(super) has_waiting_streams: bool,
    /// A sealed segment, too large to go to an address that has not proved itself.
    pub(super) held: Option<Vec<u8>>,
    pub(super) pings: Vec<PendingPing>,
    pub(super) streams: usize,
    pub(super) is_native: bool,
    /// A stream of its present process showed that it is a Go node.
    pub(super) is_foreign: bool,
    pub(super) is_trusted: bool,
    /// Its present process has said that it answers probes of the path's MTU.
    pub(super) answers_probes: bool,
    /// How much the path in use carries, once that matters.
    pub(super) path_mtu: Option<Box<PathMtu>>,
    /// Payload of segments to it, if another than that of the settings.
    pub(super) max_payload: Option<u16>,
    /// We opened a stream to it at this time; for a while it may answer to a private node.
    pub(super) dialled_at: Option<Instant>,
    /// The last ping took this long.
    pub(super) rtt: Option<Duration>,
    /// As its streams measured it last; what a new one expects.
    pub(super) srtt: Option<Duration>,
    /// Counts tunnels agreed with new keys. A stream of an older one dies when the peer turns out
    /// to have restarted.
    pub(super) generation: u32,
    /// The registry was asked for its record.
    pub(super) record_wanted: bool,
    pub(super) has_record: bool,
    pub(super) last_sent: Option<Instant>,
    pub(super) last_received: Option<Instant>,
    pub(super) last_used: Instant,
    /// It is on the relay, while in use.
    pub(super) relayed: Option<super::punching::Relayed>,
    pub(super) armed: Option<Instant>,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
}

impl Senders<NodeId> for HashMap<NodeId, Peer> {
    fn turn(&mut self, node: NodeId) -> Option<&mut Turn> {
        self.get_mut(&node).map(|peer| &mut peer.turn)
    }
}

impl Peer {
    pub(super) fn new(now: Instant, tunnel: Tunnel) -> Self {
        Self {
            tunnel,
            path: PathSet::default(),
            told_route: None,
            policy: None,
            turns: Turns::default(),
            flow: None,
            pace_armed: None,
            turn: Turn::default(),
            waiting: VecDeque::new(),
            has_waiting_streams: false,
            held: None,
            pings: Vec::new(),
            streams: 0,
            is_native: false,
            is_foreign: false,
            is_trusted: false,
            answers_probes: false,
            path_mtu: None,
            max_payload: None,
            dialled_at: None,
            rtt: None,
            srtt: None,
            generation: 0,
            record_wanted: false,
            has_record: false,
            last_sent: None,
            last_received: None,
            last_used: now,
            relayed: None,
            armed: None,
            bytes_sent: 0,
            bytes_received: 0,
        }
    }

    /// The tunnel.
    #[must_use]
    pub fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }

    /// The paths.
    #[must_use]
    pub fn path(&self) -> &PathSet {
        &self.path
    }

    /// How many streams are open with it.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// Whether it is one of ours rather than a Go node, as far as is known.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.is_native
    }

    /// What is known of the MTU of the path in use; `None` while nothing large was sent to it.
    #[must_use]
    pub fn path_mtu(&self) -> Option<&PathMtu> {
        self.path_mtu.as_deref()
    }

    /// The round trip that a new stream to it may expect (RFC 9040). If the path has changed since,
    /// a SYN too many is sent, or one too late; a measurement follows in either case.
    pub(super) fn expected_rtt(&self) -> Option<Duration> {
        self.srtt.or(self.rtt)
    }

    /// The stream whose turn it is sent nothing: it rests, or waits in line (`true`) if what the
    /// streams share is the reason.
    pub(super) fn set_aside(&mut self, id: StreamId, slot: &mut StreamSlot) -> bool {
        if slot.stream.is_held() {
            self.turns.hold(id, &mut slot.turn);
            return true;
        }
        self.turns.rest(&mut slot.turn);
        false
    }

    /// The next stream that was held back goes on, if there is room. `false`: none does.
    pub(super) fn resume(&mut self, now: Instant, streams: &mut impl Senders<StreamId>) -> bool {
        let has_room = |flow: &Macroflow| flow.has_room(now);
        self.turns.holds_any()
            && self.flow.as_ref().is_some_and(has_room)
            && self.turns.resume(streams)
    }

    /// When to try [`resume`](Self::resume) again, if it is a matter of time.
    pub(super) fn resume_at(&self) -> Option<Instant> {
        self.flow.as_ref().filter(|_| self.turns.holds_any())?.resume_at()
    }

    /// How long its last ping took.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Bytes of UDP payload sent to and received from it.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        (self.bytes_sent, self.bytes_received)
    }

    /// Queues a packet outside streams; `false` if too many wait already.
    pub(super) fn queue(&mut self, packet: LoosePacket) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        self.waiting.push_back(packet);
        true
    }

    /// Up to a quarter of the interval, another part for each peer: keep-alives of peers that came
    /// together, as when a node starts, then drift apart.
    pub(super) fn early(&self, interval: Duration) -> Duration {
        let hash = self.tunnel.peer().0.wrapping_mul(0x9e37_79b1) >> 24;
        interval / 4 * hash / 256
    }

    /// When to send a keep-alive, if the peer is worth one. One of our kind gets probes instead.
    pub(super) fn keepalive_at(&self, interval: Duration) -> Option<Instant> {
        let interval = interval - self.early(interval);
        let worth_it = self.streams > 0 || self.last_sent < Some(self.last_used + 8 * interval);
        match self.last_sent {
            Some(sent) if self.tunnel.is_ready() && worth_it && !self.path.is_native() => {
                Some(sent + interval)
            }
            _ => None,
        }
    }
}
