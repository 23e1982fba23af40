//! A virtual network: hosts with an endpoint and a messenger each, a beacon, a clock that jumps,
//! and links that lose, delay, reorder, duplicate and corrupt, all from one seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::crypto::Identity;
use pilot_agent::proto::beacon::{Action, Beacon, BeaconConfig, Roster};
use pilot_agent::proto::endpoint::PeerRecord;
use pilot_agent::proto::endpoint::{Endpoint, EndpointConfig, EndpointEvent, StreamId};
use pilot_agent::proto::messenger::{Messenger, MessengerConfig, Outcome};
use pilot_agent::proto::stream::{StreamError, StreamEvent};
use pilot_agent::proto::tunnel::LocalKeys;
use pilot_agent::wire::{Addr, NodeId, ports};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// What a link does to datagrams; probabilities from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) corrupt: f64,
}

impl Link {
    /// Anything from a clean LAN to a miserable radio link.
    pub(crate) fn random(rng: &mut StdRng) -> Self {
        let bad = rng.random_bool(0.7);
        let share =
            |rng: &mut StdRng, most: f64| if bad { rng.random_range(0.0..most) } else { 0.0 };
        Self {
            latency: Duration::from_micros(rng.random_range(50..60_000)),
            jitter: Duration::from_micros(rng.random_range(0..20_000)),
            loss: share(rng, 0.15),
            duplicate: share(rng, 0.05),
            corrupt: share(rng, 0.03),
        }
    }
}

/// Everybody is registered.
struct Everybody;

impl Roster for Everybody {
    fn registered(&self, node: NodeId) -> Option<SocketAddr> {
        Some(host_addr(u8::try_from(node.0 >> 20).ok()?))
    }

    /// Nobody is asked to prove anything.
    fn public_key(&self, _node: NodeId) -> Option<[u8; 32]> {
        None
    }

    fn may_punch(&self, _requester: NodeId, _target: NodeId) -> bool {
        true
    }
}

pub(crate) struct Host {
    pub(crate) addr: SocketAddr,
    pub(crate) node: NodeId,
    pub(crate) endpoint: Endpoint,
    pub(crate) messenger: Messenger,
    pub(crate) identity: Arc<Identity>,
    pub(crate) events: Vec<EndpointEvent>,
    pub(crate) outcomes: HashMap<u64, Outcome>,
}

impl Host {
    pub(crate) fn here(&self) -> Addr {
        Addr::global(self.node)
    }

    pub(crate) fn closed(&self, id: StreamId) -> Option<Option<StreamError>> {
        self.events.iter().find_map(|event| match event {
            EndpointEvent::Stream(of, StreamEvent::Closed(why)) if *of == id => Some(*why),
            _ => None,
        })
    }
}

fn host_addr(last: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, last], 4_000))
}

struct Flying {
    to: SocketAddr,
    from: SocketAddr,
    data: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    start: Instant,
    pub(crate) rng: StdRng,
    pub(crate) hosts: Vec<Host>,
    pub(crate) link: Link,
    /// Larger datagrams vanish without a word.
    pub(crate) mtu: usize,
    /// The largest datagram that was sent, whether it arrived or not.
    pub(crate) largest: usize,
    /// Settings of the endpoints of hosts that are added later.
    pub(crate) endpoint: EndpointConfig,
    /// Settings of the messengers of hosts that are added later.
    pub(crate) messenger: MessengerConfig,
    /// Pairs of addresses between which nothing passes.
    pub(crate) blocked: HashSet<(SocketAddr, SocketAddr)>,
    pub(crate) datagrams: u64,
    pub(crate) direct: u64,
    beacon: Beacon,
    beacon_addr: SocketAddr,
    flying: BinaryHeap<Reverse<(Instant, u64)>>,
    cargo: HashMap<u64, Flying>,
    serial: u64,
}

impl World {
    pub(crate) fn new(seed: u64, link: Link) -> Self {
        let start = Instant::now();
        Self {
            now: start,
            start,
            rng: StdRng::seed_from_u64(seed),
            hosts: Vec::new(),
            link,
            mtu: usize::MAX,
            largest: 0,
            endpoint: EndpointConfig::default(),
            messenger: MessengerConfig::default(),
            blocked: HashSet::new(),
            datagrams: 0,
            direct: 0,
            beacon: Beacon::new(&BeaconConfig::default(), [7; 32]),
            beacon_addr: SocketAddr::from(([192, 0, 2, 1], 9_001)),
            flying: BinaryHeap::new(),
            cargo: HashMap::new(),
            serial: 0,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Adds a host and returns its index, which is also how others know it.
    pub(crate) fn add_host(&mut self) -> usize {
        let index = self.hosts.len();
        let last = u8::try_from(index + 1).unwrap();
        let addr = host_addr(last);
        let identity = Arc::new(Identity::generate(&mut self.rng));
        let node = NodeId(u32::from(last) << 20 | 7);
        let host = self.boot(addr, node, identity);
        self.hosts.push(host);
        index
    }

    /// The same host with a new process: state and keys are gone, identity and address stay.
    pub(crate) fn restart(&mut self, index: usize) {
        let Host { addr, node, identity, .. } = &self.hosts[index];
        let host = self.boot(*addr, *node, identity.clone());
        self.hosts[index] = host;
    }

    fn boot(&mut self, addr: SocketAddr, node: NodeId, identity: Arc<Identity>) -> Host {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let local = LocalKeys::new(node, identity.clone());
        let mut endpoint = Endpoint::new(self.endpoint.clone(), local, seed);
        endpoint.set_beacon(Some(self.beacon_addr));
        endpoint.listen(ports::MESSAGE);
        endpoint.discover();
        let mut messenger = Messenger::new(self.messenger.clone(), self.rng.next_u64());
        messenger.set_serving(true);
        let (events, outcomes) = (Vec::new(), HashMap::new());
        Host { addr, node, endpoint, messenger, identity, events, outcomes }
    }

    pub(crate) fn block(&mut self, a: usize, b: usize) {
        let (a, b) = (self.hosts[a].addr, self.hosts[b].addr);
        self.blocked.extend([(a, b), (b, a)]);
    }

    /// What the registry would say of a host.
    pub(crate) fn record(&self, of: usize) -> (NodeId, PeerRecord) {
        let host = &self.hosts[of];
        let record = PeerRecord {
            public_key: host.identity.public_key(),
            endpoint: Some(host.addr),
            is_native: true,
            ..PeerRecord::default()
        };
        (host.node, record)
    }

    /// Makes `at` know `of`.
    pub(crate) fn introduce(&mut self, at: usize, of: usize) {
        let (node, record) = self.record(of);
        let now = self.now;
        self.hosts[at].endpoint.set_peer(now, node, &record);
    }

    /// Does something at a host, and everything that follows from it.
    pub(crate) fn at<T>(&mut self, index: usize, verb: impl FnOnce(&mut Host, Instant) -> T) -> T {
        let now = self.now;
        let result = verb(&mut self.hosts[index], now);
        self.pump(index);
        result
    }

    /// Runs until `done`, for at most `limit` of virtual time; `false` if it did not come to that.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let end = self.now + limit;
        for index in 0..self.hosts.len() {
            self.pump(index);
        }
        loop {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return done(self);
            }
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// The next thing that happens, unless it is after `end`.
    fn step(&mut self, end: Instant) -> bool {
        let timer = (0..self.hosts.len())
            .filter_map(|index| {
                let host = &mut self.hosts[index];
                let deadlines = [host.endpoint.poll_timeout(), host.messenger.poll_timeout()];
                deadlines.into_iter().flatten().min().map(|at| (at, index))
            })
            .min();
        let arrival = self.flying.peek().map(|Reverse((at, _))| *at);
        let next = arrival.into_iter().chain(timer.map(|(at, _)| at)).min();
        let Some(next) = next.filter(|next| *next <= end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            self.deliver();
        } else if let Some((_, index)) = timer {
            let now = self.now;
            let host = &mut self.hosts[index];
            host.endpoint.handle_timeout(now);
            host.messenger.handle_timeout(now, &mut host.endpoint);
            self.pump(index);
        }
        true
    }

    fn deliver(&mut self) {
        let Some(Reverse((_, serial))) = self.flying.pop() else { return };
        let Flying { to, from, mut data } = self.cargo.remove(&serial).unwrap();
        if to == self.beacon_addr {
            let action = self.beacon.handle_datagram(self.now, from, &mut data, &Everybody);
            match action {
                Action::Ignore | Action::Verify(_) => {}
                Action::Send(datagrams) => {
                    for (to, data) in datagrams {
                        self.launch(self.beacon_addr, to, data);
                    }
                }
                Action::Forward { to, start, .. } => {
                    let data = data[start..].to_vec();
                    self.launch(self.beacon_addr, to, data);
                }
            }
        } else if let Some(index) = self.hosts.iter().position(|host| host.addr == to) {
            let now = self.now;
            self.hosts[index].endpoint.handle_datagram(now, from, &mut data);
            self.pump(index);
        }
    }

    /// Drains a host: events to its messenger and its list, datagrams to the links.
    fn pump(&mut self, index: usize) {
        let now = self.now;
        let mut buf = Vec::new();
        loop {
            let mut wanted = Vec::new();
            let host = &mut self.hosts[index];
            while let Some(event) = host.endpoint.poll_event() {
                let Host { endpoint, messenger, .. } = host;
                let is_taken = match &event {
                    EndpointEvent::Stream(id, event) => {
                        messenger.handle_stream(now, endpoint, *id, *event)
                    }
                    EndpointEvent::Incoming(port) => {
                        messenger.handle_incoming(now, endpoint, *port)
                    }
                    EndpointEvent::NeedPeer(node) => {
                        wanted.push(*node);
                        true
                    }
                    _ => false,
                };
                if !is_taken {
                    host.events.push(event);
                }
            }
            while let Some((number, outcome)) = host.messenger.poll_outcome() {
                host.outcomes.insert(number, outcome);
            }
            let has_wishes = !wanted.is_empty();
            for node in wanted {
                if let Some(of) = self.hosts.iter().position(|host| host.node == node) {
                    self.introduce(index, of);
                }
            }
            let Some(transmit) = self.hosts[index].endpoint.poll_transmit(now, &mut buf) else {
                if has_wishes {
                    continue;
                }
                return;
            };
            let from = self.hosts[index].addr;
            for datagram in buf.chunks(transmit.segment_size) {
                self.datagrams += 1;
                self.direct += u64::from(transmit.destination.addr != self.beacon_addr);
                self.launch(from, transmit.destination.addr, datagram.to_vec());
            }
        }
    }

    /// Puts a datagram on its way, or not.
    pub(crate) fn launch(&mut self, from: SocketAddr, to: SocketAddr, mut data: Vec<u8>) {
        let link = self.link;
        self.largest = self.largest.max(data.len());
        if data.len() > self.mtu {
            return;
        }
        if self.blocked.contains(&(from, to)) || self.rng.random_bool(link.loss) {
            return;
        }
        if self.rng.random_bool(link.corrupt) {
            let at = self.rng.random_range(0..data.len());
            data[at] ^= 1 << self.rng.random_range(0..8);
        }
        let copies = if self.rng.random_bool(link.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = link.jitter.mul_f64(self.rng.random::<f64>());
            let serial = self.serial;
            self.serial += 1;
            self.flying.push(Reverse((self.now + link.latency + jitter, serial)));
            self.cargo.insert(serial, Flying { to, from, data: data.clone() });
        }
    }
}
