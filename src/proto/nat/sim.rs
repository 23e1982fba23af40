//! A NAT and two STUN servers behind it, in virtual time, for the tests of what finds out about
//! them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Behavior, PortAllocation, SOCKETS, StunPort, StunResponder};

const ONE_WAY: Duration = Duration::from_millis(15);

/// How the NAT behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct SimNat {
    pub(super) mapping: Behavior,
    pub(super) filtering: Behavior,
    pub(super) ports: PortAllocation,
    pub(super) hairpins: bool,
}

#[derive(Debug)]
struct Mapping {
    inside: usize,
    allowed: HashSet<SocketAddr>,
    used: Instant,
}

/// Sockets inside, the NAT, and the servers.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) sent: usize,
    /// How long a mapping lives without use from inside.
    pub(super) lifetime: Duration,
    nat: SimNat,
    loss: f64,
    rng: StdRng,
    mappings: HashMap<u16, Mapping>,
    by_flow: HashMap<(usize, SocketAddr), u16>,
    next_port: u16,
    servers: [StunResponder; 2],
    /// Datagrams on their way to a socket inside.
    arriving: BTreeMap<(Instant, usize), (usize, Vec<u8>)>,
    serial: usize,
}

impl World {
    pub(super) const FIRST: SocketAddr = SocketAddr::new(server_ip(1), 7470);
    pub(super) const OTHER: SocketAddr = SocketAddr::new(server_ip(2), 7470);
    const SECOND_PORT: u16 = 7471;

    pub(super) fn new(nat: SimNat, loss: f64, seed: u64) -> Self {
        let server = || StunResponder::new(Some((7470, Self::SECOND_PORT)));
        Self {
            now: Instant::now(),
            sent: 0,
            lifetime: Duration::from_secs(3_600),
            nat,
            loss,
            rng: StdRng::seed_from_u64(seed),
            mappings: HashMap::new(),
            by_flow: HashMap::new(),
            next_port: 20_000,
            servers: [server(), server()],
            arriving: BTreeMap::new(),
            serial: 0,
        }
    }

    /// Where the sockets are bound.
    pub(super) fn locals(&self) -> [SocketAddr; SOCKETS] {
        std::array::from_fn(|socket| self.local(socket))
    }

    fn local(&self, socket: usize) -> SocketAddr {
        let port = 40_000 + 7 * u16::try_from(socket).unwrap();
        match self.nat.mapping {
            Behavior::Open => SocketAddr::new(self.outside(), port),
            _ => SocketAddr::from(([192, 168, 1, 5], port)),
        }
    }

    fn outside(&self) -> IpAddr {
        IpAddr::from([203, 0, 113, 7])
    }

    /// When the next datagram arrives.
    pub(super) fn next(&self) -> Option<Instant> {
        self.arriving.keys().next().map(|(at, _)| *at)
    }

    /// What has arrived until `now`.
    pub(super) fn deliver(&mut self, now: Instant) -> Vec<(usize, Vec<u8>)> {
        let later = self.arriving.split_off(&(now + Duration::from_nanos(1), 0));
        std::mem::replace(&mut self.arriving, later).into_values().collect()
    }

    /// Sends from a socket inside.
    pub(super) fn send(&mut self, now: Instant, socket: usize, to: SocketAddr, datagram: Vec<u8>) {
        self.sent += 1;
        if self.rng.random_bool(self.loss) {
            return;
        }
        let port = self.map(now, socket, to);
        let from = SocketAddr::new(self.outside(), port);
        if to.ip() == self.outside() {
            if self.nat.hairpins {
                self.inward(now, from, to, datagram);
            }
            return;
        }
        let server = usize::from(to.ip() == Self::OTHER.ip());
        let port = if to.port() == 7470 { StunPort::First } else { StunPort::Second };
        let reply = self.servers[server].answer(now, port, from, &datagram);
        if let Some(reply) = reply {
            let port = if reply.from == StunPort::First { 7470 } else { Self::SECOND_PORT };
            self.inward(now + ONE_WAY, SocketAddr::new(to.ip(), port), reply.to, reply.datagram);
        }
    }

    /// The outside port of a flow.
    fn map(&mut self, now: Instant, socket: usize, to: SocketAddr) -> u16 {
        let key = match self.nat.mapping {
            Behavior::AddressDependent => SocketAddr::new(to.ip(), 0),
            Behavior::AddressAndPortDependent => to,
            _ => SocketAddr::new([0; 4].into(), 0),
        };
        let lifetime = self.lifetime;
        let known = self.by_flow.get(&(socket, key)).copied();
        let alive = known.filter(|port| now < self.mappings[port].used + lifetime);
        let port = alive.unwrap_or_else(|| match self.nat.ports {
            PortAllocation::Random => self.rng.random_range(1_024..=u16::MAX),
            PortAllocation::Sequential(step) => {
                self.next_port = self.next_port.wrapping_add_signed(step);
                self.next_port
            }
            _ => self.local(socket).port(),
        });
        self.by_flow.insert((socket, key), port);
        let fresh = Mapping { inside: socket, allowed: HashSet::new(), used: now };
        if alive.is_none() {
            self.mappings.insert(port, fresh);
        }
        let mapping = self.mappings.get_mut(&port).unwrap();
        mapping.used = now;
        mapping.allowed.insert(to);
        port
    }

    fn inward(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        if self.rng.random_bool(self.loss) {
            return;
        }
        let Some(mapping) = self.mappings.get(&to.port()) else { return };
        let is_let_in = match self.nat.filtering {
            Behavior::AddressDependent => {
                mapping.allowed.iter().any(|known| known.ip() == from.ip())
            }
            Behavior::AddressAndPortDependent => mapping.allowed.contains(&from),
            _ => true,
        };
        if is_let_in && now < mapping.used + self.lifetime {
            self.serial += 1;
            self.arriving.insert((now + ONE_WAY, self.serial), (mapping.inside, datagram));
        }
    }
}

const fn server_ip(last: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, last))
}
