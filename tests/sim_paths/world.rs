//! Hosts behind NAT boxes, a beacon, and a clock that jumps. All that happens follows from a seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::crypto::Identity;
use pilot_agent::proto::beacon::{Action, Beacon, BeaconConfig, Roster};
use pilot_agent::proto::endpoint::{Endpoint, EndpointConfig, EndpointEvent, PeerRecord, StreamId};
use pilot_agent::proto::path::{Candidate, CandidateKind, Via};
use pilot_agent::proto::tunnel::LocalKeys;
use pilot_agent::wire::{Addr, NodeId};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::nat::{Kind, Nat};

pub(crate) const PORT: u16 = 9;
/// How often a node tells the beacon where it is.
const DISCOVER: Duration = Duration::from_secs(15);

/// Where datagrams go without a NAT: the internet, or what is inside one.
type Network = Option<usize>;

pub(crate) struct Host {
    pub(crate) endpoint: Endpoint,
    pub(crate) addr: SocketAddr,
    pub(crate) network: Network,
    pub(crate) node: NodeId,
    key: [u8; 32],
    observed: Option<SocketAddr>,
    discover_at: Instant,
    pub(crate) changes: Vec<(Duration, Via)>,
    pub(crate) failed: Vec<StreamId>,
    /// Nothing leaves or reaches it.
    pub(crate) is_cut: bool,
    /// Datagrams for peers, relayed or not.
    pub(crate) sent: u64,
}

struct Flying {
    network: Network,
    from: SocketAddr,
    to: SocketAddr,
    data: Vec<u8>,
}

/// What the registry knows: where each node is, and its key.
#[derive(Default)]
struct Registry(HashMap<NodeId, SocketAddr>, HashMap<NodeId, [u8; 32]>);

impl Roster for Registry {
    fn registered(&self, node: NodeId) -> Option<SocketAddr> {
        self.0.get(&node).copied()
    }

    fn public_key(&self, node: NodeId) -> Option<[u8; 32]> {
        self.1.get(&node).copied()
    }

    fn may_punch(&self, _requester: NodeId, _target: NodeId) -> bool {
        true
    }
}

pub(crate) struct World {
    pub(crate) now: Instant,
    start: Instant,
    pub(crate) rng: StdRng,
    pub(crate) hosts: Vec<Host>,
    pub(crate) nats: Vec<(Network, Nat)>,
    pub(crate) latency: Duration,
    /// Share of datagrams lost that go neither to the beacon nor come from it.
    pub(crate) loss: f64,
    pub(crate) beacon_is_down: bool,
    /// Pairs of outside addresses' IPs, in one direction.
    pub(crate) blocked: HashSet<(IpAddr, IpAddr)>,
    /// Bytes that went to, and came from, addresses where nobody is.
    pub(crate) nowhere: HashMap<SocketAddr, (usize, usize)>,
    beacon: Beacon,
    pub(crate) beacon_addr: SocketAddr,
    registry: Registry,
    flying: BinaryHeap<Reverse<(Instant, u64)>>,
    cargo: HashMap<u64, Flying>,
    serial: u64,
    /// The last datagram that host 0 sent directly: for forgers.
    pub(crate) overheard: Option<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            rng: StdRng::seed_from_u64(seed),
            hosts: Vec::new(),
            nats: Vec::new(),
            latency: Duration::from_millis(10),
            loss: 0.0,
            beacon_is_down: false,
            blocked: HashSet::new(),
            nowhere: HashMap::new(),
            beacon: Beacon::new(&BeaconConfig::default(), [7; 32]),
            beacon_addr: SocketAddr::from(([192, 0, 2, 1], 9_001)),
            registry: Registry::default(),
            flying: BinaryHeap::new(),
            cargo: HashMap::new(),
            serial: 0,
            overheard: None,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// A NAT, on the internet or inside another one.
    pub(crate) fn add_nat(&mut self, kind: Kind, parent: Network) -> usize {
        let index = self.nats.len();
        let ip = match parent {
            None => IpAddr::from([203, 0, 113, 1 + index as u8]),
            Some(_) => IpAddr::from([100, 64, 0, 1 + index as u8]),
        };
        self.nats.push((parent, Nat::new(kind, ip)));
        index
    }

    pub(crate) fn add_host(&mut self, network: Network) -> usize {
        let index = self.hosts.len();
        let ip: IpAddr = match network {
            None => [198, 51, 100, 1 + index as u8].into(),
            Some(nat) => [10, 0, nat as u8, 10 + index as u8].into(),
        };
        let (addr, node) = (SocketAddr::new(ip, 4_000), NodeId(1 + index as u32));
        let identity = Arc::new(Identity::generate(&mut self.rng));
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let key = identity.public_key();
        self.registry.1.insert(node, key);
        let local = LocalKeys::new(node, identity);
        let mut endpoint = Endpoint::new(EndpointConfig::default(), local, seed);
        endpoint.set_beacon(Some(self.beacon_addr));
        endpoint.listen(PORT);
        self.hosts.push(Host {
            endpoint,
            addr,
            network,
            node,
            key,
            observed: None,
            discover_at: self.now,
            changes: Vec::new(),
            failed: Vec::new(),
            is_cut: false,
            sent: 0,
        });
        let outside = self.outside(index);
        self.registry.0.insert(node, outside);
        self.discover(index);
        index
    }

    /// How the registry sees a host's TCP connection: the IP of its outermost NAT.
    fn outside(&self, index: usize) -> SocketAddr {
        let host = &self.hosts[index];
        let (mut network, mut ip) = (host.network, host.addr.ip());
        while let Some(nat) = network {
            (network, ip) = (self.nats[nat].0, self.nats[nat].1.ip);
        }
        SocketAddr::new(ip, host.observed.map_or(0, |observed| observed.port()))
    }

    /// The address that the internet sees.
    pub(crate) fn outside_ip(&self, index: usize) -> IpAddr {
        self.outside(index).ip()
    }

    fn discover(&mut self, index: usize) {
        self.hosts[index].discover_at = self.now + DISCOVER;
        self.hosts[index].endpoint.discover();
        self.pump(index);
    }

    /// Another address inside, as from another DHCP server; `is_noticed` by the machine.
    pub(crate) fn renumber(&mut self, index: usize, is_noticed: bool) {
        let host = &mut self.hosts[index];
        let IpAddr::V4(ip) = host.addr.ip() else { return };
        let [a, b, c, d] = ip.octets();
        host.addr = SocketAddr::from(([a, b, c, d.wrapping_add(50)], 4_000));
        let outside = self.outside(index);
        self.registry.0.insert(self.hosts[index].node, outside);
        if is_noticed {
            let now = self.now;
            self.hosts[index].endpoint.handle_network_change(now);
        } else {
            self.hosts[index].endpoint.discover();
        }
        self.pump(index);
    }

    /// What the registry would say of a host.
    pub(crate) fn record(&self, of: usize) -> (NodeId, PeerRecord) {
        let host = &self.hosts[of];
        let endpoint = self.registry.0.get(&host.node).copied().filter(|addr| addr.port() != 0);
        let record =
            PeerRecord { public_key: host.key, endpoint, is_native: true, ..PeerRecord::default() };
        (host.node, record)
    }

    pub(crate) fn introduce(&mut self, at: usize, of: usize) {
        let (node, record) = self.record(of);
        let now = self.now;
        self.hosts[at].endpoint.set_peer(now, node, &record);
        self.pump(at);
    }

    pub(crate) fn connect(&mut self, from: usize, to: usize) -> StreamId {
        self.introduce(from, to);
        let (now, to) = (self.now, Addr::global(self.hosts[to].node));
        let id = self.hosts[from].endpoint.connect(now, to, PORT, true).unwrap();
        self.pump(from);
        id
    }

    /// Does something at a host, and everything that follows from it.
    pub(crate) fn at<T>(
        &mut self,
        index: usize,
        verb: impl FnOnce(&mut Endpoint, Instant) -> T,
    ) -> T {
        let now = self.now;
        let result = verb(&mut self.hosts[index].endpoint, now);
        self.pump(index);
        result
    }

    pub(crate) fn route(&self, from: usize, to: usize) -> Option<Via> {
        self.hosts[from].endpoint.route(self.hosts[to].node)
    }

    pub(crate) fn is_direct(&self, from: usize, to: usize) -> bool {
        matches!(self.route(from, to), Some(Via::Direct(_)))
    }

    /// What both ends know, for messages of failed tests.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("at {:?}", self.elapsed());
        for (index, host) in self.hosts.iter().enumerate() {
            text += &format!("\nhost {index}: {:?}", host.changes);
            for other in self.hosts.iter().filter(|other| other.node != host.node) {
                for report in host.endpoint.path_report(other.node) {
                    let heard = report.last_received.map(|at| self.now - at);
                    text += &format!(
                        "\n  {:?} {:?} active {} rtt {:?} loss {:?} heard {heard:?} ago",
                        report.via, report.state, report.is_active, report.rtt, report.loss
                    );
                }
            }
        }
        text
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Runs until `done`, for at most `limit`; `false` if it did not come to that.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let end = self.now + limit;
        while !done(self) {
            if !self.step(end) {
                return done(self);
            }
        }
        true
    }

    fn step(&mut self, end: Instant) -> bool {
        let timer = (0..self.hosts.len())
            .map(|index| {
                let host = &mut self.hosts[index];
                let due = host.endpoint.poll_timeout();
                (due.map_or(host.discover_at, |at| at.min(host.discover_at)), index)
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
            if self.hosts[index].discover_at <= self.now {
                self.discover(index);
            }
            let now = self.now;
            self.hosts[index].endpoint.handle_timeout(now);
            self.pump(index);
        }
        true
    }

    /// Drains a host.
    fn pump(&mut self, index: usize) {
        let (now, mut buf) = (self.now, Vec::new());
        loop {
            while let Some(event) = self.hosts[index].endpoint.poll_event() {
                self.on_event(index, &event);
            }
            let host = &mut self.hosts[index];
            let Some(transmit) = host.endpoint.poll_transmit(now, &mut buf) else { return };
            let (network, from, to) = (host.network, host.addr, transmit.destination.addr);
            for datagram in buf.chunks(transmit.segment_size) {
                let is_for_peer = to != self.beacon_addr || datagram[0] == 0x05;
                self.hosts[index].sent += u64::from(is_for_peer);
                if index == 0 && to != self.beacon_addr && datagram.starts_with(b"PILS") {
                    self.overheard = Some((from, to, datagram.to_vec()));
                }
                if !self.hosts[index].is_cut {
                    self.launch(network, from, to, datagram.to_vec());
                }
            }
        }
    }

    fn on_event(&mut self, index: usize, event: &EndpointEvent) {
        let elapsed = self.elapsed();
        let host = &mut self.hosts[index];
        match event {
            EndpointEvent::Observed(addr) if host.observed != Some(*addr) => {
                host.observed = Some(*addr);
                let own = Candidate { addr: host.addr, kind: CandidateKind::Host };
                let seen = Candidate { addr: *addr, kind: CandidateKind::Observed };
                host.endpoint.set_candidates(self.now, vec![own, seen]);
                self.registry.0.insert(host.node, *addr);
                // The beacon believes a move once the registry knows of it.
                host.endpoint.discover();
            }
            EndpointEvent::NeedPeer(node) => {
                let of = self.hosts.iter().position(|host| host.node == *node).unwrap();
                let (node, record) = self.record(of);
                let now = self.now;
                self.hosts[index].endpoint.set_peer(now, node, &record);
            }
            EndpointEvent::PathChanged { to, .. } => host.changes.push((elapsed, *to)),
            EndpointEvent::Stream(id, pilot_agent::proto::stream::StreamEvent::Closed(Some(_))) => {
                host.failed.push(*id)
            }
            _ => {}
        }
    }

    /// Puts a datagram on its way.
    pub(crate) fn launch(
        &mut self,
        network: Network,
        from: SocketAddr,
        to: SocketAddr,
        data: Vec<u8>,
    ) {
        let (mut network, mut source) = (network, from);
        // Out through NATs, as far as it must.
        while !self.is_in(network, to) {
            let Some(index) = network else {
                self.nowhere.entry(to).or_default().0 += data.len();
                return;
            };
            let (parent, nat) = &mut self.nats[index];
            let parent = *parent;
            source = nat.outbound(self.now, source, to);
            if to.ip() == nat.ip && !nat.kind.hairpins {
                return;
            }
            network = parent;
        }
        let is_beacon = to == self.beacon_addr || from == self.beacon_addr;
        if is_beacon && self.beacon_is_down
            || self.blocked.contains(&(source.ip(), to.ip()))
            || !is_beacon && self.loss > 0.0 && self.rng.random_bool(self.loss)
        {
            return;
        }
        let serial = self.serial;
        self.serial += 1;
        // Half of the way is outside, whoever it is.
        let latency = if network.is_none() { self.latency } else { self.latency / 10 };
        self.flying.push(Reverse((self.now + latency, serial)));
        self.cargo.insert(serial, Flying { network, from: source, to, data });
    }

    /// Whether an address is there, without going out.
    fn is_in(&self, network: Network, to: SocketAddr) -> bool {
        let is_nat = |(parent, nat): &(Network, Nat)| *parent == network && nat.ip == to.ip();
        self.hosts.iter().any(|host| host.network == network && host.addr == to)
            || self.nats.iter().any(is_nat)
            || network.is_none() && to == self.beacon_addr
    }

    fn deliver(&mut self) {
        let Some(Reverse((_, serial))) = self.flying.pop() else { return };
        let Flying { mut network, from, mut to, mut data } = self.cargo.remove(&serial).unwrap();
        if to == self.beacon_addr {
            return self.at_beacon(from, &mut data);
        }
        // In through NATs.
        while let Some(index) =
            self.nats.iter().position(|(parent, nat)| *parent == network && nat.ip == to.ip())
        {
            let Some(inside) = self.nats[index].1.inbound(self.now, from, to.port()) else {
                return;
            };
            (network, to) = (Some(index), inside);
        }
        let found = self.hosts.iter().position(|host| host.network == network && host.addr == to);
        if let Some(index) = found.filter(|index| !self.hosts[*index].is_cut) {
            let now = self.now;
            self.hosts[index].endpoint.handle_datagram(now, from, &mut data);
            self.pump(index);
        }
    }

    fn at_beacon(&mut self, from: SocketAddr, data: &mut [u8]) {
        let mut action = self.beacon.handle_datagram(self.now, from, data, &self.registry);
        if let Action::Verify(claim) = &action {
            assert!(claim.is_signed(), "only nodes make claims here");
            action = self.beacon.proved(self.now, claim, &self.registry);
        }
        match action {
            Action::Ignore | Action::Verify(_) => {}
            Action::Send(datagrams) => {
                for (to, data) in datagrams {
                    self.launch(None, self.beacon_addr, to, data);
                }
            }
            Action::Forward { to, start, .. } => {
                let data = data[start..].to_vec();
                self.launch(None, self.beacon_addr, to, data);
            }
        }
        while let Some((to, data)) = self.beacon.poll_transmit() {
            self.launch(None, self.beacon_addr, to, data);
        }
    }
}
