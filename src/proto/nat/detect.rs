//! Finding out what kind of NAT a node is behind (RFC 5780), without the node's own socket: what a
//! NAT does to one socket it does to another, and the tests must not disturb paths in use.
//!
//! Four sockets ask the server's two ports, and, if there is one, a second server:
//!
//! ```text
//! socket 0: first port                   its mapping is what the others aim at
//! socket 1: first, second, other server  do all show the same port?            mapping
//! socket 2: first                        with 0, 1: how are ports chosen?      ports
//!           0 and 2 to each other        does it arrive?                       hairpinning
//!           "answer from the second port to socket 0"                          filtering by port
//! socket 3: other server, "answer to socket 0"                                 filtering by address
//! ```
//! Socket 0 has never sent anything to the second port or the other server, so what comes from
//! there was let in. Two datagrams on their way to one filter can not be told from each other but
//! by their transactions, which is what tells everything here.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

use super::{Behavior, NatKind, PortAllocation};
use crate::wire::stun::{BindingRequest, StunMessage, Transaction};

/// Sockets that the tests need.
pub const SOCKETS: usize = 4;
/// A question is asked again after this long...
const RETRY: Duration = Duration::from_millis(400);
/// ... and given up after so many times.
const ATTEMPTS: u32 = 3;
/// A sequence of ports has no larger steps.
const MAX_STEP: i32 = 64;

/// Whom to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StunServers {
    /// The first port of a server; it tells the second one.
    pub first: SocketAddr,
    /// Another server at another address.
    pub other: Option<SocketAddr>,
}

/// A datagram to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// From which of the sockets.
    pub socket: usize,
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub datagram: Vec<u8>,
}

/// What a question is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// The mapping of a socket toward the first port.
    Mapping(usize),
    /// That of socket 1 toward the second port.
    SecondPort,
    /// That of socket 1 toward the other server.
    OtherServer,
    /// Does what comes from the second port reach socket 0?
    FilterPort,
    /// Does what comes from the other server reach socket 0?
    FilterAddress,
    /// Does what sockets 0 and 2 send to each other's mapping arrive? Each opens the filter for
    /// the other.
    Hairpin(usize),
}

#[derive(Debug)]
struct Question {
    purpose: Purpose,
    socket: usize,
    to: SocketAddr,
    request: BindingRequest,
    sent: u32,
    due: Instant,
    /// The mapping that was told.
    answer: Option<SocketAddr>,
}

impl Question {
    fn is_open(&self) -> bool {
        self.answer.is_none() && self.sent < ATTEMPTS
    }

    /// Answered, or given up after the last attempt had its time.
    fn is_over(&self, now: Instant) -> bool {
        self.answer.is_some() || self.sent >= ATTEMPTS && now >= self.due
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct NatDetector {
    servers: StunServers,
    second: Option<SocketAddr>,
    /// Local addresses of the sockets.
    local: [SocketAddr; SOCKETS],
    questions: Vec<Question>,
    has_second_round: bool,
}

impl NatDetector {
    /// Begins. `local` are the addresses that the sockets are bound to, as others in the same
    /// network see them.
    #[must_use]
    pub fn new(
        now: Instant,
        servers: StunServers,
        local: [SocketAddr; SOCKETS],
        rng: &mut impl Rng,
    ) -> Self {
        let mut detector =
            Self { servers, second: None, local, questions: Vec::new(), has_second_round: false };
        for socket in 0..3 {
            let request = request(rng);
            detector.ask(now, Purpose::Mapping(socket), socket, servers.first, request);
        }
        detector
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Probe> {
        let question = self.questions.iter_mut().find(|q| q.is_open() && q.due <= now)?;
        question.sent += 1;
        question.due = now + RETRY;
        let Question { socket, to, .. } = *question;
        Some(Probe { socket, to, datagram: question.request.encode() })
    }

    /// When to look again; `None` when nothing is open any more.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.questions.iter().filter(|q| !q.is_over(now)).map(|q| q.due).min()
    }

    /// Takes a datagram that came to a socket.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        socket: usize,
        datagram: &[u8],
        rng: &mut impl Rng,
    ) {
        match StunMessage::parse(datagram) {
            Ok(StunMessage::Success(success)) => {
                let first = self.servers.first;
                let Some(question) = self.open(success.transaction) else { return };
                if answers_at(question.purpose) != socket {
                    return;
                }
                question.answer = Some(success.mapped);
                if let (Purpose::Mapping(_), Some(other)) = (question.purpose, success.other) {
                    let same_ip = other.ip().is_unspecified() || other.ip() == first.ip();
                    if same_ip && other.port() != first.port() {
                        self.second = Some(SocketAddr::new(first.ip(), other.port()));
                    }
                }
            }
            // What we sent to ourselves, by way of the NAT.
            Ok(StunMessage::Request(request)) => {
                if let Some(question) = self.open(request.transaction)
                    && question.purpose == Purpose::Hairpin(2 - socket.min(2))
                {
                    question.answer = Some(question.to);
                }
            }
            _ => {}
        }
        self.second_round(now, rng);
    }

    /// What was found out. Final once [`poll_timeout`](Self::poll_timeout) says `None`.
    #[must_use]
    pub fn kind(&self) -> NatKind {
        let Some(mapped) = self.mapped(Purpose::Mapping(1)) else { return NatKind::default() };
        let is_open = self.local.get(1).is_some_and(|local| *local == mapped);
        NatKind {
            mapping: if is_open { Behavior::Open } else { self.mapping(mapped) },
            filtering: self.filtering(is_open),
            hairpins: self.hairpins().filter(|_| !is_open),
            ports: if is_open { PortAllocation::Preserving } else { self.ports() },
        }
    }

    /// Where the server sees us.
    #[must_use]
    pub fn public_ip(&self) -> Option<IpAddr> {
        self.mapped(Purpose::Mapping(1)).map(|mapped| mapped.ip())
    }

    /// Questions that need the answers of others.
    fn second_round(&mut self, now: Instant, rng: &mut impl Rng) {
        let firsts = [0, 1, 2].map(|socket| self.mapped(Purpose::Mapping(socket)));
        let [Some(target), Some(_), Some(back)] = firsts else { return };
        if std::mem::replace(&mut self.has_second_round, true) {
            return;
        }
        let aimed =
            |rng: &mut _| BindingRequest { response_port: Some(target.port()), ..request(rng) };
        if let Some(second) = self.second {
            let plain = request(rng);
            self.ask(now, Purpose::SecondPort, 1, second, plain);
            let changed = BindingRequest { change_port: true, ..aimed(rng) };
            self.ask(now, Purpose::FilterPort, 2, self.servers.first, changed);
        }
        if let Some(other) = self.servers.other {
            let plain = request(rng);
            self.ask(now, Purpose::OtherServer, 1, other, plain);
            let aimed = aimed(rng);
            self.ask(now, Purpose::FilterAddress, 3, other, aimed);
        }
        for (socket, to) in [(0, back), (2, target)] {
            let itself = request(rng);
            self.ask(now, Purpose::Hairpin(socket), socket, to, itself);
        }
    }

    fn ask(
        &mut self,
        now: Instant,
        purpose: Purpose,
        socket: usize,
        to: SocketAddr,
        request: BindingRequest,
    ) {
        let question = Question { purpose, socket, to, request, sent: 0, due: now, answer: None };
        self.questions.push(question);
    }

    fn open(&mut self, transaction: Transaction) -> Option<&mut Question> {
        self.questions
            .iter_mut()
            .find(|q| q.request.transaction == transaction && q.sent > 0 && q.answer.is_none())
    }

    fn mapped(&self, purpose: Purpose) -> Option<SocketAddr> {
        self.questions.iter().find(|q| q.purpose == purpose)?.answer
    }

    fn mapping(&self, first: SocketAddr) -> Behavior {
        let second = self.mapped(Purpose::SecondPort).map(|mapped| mapped == first);
        let other = self.mapped(Purpose::OtherServer).map(|mapped| mapped == first);
        match (second, other) {
            (Some(false), _) => Behavior::AddressAndPortDependent,
            (_, Some(false)) => Behavior::AddressDependent,
            // With one server only, a mapping that depends on the address cannot be told from
            // this one; but hardly any NAT has such a mapping.
            (Some(true), _) | (None, Some(true)) => Behavior::EndpointIndependent,
            (None, None) => Behavior::Unknown,
        }
    }

    fn filtering(&self, is_open: bool) -> Behavior {
        let came = |purpose| {
            let question = self.questions.iter().find(|q| q.purpose == purpose)?;
            Some(question.answer.is_some())
        };
        match (came(Purpose::FilterPort), came(Purpose::FilterAddress)) {
            (_, Some(true)) => Behavior::EndpointIndependent,
            // Firewalls that let in whatever comes from a known address are not usual; NATs are.
            (Some(true), None) if is_open => Behavior::EndpointIndependent,
            (Some(true), _) => Behavior::AddressDependent,
            (Some(false), _) => Behavior::AddressAndPortDependent,
            (None, _) => Behavior::Unknown,
        }
    }

    fn hairpins(&self) -> Option<bool> {
        let is_sent = self.questions.iter().any(|q| q.purpose == Purpose::Hairpin(2));
        let came = |socket| self.mapped(Purpose::Hairpin(socket)).is_some();
        is_sent.then(|| came(0) || came(2))
    }

    /// Compares the ports of new mappings, in the order in which they were made.
    fn ports(&self) -> PortAllocation {
        let firsts = (0..3).filter_map(|socket| {
            let mapped = self.mapped(Purpose::Mapping(socket))?;
            Some((self.local.get(socket)?.port(), mapped.port()))
        });
        let pairs: Vec<(u16, u16)> = firsts.collect();
        if pairs.len() < 2 {
            return PortAllocation::Unknown;
        }
        if pairs.iter().all(|(local, mapped)| local == mapped) {
            return PortAllocation::Preserving;
        }
        let later = [Purpose::SecondPort, Purpose::OtherServer].map(|p| self.mapped(p));
        let own = self.mapped(Purpose::Mapping(1));
        let mut ports: Vec<u16> = pairs.iter().map(|(_, mapped)| *mapped).collect();
        ports.extend(later.iter().flatten().filter(|m| Some(**m) != own).map(SocketAddr::port));
        let steps: Vec<i32> =
            ports.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect();
        let is_step = |step: &i32| *step != 0 && step.abs() <= MAX_STEP;
        // Another's mapping may have come between; the smallest step is the NAT's own.
        let own_step = steps.iter().copied().filter(is_step).min_by_key(|step| step.abs());
        match own_step.and_then(|step| i16::try_from(step).ok()) {
            Some(step) if steps.iter().all(is_step) => PortAllocation::Sequential(step),
            _ => PortAllocation::Random,
        }
    }
}

/// The socket to which the answer comes, if it does.
fn answers_at(purpose: Purpose) -> usize {
    match purpose {
        Purpose::Mapping(socket) => socket,
        Purpose::SecondPort | Purpose::OtherServer => 1,
        Purpose::FilterPort | Purpose::FilterAddress => 0,
        Purpose::Hairpin(socket) => 2 - socket.min(2),
    }
}

fn request(rng: &mut impl Rng) -> BindingRequest {
    BindingRequest { transaction: rng.random(), ..BindingRequest::default() }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::sim::{SimNat, World};
    use super::*;
    use Behavior::{AddressAndPortDependent, AddressDependent, EndpointIndependent, Open, Unknown};
    use PortAllocation::{Preserving, Random, Sequential};

    fn detect(seed: u64, nat: SimNat, other: bool, loss: f64) -> NatKind {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(nat, loss, seed);
        let servers = StunServers { first: World::FIRST, other: other.then_some(World::OTHER) };
        let mut now = world.now;
        let mut detector = NatDetector::new(now, servers, world.locals(), &mut rng);
        for _ in 0..1_000 {
            while let Some(probe) = detector.poll_transmit(now) {
                world.send(now, probe.socket, probe.to, probe.datagram);
            }
            let due = detector.poll_timeout(now);
            let Some(next) = due.into_iter().chain(world.next()).min() else { break };
            now = now.max(next);
            for (socket, datagram) in world.deliver(now) {
                detector.handle_datagram(now, socket, &datagram, &mut rng);
            }
            if detector.poll_timeout(now).is_none() {
                break;
            }
        }
        assert!(detector.poll_timeout(now).is_none(), "seed {seed}: it never ends");
        assert!(now < world.now + Duration::from_secs(5), "seed {seed}: it takes long");
        assert!(world.sent <= 30, "seed {seed}: {} datagrams", world.sent);
        detector.kind()
    }

    #[test]
    fn every_kind_is_told_by_two_servers() {
        let behaviors = [EndpointIndependent, AddressDependent, AddressAndPortDependent];
        let allocations = [Preserving, Sequential(2), Random];
        let mut seed = 0;
        for mapping in behaviors {
            for filtering in behaviors {
                for ports in allocations {
                    // A NAT that keeps ports and gives each remote another one cannot be.
                    if ports == Preserving && mapping != EndpointIndependent {
                        continue;
                    }
                    for hairpins in [false, true] {
                        seed += 1;
                        let nat = SimNat { mapping, filtering, ports, hairpins };
                        let found = detect(seed, nat, true, 0.0);
                        // Where each remote sees another port, neither opens the filter for
                        // the other: it is of no use there.
                        let is_useless =
                            mapping != EndpointIndependent && filtering != EndpointIndependent;
                        let hairpins = Some(hairpins && !is_useless);
                        let expected = NatKind { mapping, filtering, hairpins, ports };
                        assert_eq!(found, expected, "seed {seed}");
                    }
                }
            }
        }
    }

    #[test]
    fn one_server_tells_what_matters_for_punching() {
        let nat =
            |mapping, filtering| SimNat { mapping, filtering, ports: Random, hairpins: false };
        let found = detect(1, nat(EndpointIndependent, AddressAndPortDependent), false, 0.0);
        assert_eq!(found.name(), "port-restricted cone");
        let found = detect(2, nat(AddressAndPortDependent, AddressAndPortDependent), false, 0.0);
        assert_eq!(found.name(), "symmetric");
        // Whether other addresses are let in, too, stays open; the safe guess is that they are not.
        let found = detect(3, nat(EndpointIndependent, EndpointIndependent), false, 0.0);
        assert_eq!(found.name(), "restricted cone");
    }

    #[test]
    fn no_nat_is_told_from_a_firewall_and_from_nothing_at_all() {
        let open = SimNat {
            mapping: Open,
            filtering: EndpointIndependent,
            ports: Preserving,
            hairpins: true,
        };
        assert_eq!(detect(1, open, true, 0.0).name(), "none");
        let firewall = SimNat { filtering: AddressAndPortDependent, ..open };
        assert_eq!(detect(2, firewall, true, 0.0).name(), "none, but a firewall");
        assert_eq!(detect(3, open, true, 1.0), NatKind::default());
        assert_eq!(NatKind::default().mapping, Unknown);
    }

    #[test]
    fn losses_seldom_lead_astray_and_never_to_a_kind_that_is_too_good() {
        let nat = SimNat {
            mapping: EndpointIndependent,
            filtering: AddressAndPortDependent,
            ports: Random,
            hairpins: false,
        };
        let mut right = 0;
        for seed in 0..200 {
            let found = detect(seed, nat, true, 0.1);
            right += u32::from(found.name() == "port-restricted cone");
            assert!(
                !matches!(found.filtering, EndpointIndependent | AddressDependent),
                "seed {seed}: {found}"
            );
        }
        assert!(right > 180, "{right} of 200");
    }
}
