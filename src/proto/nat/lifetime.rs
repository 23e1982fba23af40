//! Measuring how long a NAT keeps a mapping that nobody uses (RFC 5780 section 4.6).
//!
//! Each time to be tried has a socket of its own, which makes a mapping and falls silent; when the
//! time is over, another socket asks the server to send something to that mapping. All times run
//! side by side, so the measurement takes as long as the longest. They end with the first that was
//! too long.
//!
//! The mapping is used twice, some seconds apart: NATs keep what looks like a conversation longer
//! than a question and its answer, and what a node keeps alive is a conversation.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

use crate::proto::nat::Probe;
use crate::wire::stun::{BindingRequest, StunMessage, Transaction};

/// What is tried, in seconds. The first only shows that a mapping can be reached at all.
const RUNGS: [u64; 8] = [0, 12, 20, 32, 50, 80, 125, 185];
/// Sockets that the measurement needs: one for each time, and the one that asks.
pub const LIFETIME_SOCKETS: usize = RUNGS.len() + 1;
const ASKER: usize = RUNGS.len();

/// Between the two uses of a mapping. Linux takes it for a conversation after 2 s.
const SECOND_USE: Duration = Duration::from_millis(2_500);
const RETRY: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Making the mapping.
    First,
    /// Using it once more.
    Second,
    /// Letting it be, then asking for a sign through it.
    Wait,
    Alive,
    Dead,
    /// The server has not answered.
    Failed,
}

#[derive(Debug)]
struct Rung {
    step: Step,
    transaction: Transaction,
    mapped: u16,
    attempts: u32,
    due: Instant,
}

/// See the [module](self).
#[derive(Debug)]
pub struct LifetimeProbe {
    server: SocketAddr,
    rungs: Vec<Rung>,
}

impl LifetimeProbe {
    /// Begins, with the help of the STUN server at `server`.
    #[must_use]
    pub fn new(now: Instant, server: SocketAddr, rng: &mut impl Rng) -> Self {
        let rung = |_: &u64| Rung {
            step: Step::First,
            transaction: rng.random(),
            mapped: 0,
            attempts: 0,
            due: now,
        };
        Self { server, rungs: RUNGS.iter().map(rung).collect() }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Probe> {
        let server = self.server;
        for (at, rung) in self.rungs.iter_mut().enumerate() {
            if !rung.is_open() || now < rung.due {
                continue;
            }
            if rung.attempts >= ATTEMPTS {
                rung.step = if rung.step == Step::Wait { Step::Dead } else { Step::Failed };
                continue;
            }
            rung.attempts += 1;
            rung.due = now + RETRY;
            let request = BindingRequest {
                transaction: rung.transaction,
                response_port: (rung.step == Step::Wait).then_some(rung.mapped),
                ..BindingRequest::default()
            };
            let socket = if rung.step == Step::Wait { ASKER } else { at };
            return Some(Probe { socket, to: server, datagram: request.encode() });
        }
        None
    }

    /// When to look again; `None` when it is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_decided() {
            return None;
        }
        self.rungs.iter().filter(|rung| rung.is_open()).map(|rung| rung.due).min()
    }

    /// Takes a datagram that came to a socket.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        socket: usize,
        datagram: &[u8],
        rng: &mut impl Rng,
    ) {
        let Ok(StunMessage::Success(success)) = StunMessage::parse(datagram) else { return };
        let Some((rung, seconds)) = self.rungs.get_mut(socket).zip(RUNGS.get(socket)) else {
            return;
        };
        if rung.transaction != success.transaction || !rung.is_open() {
            return;
        }
        rung.transaction = rng.random();
        rung.attempts = 0;
        match rung.step {
            Step::First => {
                rung.step = Step::Second;
                rung.due = now + SECOND_USE;
            }
            Step::Second => {
                rung.step = Step::Wait;
                rung.mapped = success.mapped.port();
                rung.due = now + Duration::from_secs(*seconds);
            }
            Step::Wait => rung.step = Step::Alive,
            Step::Alive | Step::Dead | Step::Failed => {}
        }
    }

    /// How long a mapping lives at least, as far as is known: it only grows.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        if self.rungs.first()?.step != Step::Alive {
            return None;
        }
        let longest = self.alive().last()?;
        let has_first_failed = self.rungs.get(1).is_some_and(|rung| rung.step == Step::Dead);
        match longest {
            // Shorter than the shortest that was tried.
            0 if has_first_failed => Some(Duration::from_secs(RUNGS[1]) / 2),
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        }
    }

    /// The times that mappings have lived, up to the first that they have not.
    fn alive(&self) -> impl Iterator<Item = u64> {
        let lived = self.rungs.iter().zip(RUNGS).take_while(|(rung, _)| rung.step == Step::Alive);
        lived.map(|(_, seconds)| seconds)
    }

    /// Whether the first that was too long, or that cannot be told, is known.
    fn is_decided(&self) -> bool {
        let first = self.rungs.iter().find(|rung| rung.step != Step::Alive);
        first.is_none_or(|rung| !rung.is_open())
    }
}

impl Rung {
    fn is_open(&self) -> bool {
        matches!(self.step, Step::First | Step::Second | Step::Wait)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::sim::{SimNat, World};
    use super::super::{Behavior, PortAllocation};
    use super::*;

    /// What is found, how long it takes, and with how many datagrams.
    fn measure(seed: u64, lifetime: u64, loss: f64) -> (Option<Duration>, Duration, usize) {
        let nat = SimNat {
            mapping: Behavior::EndpointIndependent,
            filtering: Behavior::AddressAndPortDependent,
            ports: PortAllocation::Random,
            hairpins: false,
        };
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(nat, loss, seed);
        world.lifetime = Duration::from_secs(lifetime);
        let mut now = world.now;
        let mut probe = LifetimeProbe::new(now, World::FIRST, &mut rng);
        let mut known = None;
        loop {
            while let Some(sent) = probe.poll_transmit(now) {
                world.send(now, sent.socket, sent.to, sent.datagram);
            }
            let Some(due) = probe.poll_timeout() else { break };
            now = now.max(world.next().map_or(due, |next| next.min(due)));
            for (socket, datagram) in world.deliver(now) {
                probe.handle_datagram(now, socket, &datagram, &mut rng);
            }
            assert!(probe.lifetime() >= known, "seed {seed}: what is known only grows");
            known = probe.lifetime();
        }
        (probe.lifetime(), now.duration_since(world.now), world.sent)
    }

    #[test]
    fn the_longest_time_that_a_mapping_lived_is_found() {
        for (lifetime, found) in [(9, 6), (15, 12), (20, 12), (30, 20), (120, 80), (600, 185)] {
            let (measured, took, sent) = measure(lifetime, lifetime, 0.0);
            assert_eq!(measured, Some(Duration::from_secs(found)), "lifetime {lifetime}");
            assert!(took < Duration::from_secs(195), "{took:?}");
            assert!(sent <= 27, "{sent} datagrams");
        }
    }

    #[test]
    fn losses_make_the_result_smaller_but_never_too_large() {
        for seed in 0..100 {
            let (measured, ..) = measure(seed, 60, 0.1);
            assert!(measured <= Some(Duration::from_secs(50)), "seed {seed}: {measured:?}");
        }
    }

    #[test]
    fn without_a_server_nothing_is_known_soon() {
        let (measured, took, sent) = measure(1, 60, 1.0);
        assert_eq!(measured, None);
        assert!(took < Duration::from_secs(3) && sent <= 24, "{took:?}, {sent} datagrams");
    }
}
