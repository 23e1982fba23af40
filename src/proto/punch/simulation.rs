//! Two nodes behind simulated NATs, a beacon, and virtual time: everything follows from a seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

pub(super) const OPENER: NodeId = NodeId(1);
pub(super) const PROBER: NodeId = NodeId(2);

/// Frames that the opener sends by a path that was found, to prove it: what `path` does.
const PROOFS: u32 = 3;
const PROOF_PAUSE: Duration = Duration::from_millis(200);

/// How the symmetric NAT chooses a port for a new destination.
#[derive(Clone, Copy, Debug)]
pub(super) enum Allocator {
    Random,
    /// The next one, and this share of new mappings is of other hosts.
    Counting {
        step: u16,
        foreign: f64,
    },
    /// Ours.
    Preserving,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    pub(super) allocator: Allocator,
    /// Of what crosses the network, the relay included.
    pub(super) loss: f64,
    /// From one node to the other, or to the beacon.
    pub(super) delay: Duration,
    /// Sockets that the opener's machine can spare.
    pub(super) sockets: u16,
    /// How long the symmetric NAT keeps a mapping by which nothing came in.
    pub(super) lifetime: Duration,
    /// Who asks first.
    pub(super) asker: NodeId,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            allocator: Allocator::Random,
            loss: 0.0,
            delay: Duration::from_millis(20),
            sockets: SOCKETS,
            lifetime: Duration::from_secs(30),
            asker: PROBER,
        }
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// When each side had a frame of the other.
    pub(super) opener_heard: Option<Duration>,
    pub(super) prober_heard: Option<Duration>,
    pub(super) probes: usize,
    pub(super) openers: usize,
    pub(super) most_open: usize,
    pub(super) left_open: usize,
    /// Until neither side had anything to do.
    pub(super) lasted: Duration,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    /// At the symmetric NAT, for this port outside.
    AtOpenersNat {
        port: u16,
    },
    /// At the other NAT, from this port.
    AtProbersNat {
        port: u16,
        is_sealed: bool,
    },
    /// The opener proves the path that was found.
    Proof {
        socket: SocketId,
    },
    Told {
        to: NodeId,
        bytes: Vec<u8>,
    },
    Opened {
        first: SocketId,
        count: u16,
    },
    Observed {
        socket: SocketId,
        port: u16,
    },
}

pub(super) struct Simulation {
    conditions: Conditions,
    rng: StdRng,
    start: Instant,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, usize, Event)>>,
    count: usize,
    nodes: [Puncher; 2],
    own: [OwnPlace; 2],
    /// Of the symmetric NAT: by our socket and whether it is for the beacon.
    mappings: HashMap<(SocketId, bool), (u16, Instant)>,
    last_port: u16,
    local_ports: HashMap<SocketId, u16>,
    open: HashSet<SocketId>,
    /// Of the other NAT: ports of the opener's address that the prober has sent to.
    probed: HashSet<u16>,
    pub(super) outcome: Outcome,
}

impl Simulation {
    pub(super) fn new(seed: u64, conditions: Conditions) -> Self {
        let start = Instant::now();
        let place = |mapping, outside: &str| OwnPlace {
            nat: NatKind { mapping, ..NatKind::default() },
            outside: Some(outside.parse().unwrap()),
        };
        Self {
            conditions,
            rng: StdRng::seed_from_u64(seed),
            start,
            now: start,
            events: BinaryHeap::new(),
            count: 0,
            nodes: [Puncher::default(), Puncher::default()],
            own: [
                place(Behavior::AddressAndPortDependent, "198.51.100.1:5000"),
                place(Behavior::EndpointIndependent, "203.0.113.1:6000"),
            ],
            mappings: HashMap::new(),
            last_port: 20_000,
            local_ports: HashMap::new(),
            open: HashSet::new(),
            probed: HashSet::new(),
            outcome: Outcome::default(),
        }
    }

    /// One attempt, to its end.
    pub(super) fn run(mut self) -> Outcome {
        let (asker, at) = match self.conditions.asker {
            OPENER => (0, PROBER),
            _ => (1, OPENER),
        };
        self.nodes[asker].wish(self.now, at, self.own[asker], &mut self.rng);
        loop {
            self.carry_out();
            let due = self.events.peek().map(|Reverse((at, ..))| *at);
            let timeouts = self.nodes.iter().filter_map(Puncher::poll_timeout);
            let Some(next) = timeouts.chain(due).min() else { break };
            self.now = self.now.max(next);
            if due == Some(next)
                && let Some(Reverse((_, _, event))) = self.events.pop()
            {
                self.on_event(event);
            }
            self.nodes.iter_mut().for_each(|node| node.handle_timeout(self.now));
        }
        self.outcome.left_open = self.open.len();
        self.outcome.lasted = self.now - self.start;
        self.outcome
    }

    fn carry_out(&mut self) {
        for (index, node) in [(0, OPENER), (1, PROBER)] {
            while let Some((peer, action)) = self.nodes[index].poll_action() {
                assert_ne!(peer, node);
                self.carry_out_one(peer, action);
            }
        }
    }

    fn carry_out_one(&mut self, peer: NodeId, action: PunchAction) {
        let delay = self.conditions.delay;
        match action {
            PunchAction::OpenSockets(first, wanted) => {
                let count = wanted.min(self.conditions.sockets);
                for id in (first.0..first.0 + count).map(SocketId) {
                    self.open.insert(id);
                    let port = self.rng.random_range(32_768..61_000);
                    self.local_ports.insert(id, port);
                }
                self.outcome.most_open = self.outcome.most_open.max(self.open.len());
                self.later(Duration::from_millis(5), Event::Opened { first, count });
            }
            PunchAction::CloseSockets(first, count) => {
                self.open.retain(|id| !(first.0..first.0 + count).contains(&id.0));
            }
            PunchAction::Discover(socket) => {
                let port = self.map(socket, true);
                if !self.is_lost() && !self.is_lost() {
                    self.later(2 * delay, Event::Observed { socket, port });
                }
            }
            PunchAction::Open(from) => {
                self.outcome.openers += 1;
                self.send_from_opener(from.socket, false);
            }
            PunchAction::Probe(to) => {
                self.outcome.probes += 1;
                self.probed.insert(to.addr.port());
                if !self.is_lost() {
                    self.later(delay, Event::AtOpenersNat { port: to.addr.port() });
                }
            }
            PunchAction::Tell(message) => {
                let mut bytes = Vec::new();
                message.encode(&mut bytes);
                if !self.is_lost() && !self.is_lost() {
                    self.later(2 * delay, Event::Told { to: peer, bytes });
                }
            }
            PunchAction::Keep(_) | PunchAction::Ended(_) => {}
        }
    }

    fn on_event(&mut self, event: Event) {
        let (now, passed) = (self.now, self.now - self.start);
        match event {
            Event::Opened { first, count } => {
                let ports: Vec<u16> =
                    (first.0..first.0 + count).map(|id| self.local_ports[&SocketId(id)]).collect();
                self.nodes[0].on_sockets(now, first, &ports);
            }
            Event::Observed { socket, port } => {
                let outside = SocketAddr::new(self.own[0].outside.unwrap().ip(), port);
                self.nodes[0].on_observed(now, socket, outside);
            }
            Event::Told { to, bytes } => {
                let (index, from) = if to == OPENER { (0, PROBER) } else { (1, OPENER) };
                let message = PunchMessage::parse(&bytes).unwrap();
                self.nodes[index].on_message(now, from, message, self.own[index], &mut self.rng);
            }
            Event::AtOpenersNat { port } => {
                let lifetime = self.conditions.lifetime;
                let mut open = self.mappings.iter().filter(|((_, is_beacon), (at, since))| {
                    !is_beacon && *at == port && now < *since + lifetime
                });
                let Some(socket) = open.next().map(|((socket, _), _)| *socket) else { return };
                if self.open.contains(&socket) {
                    self.outcome.opener_heard.get_or_insert(passed);
                    let addr = self.own[1].outside.unwrap();
                    self.nodes[0].on_frame(now, PROBER, Remote { socket, addr });
                    for again in 0..PROOFS {
                        self.later(PROOF_PAUSE * again, Event::Proof { socket });
                    }
                }
            }
            Event::Proof { socket } => self.send_from_opener(socket, true),
            Event::AtProbersNat { port, is_sealed } => {
                if !self.probed.contains(&port) {
                    return;
                }
                let from = SocketAddr::new(self.own[0].outside.unwrap().ip(), port).into();
                if is_sealed {
                    self.outcome.prober_heard.get_or_insert(passed);
                    self.nodes[1].on_frame(now, OPENER, from);
                } else {
                    self.nodes[1].on_opener(from);
                }
            }
        }
    }

    fn send_from_opener(&mut self, socket: SocketId, is_sealed: bool) {
        let port = self.map(socket, false);
        if !self.is_lost() {
            self.later(self.conditions.delay, Event::AtProbersNat { port, is_sealed });
        }
    }

    /// What the symmetric NAT makes of a frame.
    fn map(&mut self, socket: SocketId, is_beacon: bool) -> u16 {
        let (now, lifetime) = (self.now, self.conditions.lifetime);
        if let Some((port, since)) = self.mappings.get_mut(&(socket, is_beacon))
            && now < *since + lifetime
        {
            *since = now;
            return *port;
        }
        let port = match self.conditions.allocator {
            Allocator::Random => self.rng.random_range(1_024..=u16::MAX),
            Allocator::Preserving => self.local_ports[&socket],
            Allocator::Counting { step, foreign } => {
                while self.rng.random_bool(foreign) {
                    self.last_port += step;
                }
                self.last_port += step;
                self.last_port
            }
        };
        self.mappings.insert((socket, is_beacon), (port, now));
        port
    }

    fn is_lost(&mut self) -> bool {
        let loss = self.conditions.loss;
        self.rng.random_bool(loss)
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse((self.now + after, self.count, event)));
    }
}
