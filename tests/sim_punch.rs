//! Two endpoints behind simulated NATs, a beacon between them, and virtual time: a symmetric NAT
//! and a port-restricted one are punched through while data flows by the relay.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::crypto::Identity;
use pilot_agent::proto::beacon::{Action, Beacon, BeaconConfig, Roster};
use pilot_agent::proto::endpoint::{Endpoint, EndpointConfig, EndpointEvent, PeerRecord};
use pilot_agent::proto::nat::{Behavior, NatKind};
use pilot_agent::proto::path::{Remote, SocketId, Via};
use pilot_agent::proto::tunnel::LocalKeys;
use pilot_agent::wire::{Addr, NodeId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const BEACON: &str = "192.0.2.1:9001";
const DELAY: Duration = Duration::from_millis(20);
/// From one datagram of the application to the next.
const PACE: Duration = Duration::from_millis(100);

/// What a NAT makes of the destination when it looks for a mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Symmetric,
    PortRestricted,
}

struct Host {
    node: NodeId,
    endpoint: Endpoint,
    key: [u8; 32],
    kind: Kind,
    outside: IpAddr,
    mappings: HashMap<(SocketId, Option<SocketAddr>), u16>,
    /// Ports outside, and to where they are open.
    filter: HashSet<(u16, SocketAddr)>,
    sockets: HashSet<SocketId>,
    most_sockets: usize,
    received: u32,
    relayed: u32,
}

impl Host {
    fn new(number: u8, kind: Kind, rng: &mut StdRng) -> Self {
        let identity = Arc::new(Identity::generate(rng));
        let (node, key) = (NodeId(u32::from(number)), identity.public_key());
        let local = LocalKeys::new(node, identity);
        let mut endpoint = Endpoint::new(EndpointConfig::default(), local, rng.random());
        endpoint.set_beacon(Some(BEACON.parse().unwrap()));
        let mapping = match kind {
            Kind::Symmetric => Behavior::AddressAndPortDependent,
            Kind::PortRestricted => Behavior::EndpointIndependent,
        };
        let filtering = Behavior::AddressAndPortDependent;
        endpoint.set_nat(NatKind { mapping, filtering, ..NatKind::default() });
        endpoint.discover();
        Self {
            node,
            endpoint,
            key,
            kind,
            outside: outside(number),
            mappings: HashMap::new(),
            filter: HashSet::new(),
            sockets: HashSet::from([SocketId::MAIN]),
            most_sockets: 1,
            received: 0,
            relayed: 0,
        }
    }

    fn send_through(&mut self, from: SocketId, to: SocketAddr, rng: &mut StdRng) -> SocketAddr {
        let key = (from, (self.kind == Kind::Symmetric).then_some(to));
        let port = *self.mappings.entry(key).or_insert_with(|| rng.random_range(1_024..=u16::MAX));
        self.filter.insert((port, to));
        SocketAddr::new(self.outside, port)
    }

    fn receive_through(&self, port: u16, from: SocketAddr) -> Option<SocketId> {
        if !self.filter.contains(&(port, from)) {
            return None;
        }
        let is_it = |key: &Option<SocketAddr>| key.is_none_or(|to| to == from);
        let mut mappings = self.mappings.iter();
        let ((socket, _), _) = mappings.find(|((_, key), at)| **at == port && is_it(key))?;
        self.sockets.contains(socket).then_some(*socket)
    }
}

fn outside(number: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, number])
}

struct Everybody;

impl Roster for Everybody {
    fn registered(&self, node: NodeId) -> Option<SocketAddr> {
        Some(SocketAddr::new(outside(u8::try_from(node.0).ok()?), 1))
    }

    fn public_key(&self, _node: NodeId) -> Option<[u8; 32]> {
        None
    }

    fn may_punch(&self, _requester: NodeId, _target: NodeId) -> bool {
        true
    }
}

/// Due time, a number to keep the order, from, to, and what.
type Flying = (Instant, u64, SocketAddr, SocketAddr, Vec<u8>);

struct World {
    now: Instant,
    rng: StdRng,
    hosts: [Host; 2],
    beacon: Beacon,
    flying: BinaryHeap<Reverse<Flying>>,
    opening: Vec<(usize, SocketId, u16)>,
    serial: u64,
}

impl World {
    fn new(seed: u64, kinds: [Kind; 2]) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let hosts = [Host::new(1, kinds[0], &mut rng), Host::new(2, kinds[1], &mut rng)];
        let mut world = Self {
            now: Instant::now(),
            rng,
            hosts,
            beacon: Beacon::new(&BeaconConfig::default(), [7; 32]),
            flying: BinaryHeap::new(),
            opening: Vec::new(),
            serial: 0,
        };
        world.run(DELAY * 4);
        for (at, of) in [(0, 1), (1, 0)] {
            let beacon = BEACON.parse().unwrap();
            let endpoint =
                Some(world.hosts[of].send_through(SocketId::MAIN, beacon, &mut world.rng));
            let (node, public_key) = (world.hosts[of].node, world.hosts[of].key);
            let record =
                PeerRecord { public_key, endpoint, is_native: true, ..PeerRecord::default() };
            world.hosts[at].endpoint.set_peer(world.now, node, &record);
        }
        world
    }

    /// Both send a datagram now and then, until `done` or for so long; how long it took.
    fn talk(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while self.now < start + limit {
            for (at, of) in [(0, 1), (1, 0)] {
                let to = Addr::global(self.hosts[of].node);
                self.hosts[at].endpoint.send_datagram(self.now, to, 1, 1, b"hello");
            }
            self.run(PACE);
            if done(self) {
                return Some(self.now - start);
            }
        }
        None
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            (0..2).for_each(|index| self.pump(index));
            for (index, first, count) in std::mem::take(&mut self.opening) {
                let ports: Vec<u16> = (0..count).map(|_| self.rng.random()).collect();
                let host = &mut self.hosts[index];
                host.sockets.extend((first.0..first.0 + count).map(SocketId));
                host.most_sockets = host.most_sockets.max(host.sockets.len());
                host.endpoint.handle_sockets(self.now, first, &ports);
                self.pump(index);
            }
            let arrival = self.flying.peek().map(|Reverse((at, ..))| *at);
            let timers = self.hosts.iter_mut().filter_map(|host| host.endpoint.poll_timeout());
            let Some(next) = timers.chain(arrival).min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                self.deliver();
            }
            let now = self.now;
            self.hosts.iter_mut().for_each(|host| host.endpoint.handle_timeout(now));
        }
    }

    fn deliver(&mut self) {
        let Some(Reverse((now, _, from, to, mut data))) = self.flying.pop() else { return };
        let beacon: SocketAddr = BEACON.parse().unwrap();
        if to == beacon {
            match self.beacon.handle_datagram(now, from, &mut data, &Everybody) {
                Action::Ignore | Action::Verify(_) => {}
                Action::Send(all) => all.into_iter().for_each(|(to, data)| {
                    self.launch(beacon, to, data);
                }),
                Action::Forward { to, start, .. } => {
                    let data = data[start..].to_vec();
                    self.launch(beacon, to, data);
                }
            }
            return;
        }
        let host = self.hosts.iter_mut().find(|host| host.outside == to.ip());
        let Some(host) = host else { return };
        if let Some(socket) = host.receive_through(to.port(), from) {
            host.relayed += u32::from(from == beacon);
            host.endpoint.handle_datagram(now, Remote { socket, addr: from }, &mut data);
        }
    }

    fn pump(&mut self, index: usize) {
        let mut buf = Vec::new();
        loop {
            let host = &mut self.hosts[index];
            while let Some(event) = host.endpoint.poll_event() {
                match event {
                    EndpointEvent::Datagram { .. } => host.received += 1,
                    EndpointEvent::OpenSockets { first, count } => {
                        self.opening.push((index, first, count));
                    }
                    EndpointEvent::CloseSockets { first, count } => {
                        host.sockets.retain(|id| !(first.0..first.0 + count).contains(&id.0));
                    }
                    _ => {}
                }
            }
            let Some(transmit) = host.endpoint.poll_transmit(self.now, &mut buf) else { return };
            let Remote { socket, addr } = transmit.destination;
            if !host.sockets.contains(&socket) {
                continue;
            }
            let from = host.send_through(socket, addr, &mut self.rng);
            for datagram in buf.chunks(transmit.segment_size) {
                self.launch(from, addr, datagram.to_vec());
            }
        }
    }

    fn launch(&mut self, from: SocketAddr, to: SocketAddr, data: Vec<u8>) {
        self.serial += 1;
        self.flying.push(Reverse((self.now + DELAY, self.serial, from, to, data)));
    }

    fn route(&self, at: usize) -> Option<Via> {
        self.hosts[at].endpoint.route(self.hosts[1 - at].node)
    }

    fn is_direct(&self) -> bool {
        (0..2).all(|at| matches!(self.route(at), Some(Via::Direct(_))))
    }
}

#[test]
fn a_symmetric_nat_is_punched_through_while_data_flows() {
    let (mut reached, mut times) = (0, Vec::new());
    for seed in 0..40 {
        let kinds = match seed % 2 {
            0 => [Kind::Symmetric, Kind::PortRestricted],
            _ => [Kind::PortRestricted, Kind::Symmetric],
        };
        let mut world = World::new(seed, kinds);
        world.talk(Duration::from_secs(1), |_| false);
        assert!(world.hosts.iter().all(|host| host.received >= 7), "seed {seed}: by the relay");
        let Some(time) = world.talk(Duration::from_secs(30), World::is_direct) else {
            println!("seed {seed}: not reached");
            continue;
        };
        (reached, times) = (reached + 1, [times, vec![time]].concat());
        let hard = usize::from(kinds[1] == Kind::Symmetric);
        let (opener, prober) = (&world.hosts[hard], &world.hosts[1 - hard]);
        assert!((200..=257).contains(&opener.most_sockets), "seed {seed}");
        assert_eq!(prober.most_sockets, 1, "seed {seed}");

        // It stays so, and the relay is not used any more, nor are the other sockets.
        world.talk(Duration::from_secs(60), |_| false);
        assert!(world.is_direct(), "seed {seed}: {:?} {:?}", world.route(0), world.route(1));
        assert!(world.hosts[hard].sockets.len() <= 2, "seed {seed}");
        world.hosts.iter_mut().for_each(|host| (host.relayed, host.received) = (0, 0));
        world.talk(Duration::from_secs(10), |_| false);
        for host in &world.hosts {
            assert!(host.received > 90 && host.relayed < 10, "seed {seed}: {}", host.relayed);
        }
    }
    times.sort_unstable();
    println!("{reached} of 40, median {:?}, last {:?}", times.get(times.len() / 2), times.last());
    assert!(reached >= 38, "99.97 % are expected");
}

#[test]
fn the_socket_of_a_path_that_died_is_given_back() {
    for seed in 0..5 {
        let mut world = World::new(seed, [Kind::Symmetric, Kind::PortRestricted]);
        let limit = Duration::from_secs(30);
        assert!(world.talk(limit, World::is_direct).is_some(), "seed {seed}");
        // The router of the other side restarts: what it has let through is forgotten, and it
        // gives other ports.
        world.hosts[1].filter.clear();
        world.hosts[1].mappings.clear();
        world.hosts[1].endpoint.discover();
        world.hosts.iter_mut().for_each(|host| host.received = 0);
        world.talk(Duration::from_secs(20), |_| false);
        assert!(world.hosts.iter().all(|host| host.received > 100), "seed {seed}: it goes on");
        world.talk(Duration::from_secs(300), |_| false);
        assert!(world.hosts[0].sockets.len() <= 2, "seed {seed}");
        assert!(world.is_direct(), "seed {seed}: tried again");
    }
}

#[test]
fn two_symmetric_nats_stay_on_the_relay_and_open_nothing() {
    let mut world = World::new(1, [Kind::Symmetric, Kind::Symmetric]);
    world.talk(Duration::from_secs(60), |_| false);
    assert!((0..2).all(|at| world.route(at) == Some(Via::Relay)));
    for host in &world.hosts {
        assert_eq!(host.most_sockets, 1);
        assert!(host.received > 500);
    }
}
