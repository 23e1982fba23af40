//! A node's protocol, whole: datagrams and time in; datagrams, a deadline and events out.
//!
//! An [`Endpoint`] routes each datagram to a peer's tunnel or to the beacon protocol, routes what
//! opens to streams, and asks the streams of all peers in turn for what to send. The contract with
//! its driver (a socket's, or a simulator's):
//!
//! 1. feed one or more inputs: [`handle_datagram`](Endpoint::handle_datagram),
//!    [`handle_timeout`](Endpoint::handle_timeout), or any verb;
//! 2. drain [`poll_transmit`](Endpoint::poll_transmit) and [`poll_event`](Endpoint::poll_event);
//! 3. come back no later than [`poll_timeout`](Endpoint::poll_timeout).
//!
//! Early and extra calls of `handle_timeout` are harmless.
//!
//! # Why one object with one lock
//! A driver keeps an endpoint behind one mutex rather than one for each peer: no lock order, no
//! half-updated state between a peer and its streams, and what the simulator drives is exactly
//! what ships. The lock is held for microseconds per batch.

mod control;
mod event;
mod limits;
mod receive;
mod streams;
mod timers;
mod transmit;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use slab::Slab;

pub use control::MAX_DATAGRAM;
pub use event::{ConnectError, EndpointEvent, EndpointStats, StreamId, Transmit};
pub use streams::StreamEnds;

use super::path::{PathAction, Via};
use super::peer::{LoosePacket, Peer, PeerRecord};
use super::stream::{StreamConfig, StreamError};
use super::tunnel::{LocalKeys, Tunnel, TunnelConfig, TunnelEvent};
use crate::wire::NodeId;
use crate::wire::beacon::BeaconMessage;
use limits::{Orphans, RateLimiter};
use streams::{Listener, StreamSlot};
use timers::TimerHeap;

/// Peers that nobody vouched for yet; more are refused.
const MAX_UNVERIFIED_PEERS: usize = 1_024;

/// Least time between two looks at a peer.
const TICK: Duration = Duration::from_millis(1);

/// Settings of an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Settings of its streams.
    pub stream: Arc<StreamConfig>,
    /// A peer to which nothing was sent for this long gets a keep-alive (1.18.0 gives a silent
    /// peer up after about a minute).
    pub keepalive: Duration,
    /// Streams of strangers are dropped unless they are trusted.
    pub is_private: bool,
    /// Streams that wait to be accepted, for each port; more are refused.
    pub accept_backlog: usize,
    /// Streams with one peer.
    pub max_streams_per_peer: usize,
    /// Settings of its tunnels.
    pub tunnel: Arc<TunnelConfig>,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            stream: Arc::new(StreamConfig::default()),
            keepalive: Duration::from_secs(24),
            is_private: false,
            accept_backlog: 1_024,
            max_streams_per_peer: 16_384,
            tunnel: Arc::new(TunnelConfig::default()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum TimerKey {
    Stream(StreamId),
    Peer(NodeId),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    local: LocalKeys,
    rng: StdRng,
    beacon: Option<SocketAddr>,
    peers: HashMap<NodeId, Peer>,
    unverified: usize,
    streams: Slab<StreamSlot>,
    next_serial: u64,
    demux: HashMap<(NodeId, u16, u16), StreamId>,
    listeners: HashMap<u16, Listener>,
    next_port: u16,
    next_token: u64,
    /// Streams touched since the last [`settle`](Self::settle).
    dirty: Vec<StreamId>,
    ready_peers: VecDeque<NodeId>,
    /// Whole datagrams: key exchange and beacon messages.
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    /// A datagram that did not fit the run it was made for.
    carry: Option<(SocketAddr, Vec<u8>)>,
    timers: TimerHeap<TimerKey>,
    events: VecDeque<EndpointEvent>,
    exchange_per_source: RateLimiter<SocketAddr>,
    exchange_per_ip: RateLimiter<IpAddr>,
    /// Nodes that send sealed frames without having keys with us.
    strangers: RateLimiter<()>,
    orphans: Orphans<(NodeId, u16, u16)>,
    stats: EndpointStats,
}

impl Endpoint {
    /// An endpoint for the node that `local` belongs to. `seed` must be unpredictable: nonce
    /// prefixes and key pairs are drawn from it.
    #[must_use]
    pub fn new(config: EndpointConfig, local: LocalKeys, seed: [u8; 32]) -> Self {
        let rng = StdRng::from_seed(seed);
        Self {
            local,
            rng,
            beacon: None,
            peers: HashMap::new(),
            unverified: 0,
            streams: Slab::new(),
            next_serial: 0,
            demux: HashMap::new(),
            listeners: HashMap::new(),
            next_port: streams::FIRST_EPHEMERAL,
            next_token: 0,
            dirty: Vec::new(),
            ready_peers: VecDeque::new(),
            outbox: VecDeque::new(),
            carry: None,
            timers: TimerHeap::new(),
            events: VecDeque::new(),
            exchange_per_source: RateLimiter::new(5.0, 10.0, 4_096),
            exchange_per_ip: RateLimiter::new(200.0, 400.0, 4_096),
            strangers: RateLimiter::new(100.0, 100.0, 1),
            orphans: Orphans::new(),
            stats: EndpointStats::default(),
            config,
        }
    }

    /// Our node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.local.node()
    }

    /// Another node id was assigned to us. Nothing of the old one can go on.
    pub fn set_local(&mut self, now: Instant, local: LocalKeys) {
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            self.fail_streams(now, node, &StreamError::PeerUnreachable, u32::MAX);
        }
        self.settle();
        self.peers.clear();
        self.unverified = 0;
        self.demux.clear();
        self.local = local;
    }

    /// Tells where the beacon is: messages are taken from nowhere else.
    pub fn set_beacon(&mut self, beacon: Option<SocketAddr>) {
        self.beacon = beacon;
    }

    /// Opens or closes the node to strangers.
    pub fn set_private(&mut self, is_private: bool) {
        self.config.is_private = is_private;
    }

    /// Tells the beacon where we are; it answers with [`EndpointEvent::Observed`]. Call it after
    /// each successful heartbeat.
    pub fn discover(&mut self) {
        let node = self.node();
        self.send_to_beacon(&BeaconMessage::Discover { node, public_key: None, extended: false });
    }

    /// Gives the record of a peer, wanted or not. A key exchange that waited for it goes on.
    pub fn set_peer(&mut self, now: Instant, node: NodeId, record: &PeerRecord) {
        if node == self.node() {
            return;
        }
        self.ensure_peer(now, node);
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if !peer.has_record {
            peer.has_record = true;
            self.unverified -= 1;
        }
        peer.record_wanted = false;
        peer.is_native |= record.is_native;
        peer.is_trusted = record.is_trusted;
        peer.path.set_relay_only(record.relay_only);
        if let Some(endpoint) = record.endpoint {
            peer.path.suggest(endpoint);
        }
        peer.tunnel.set_peer_key(now, record.public_key);
        self.after_tunnel(now, node);
    }

    /// Admits a known peer to a private node, or no longer: then its streams are reset, and the
    /// time in which it may answer a stream of ours is over.
    pub fn set_trusted(&mut self, now: Instant, node: NodeId, is_trusted: bool) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.is_trusted = is_trusted;
        if is_trusted {
            return;
        }
        peer.dialled_at = None;
        if self.config.is_private {
            self.abort_streams(now, node);
        }
    }

    /// The registry does not know this peer: its streams fail, and it is forgotten.
    pub fn reject_peer(&mut self, now: Instant, node: NodeId, why: &StreamError) {
        self.fail_streams(now, node, why, u32::MAX);
        if self.peers.get(&node).is_some_and(|peer| peer.streams == 0) {
            self.forget_peer(node);
        } else if let Some(peer) = self.peers.get_mut(&node) {
            peer.record_wanted = false;
            peer.tunnel.peer_key_unavailable(now);
        }
    }

    /// Starts agreeing keys with a peer whose record was given, unless that is done.
    pub fn warm_up(&mut self, now: Instant, node: NodeId) {
        self.start_tunnel(now, node);
    }

    /// Whether keys are agreed with the peer.
    #[must_use]
    pub fn is_ready(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.tunnel.is_ready())
    }

    /// State of a peer.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }

    /// All peers, in no order.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.iter().map(|(node, peer)| (*node, peer))
    }

    /// How a peer's frames go now.
    #[must_use]
    pub fn route(&self, node: NodeId) -> Option<Via> {
        self.peers.get(&node)?.path.route(self.beacon.is_some())
    }

    /// The beacon's address.
    #[must_use]
    pub fn beacon(&self) -> Option<SocketAddr> {
        self.beacon
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> EndpointStats {
        self.stats
    }

    /// The next event.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<EndpointEvent> {
        self.settle();
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest. Changes with every
    /// input.
    #[must_use]
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.settle();
        self.timers.next()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, key)) = self.timers.pop_due(now) {
            match key {
                TimerKey::Stream(id) => {
                    if let Some(slot) = self.slot_mut(id)
                        && slot.armed == Some(at)
                    {
                        slot.armed = None;
                        slot.stream.handle_timeout(now);
                        self.touch(id);
                    }
                }
                TimerKey::Peer(node) => {
                    if let Some(peer) = self.peers.get_mut(&node)
                        && peer.armed == Some(at)
                    {
                        peer.armed = None;
                        self.peer_timeout(now, node);
                    }
                }
            }
        }
        self.settle();
    }

    /// Replaces our keys toward every peer with a tunnel. Streams go on.
    pub fn rekey(&mut self, now: Instant) {
        let nodes: Vec<NodeId> =
            self.peers.iter().filter(|(_, p)| p.tunnel.is_ready()).map(|(n, _)| *n).collect();
        for node in nodes {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.tunnel.rekey(now);
            }
            self.after_tunnel(now, node);
        }
    }

    fn peer_timeout(&mut self, now: Instant, node: NodeId) {
        let has_relay = self.beacon.is_some();
        let keepalive = self.config.keepalive;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.tunnel.handle_timeout(now);
        if peer.tunnel.is_ready() {
            let action = peer.path.handle_timeout(now, has_relay);
            let wants_keepalive = peer.keepalive_at(keepalive).is_some_and(|at| at <= now);
            if wants_keepalive {
                // Not when it leaves: until then it would be due again, for ever.
                peer.last_sent = Some(now);
            }
            match action {
                Some(PathAction::Probe(to)) => self.probe(node, to),
                Some(PathAction::PunchAndProbe(to)) => {
                    self.request_punch(node);
                    self.probe(node, to);
                }
                None => {}
            }
            if wants_keepalive {
                self.keep_alive(now, node);
            }
        }
        self.after_tunnel(now, node);
    }

    /// Peers begin here: with the record from the registry, or with a key exchange out of the blue.
    /// Returns `false` if there are too many of the latter kind.
    fn ensure_peer(&mut self, now: Instant, node: NodeId) -> bool {
        if self.peers.contains_key(&node) {
            return true;
        }
        if self.unverified >= MAX_UNVERIFIED_PEERS {
            self.stats.dropped_limited += 1;
            return false;
        }
        self.unverified += 1;
        let tunnel = Tunnel::new(node, self.config.tunnel.clone(), &mut self.rng);
        self.peers.insert(node, Peer::new(now, tunnel));
        true
    }

    fn forget_peer(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.remove(&node)
            && !peer.has_record
        {
            self.unverified -= 1;
        }
    }

    fn start_tunnel(&mut self, now: Instant, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.last_used = now;
        if peer.tunnel.is_ready() {
            return;
        }
        peer.tunnel.start(now);
        self.after_tunnel(now, node);
    }

    /// Carries out what a tunnel wants after anything was done to it.
    fn after_tunnel(&mut self, now: Instant, node: NodeId) {
        self.send_exchange(now, node);
        while let Some(event) = self.peers.get_mut(&node).and_then(|p| p.tunnel.poll_event()) {
            self.on_tunnel_event(now, node, event);
        }
        // An event may have queued a frame.
        self.send_exchange(now, node);
        let has_relay = self.beacon.is_some();
        let keepalive = self.config.keepalive;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let deadline = [
            peer.tunnel.poll_timeout(),
            peer.path.poll_timeout(has_relay).filter(|_| peer.tunnel.is_ready()),
            peer.keepalive_at(keepalive),
        ];
        // Never at once: whatever could be done now has been done, and a deadline that nothing
        // moves must not become a busy loop.
        let earliest = deadline.into_iter().flatten().min().map(|at| at.max(now + TICK));
        self.timers.arm(TimerKey::Peer(node), &mut peer.armed, earliest);
    }

    fn on_tunnel_event(&mut self, now: Instant, node: NodeId, event: TunnelEvent) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        match event {
            TunnelEvent::NeedPeerKey => {
                if !peer.record_wanted {
                    peer.record_wanted = true;
                    self.events.push_back(EndpointEvent::NeedPeer(node));
                }
            }
            TunnelEvent::Established => {
                peer.generation += 1;
                self.events.push_back(EndpointEvent::PeerReady(node));
                self.queue_peer(node);
            }
            TunnelEvent::PeerRestarted => {
                peer.generation += 1;
                let generation = peer.generation;
                self.keep_dialing(node, generation);
                self.fail_streams(now, node, &StreamError::PeerRestarted, generation);
                self.queue_peer(node);
                self.events.push_back(EndpointEvent::PeerRestarted(node));
            }
            TunnelEvent::Rekeyed => self.queue_peer(node),
            TunnelEvent::IdentityMismatch { presented } => {
                self.events.push_back(EndpointEvent::IdentityMismatch { node, presented });
            }
            TunnelEvent::GaveUp => {
                let why = StreamError::PeerUnreachable;
                self.fail_streams(now, node, &why, u32::MAX);
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.waiting.clear();
                    peer.path.unconfirm();
                }
                self.events.push_back(EndpointEvent::PeerUnreachable(node));
                let is_stranger =
                    self.peers.get(&node).is_some_and(|p| !p.has_record && p.streams == 0);
                if is_stranger {
                    self.forget_peer(node);
                }
            }
        }
    }

    /// Sends the key exchange frames that a peer's tunnel has made: directly, and through the relay
    /// as well unless the direct path is proven (release 1.18 does the same; a duplicate is
    /// harmless because only data frames are counted).
    fn send_exchange(&mut self, now: Instant, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        while let Some(frame) = peer.tunnel.poll_handshake(now, &self.local) {
            let on_relay = matches!(peer.path.route(self.beacon.is_some()), Some(Via::Relay));
            let answer_to = peer.path.answer_to();
            if let Some(moved) = answer_to {
                self.outbox.push_back((moved, frame.bytes.clone()));
            }
            let only_copy = !on_relay && answer_to.is_none();
            let direct = peer.path.direct().filter(|_| frame.may_copy || only_copy);
            if let Some(direct) = direct {
                self.outbox.push_back((direct, frame.bytes.clone()));
            }
            let unproven = frame.may_copy && !peer.path.is_confirmed();
            if let Some(beacon) = self.beacon
                && (on_relay || unproven)
            {
                let (sender, frame) = (self.local.node(), &frame.bytes);
                let message = BeaconMessage::Relay { sender, destination: node, frame };
                let mut wrapped = Vec::new();
                message.encode(&mut wrapped);
                self.outbox.push_back((beacon, wrapped));
                if unproven {
                    let requester = self.local.node();
                    let punch =
                        BeaconMessage::PunchRequest { requester, target: node, grant: None };
                    let mut datagram = Vec::new();
                    punch.encode(&mut datagram);
                    self.outbox.push_back((beacon, datagram));
                }
            }
        }
    }

    fn request_punch(&mut self, target: NodeId) {
        let requester = self.node();
        self.send_to_beacon(&BeaconMessage::PunchRequest { requester, target, grant: None });
    }

    fn send_to_beacon(&mut self, message: &BeaconMessage<'_>) {
        if let Some(beacon) = self.beacon {
            let mut datagram = Vec::new();
            message.encode(&mut datagram);
            self.outbox.push_back((beacon, datagram));
        }
    }

    fn queue_packet(&mut self, node: NodeId, packet: LoosePacket) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else { return false };
        let queued = peer.queue(packet);
        if queued {
            self.queue_peer(node);
        } else {
            self.stats.dropped_limited += 1;
        }
        queued
    }

    /// Gives a peer its turn to send.
    fn queue_peer(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node)
            && !peer.is_queued
            && peer.tunnel.is_ready()
        {
            peer.is_queued = true;
            self.ready_peers.push_back(node);
        }
    }
}
