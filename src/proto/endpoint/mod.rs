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
pub(in crate::proto) mod limits;
mod network;
mod path_mtu;
mod paths;
mod peer;
mod peers;
mod punching;
mod receive;
mod streams;
mod timers;
mod transmit;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use slab::Slab;

pub use control::MAX_DATAGRAM;
pub use event::{ConnectError, EndpointEvent, EndpointStats, StreamId, Transmit};
pub use peer::{Peer, PeerRecord};
pub use streams::StreamEnds;

use super::path::{Remote, Via};
use super::stream::{Stream, StreamConfig, StreamError};
use super::tunnel::{LocalKeys, TunnelConfig};
use crate::wire::NodeId;
use crate::wire::beacon::{BeaconMessage, COOKIE_LEN, prove_string};
use limits::{Orphans, RateLimiter};
use streams::{Listener, StreamSlot};
use timers::TimerHeap;
use turns::Turns;

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
    /// The streams of a peer may send again.
    Pace(NodeId),
    Punch,
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
    /// Peers with something to send.
    turns: Turns<NodeId>,
    /// Whole datagrams: key exchange and beacon messages.
    outbox: VecDeque<(Remote, Vec<u8>)>,
    /// A datagram that did not fit the run it was made for.
    carry: Option<(Remote, Vec<u8>)>,
    /// Whose the last run of datagrams was.
    last_run: Option<NodeId>,
    timers: TimerHeap<TimerKey>,
    events: VecDeque<EndpointEvent>,
    exchange_per_source: RateLimiter<SocketAddr>,
    exchange_per_ip: RateLimiter<IpAddr>,
    /// Nodes that send sealed frames without having keys with us.
    strangers: RateLimiter<()>,
    /// Proofs to the beacon.
    proofs: RateLimiter<()>,
    orphans: Orphans<(NodeId, u16, u16)>,
    network: network::OwnNetwork,
    punching: punching::Punching,
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
            turns: Turns::default(),
            outbox: VecDeque::new(),
            carry: None,
            last_run: None,
            timers: TimerHeap::new(),
            events: VecDeque::new(),
            exchange_per_source: RateLimiter::new(5.0, 10.0, 4_096),
            exchange_per_ip: RateLimiter::new(200.0, 400.0, 4_096),
            strangers: RateLimiter::new(100.0, 100.0, 1),
            proofs: RateLimiter::new(5.0, 10.0, 1),
            orphans: Orphans::new(),
            network: network::OwnNetwork::default(),
            punching: punching::Punching::default(),
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
        // A beacon of ours that does not know us here will ask for a proof; a Go beacon takes
        // either for what it is.
        let public_key = &self.local.identity().public_key();
        let (cookie, signature) = (&[0; COOKIE_LEN], &[0; 64]);
        self.send_to_beacon(&BeaconMessage::Prove { node, public_key, cookie, signature });
    }

    /// Proves to the beacon that we are who we say, at the endpoint that it sees.
    fn prove(&mut self, now: Instant, cookie: &[u8; COOKIE_LEN]) {
        // Whoever can forge the beacon's address must not make us sign all day.
        if !self.proofs.allow(now, ()) {
            self.stats.dropped_limited += 1;
            return;
        }
        let node = self.node();
        let identity = self.local.identity().clone();
        let signature = &identity.sign(prove_string(node, cookie).as_bytes());
        let public_key = &identity.public_key();
        self.send_to_beacon(&BeaconMessage::Prove { node, public_key, cookie, signature });
    }

    /// How a peer's frames go now.
    #[must_use]
    pub fn route(&self, node: NodeId) -> Option<Via> {
        let peer = self.peers.get(&node)?;
        peer.path.route(&self.network.conditions(self.beacon, &self.config, peer))
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
                        let repeats =
                            |stream: &Stream| stream.stalled().map(|(repeats, _)| repeats);
                        let before = repeats(&slot.stream);
                        slot.stream.handle_timeout(now);
                        let is_stalled = repeats(&slot.stream) > before;
                        self.touch(id);
                        if is_stalled {
                            self.on_stall(now, id);
                            self.doubt_path(now, id);
                        }
                    }
                }
                TimerKey::Pace(node) => {
                    if let Some(peer) = self.peers.get_mut(&node)
                        && peer.pace_armed == Some(at)
                    {
                        peer.pace_armed = None;
                        self.queue_peer(node);
                    }
                }
                TimerKey::Punch => self.punching_timeout(now, at),
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
}
