//! A path of a true MTU, virtual time, and the machine in between.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

const BASE: u16 = 1_231;
const LIMIT: u16 = 65_070;
const RTT: Duration = Duration::from_millis(40);

/// The machine on a path: probes of up to `carries` bytes are answered after a round trip.
struct Sim {
    mtu: PathMtu,
    now: Instant,
    start: Instant,
    carries: u16,
    /// The kernel refuses more than this.
    interface: u16,
    loss: f64,
    /// Other traffic keeps arriving.
    is_alive: bool,
    rng: StdRng,
    answers: Vec<(Instant, u32)>,
}

impl Sim {
    fn new(to: &str, carries: u16) -> Self {
        let (to, now) = (to.parse::<std::net::SocketAddr>().unwrap(), Instant::now());
        Self {
            mtu: PathMtu::new(Via::Direct(to.into()), to, BASE, LIMIT),
            now,
            start: now,
            carries,
            interface: u16::MAX,
            loss: 0.0,
            is_alive: true,
            rng: StdRng::seed_from_u64(7),
            answers: Vec::new(),
        }
    }

    /// An IPv4 path of this MTU.
    fn of(mtu: u16) -> Self {
        Self::new("192.0.2.1:1", mtu - 28)
    }

    fn pump(&mut self) {
        while let Some(probe) = self.mtu.poll_probe(self.now) {
            if probe.size > self.interface {
                self.mtu.on_refused(self.now, probe.size);
            } else if probe.size <= self.carries && !self.rng.random_bool(self.loss) {
                self.answers.push((self.now + RTT, probe.id));
            }
        }
    }

    /// Full segments are being sent.
    fn use_it(&mut self) {
        self.mtu.on_use(self.now, || None);
        self.pump();
    }

    /// Until nothing is left to happen, or for `limit`; the path is in use all the time.
    fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        self.use_it();
        loop {
            let answer = self.answers.iter().map(|(at, _)| *at).min();
            let Some(next) = answer.into_iter().chain(self.mtu.poll_timeout()).min() else { break };
            if next > end {
                break;
            }
            self.now = next;
            if let Some(at) = self.answers.iter().position(|(at, _)| *at <= self.now) {
                let (_, id) = self.answers.remove(at);
                self.mtu.on_answer(self.now, id);
            }
            let heard = self.is_alive.then_some(self.now);
            self.mtu.handle_timeout(self.now, heard);
            self.pump();
            self.use_it();
        }
    }

    fn took(&self) -> Duration {
        self.now - self.start
    }
}

#[test]
fn common_mtus_are_found_with_few_probes() {
    // MTU of the path, bytes of the datagrams found, probes at most.
    for (mtu, found, most) in [
        (1_280, BASE, 15),
        (1_400, 1_372, 15),
        (1_420, 1_392, 15),
        (1_480, 1_452, 12),
        (1_492, 1_464, 8),
        (1_500, 1_472, 7),
        (1_501, 1_472, 7),
        (4_500, 3_972, 14),
        (8_900, 8_868, 10),
        (9_000, 8_972, 9),
        (9_216, 8_972, 15),
        (65_535, LIMIT, 3),
    ] {
        let mut sim = Sim::of(mtu);
        sim.run(Duration::from_secs(20));
        assert_eq!((sim.mtu.size(), sim.mtu.state()), (found, MtuState::SearchComplete), "{mtu}");
        assert!(sim.mtu.probes_sent() <= most, "{mtu}: {} probes", sim.mtu.probes_sent());
        assert_eq!(sim.mtu.poll_timeout(), None, "no timer runs once the size is found");
    }
}

#[test]
fn ethernet_is_found_in_one_round_trip_and_loopback_with_one_probe() {
    let mut ethernet = Sim::of(1_500);
    ethernet.run(RTT);
    assert_eq!((ethernet.mtu.size(), ethernet.took()), (1_472, RTT));
    for to in ["127.0.0.1:1", "[::1]:1"] {
        let mut loopback = Sim::new(to, 65_507);
        loopback.run(Duration::from_secs(20));
        assert_eq!((loopback.mtu.size(), loopback.took()), (LIMIT, RTT));
        assert_eq!(loopback.mtu.probes_sent(), 1);
    }
}

#[test]
fn what_the_kernel_refuses_costs_no_time() {
    for (interface, found) in [(1_500, 1_472), (1_400, 1_372), (9_000, 8_972)] {
        let mut sim = Sim::of(interface);
        sim.interface = interface - 28;
        sim.run(Duration::from_secs(20));
        assert_eq!(sim.mtu.size(), found);
        assert!(sim.took() <= 6 * RTT, "{interface}: {:?}", sim.took());
    }
}

#[test]
fn ipv6_and_relayed_paths_have_their_own_sizes() {
    let mut v6 = Sim::new("[2001:db8::1]:1", 1_452);
    v6.run(Duration::from_secs(20));
    assert_eq!(v6.mtu.size(), 1_452);
    let beacon = "192.0.2.9:9001".parse().unwrap();
    let mut relayed = Sim::new("192.0.2.9:9001", 65_507);
    relayed.mtu = PathMtu::new(Via::Relay, beacon, BASE, LIMIT);
    relayed.run(Duration::from_secs(20));
    assert_eq!((relayed.mtu.size(), relayed.mtu.probes_sent()), (1_472, 1), "no jumbo frames");
}

#[test]
fn losses_do_not_hide_the_size_of_the_path() {
    for seed in 0..200 {
        let mut sim = Sim::of(1_500);
        (sim.loss, sim.rng) = (0.03, StdRng::seed_from_u64(seed));
        sim.run(Duration::from_secs(20));
        assert_eq!(sim.mtu.size(), 1_472, "seed {seed}");
        assert!(sim.mtu.probes_sent() < 12, "seed {seed}: {}", sim.mtu.probes_sent());
    }
}

#[test]
fn nothing_is_probed_before_it_is_used_and_raised_only_in_use_and_seldom() {
    let mut sim = Sim::of(1_400);
    assert_eq!((sim.mtu.poll_timeout(), sim.mtu.poll_probe(sim.now)), (None, None));
    sim.run(Duration::from_secs(20));
    let (probes, found) = (sim.mtu.probes_sent(), sim.now);
    sim.carries = 1_472;
    sim.now = found + FIRST_RAISE_AFTER - Duration::from_millis(1);
    sim.run(Duration::from_secs(0));
    assert_eq!(sim.mtu.probes_sent(), probes);
    sim.now = found + FIRST_RAISE_AFTER;
    sim.run(Duration::from_secs(20));
    assert_eq!(sim.mtu.size(), 1_472);
    let (probes, found) = (sim.mtu.probes_sent(), sim.now);
    sim.now = found + RAISE_AFTER - Duration::from_secs(1);
    sim.run(Duration::from_secs(0));
    assert_eq!(sim.mtu.probes_sent(), probes);
    sim.now = found + RAISE_AFTER;
    sim.run(Duration::from_secs(20));
    assert!(sim.mtu.probes_sent() > probes);
}

#[test]
fn a_black_hole_leads_to_base_at_once_and_then_up_to_what_is_left() {
    let mut sim = Sim::of(9_000);
    sim.run(Duration::from_secs(20));
    sim.carries = 1_372;
    sim.mtu.on_stall(sim.now, 1);
    assert_eq!(sim.mtu.size(), 8_972, "one timeout is a doubt only");
    sim.mtu.on_stall(sim.now, 2);
    assert_eq!((sim.mtu.size(), sim.mtu.state()), (BASE, MtuState::Base));
    sim.run(Duration::from_secs(20));
    assert_eq!((sim.mtu.size(), sim.mtu.state()), (1_372, MtuState::SearchComplete));
}

#[test]
fn one_timeout_is_enough_where_probes_confirm_it_and_harmless_where_they_do_not() {
    let mut shrunk = Sim::of(1_500);
    shrunk.run(Duration::from_secs(20));
    let begin = shrunk.now;
    shrunk.carries = 1_300;
    shrunk.mtu.on_stall(shrunk.now, 1);
    shrunk.pump();
    shrunk.run(Duration::from_millis(500));
    assert!(shrunk.mtu.size() < 1_472, "{:?}", shrunk.now - begin);
    let mut unlucky = Sim::of(1_500);
    unlucky.run(Duration::from_secs(20));
    unlucky.mtu.on_stall(unlucky.now, 1);
    unlucky.pump();
    unlucky.run(Duration::from_secs(5));
    assert_eq!((unlucky.mtu.size(), unlucky.mtu.poll_timeout()), (1_472, None));
}

#[test]
fn a_path_that_is_dead_is_not_taken_for_a_narrow_one() {
    let mut sim = Sim::of(1_500);
    sim.run(Duration::from_secs(20));
    let carries = std::mem::replace(&mut sim.carries, 0);
    sim.is_alive = false;
    sim.mtu.on_stall(sim.now, 1);
    sim.pump();
    sim.run(Duration::from_secs(20));
    assert_eq!((sim.mtu.size(), sim.mtu.poll_timeout()), (1_472, None), "no verdict, no timer");
    let mut searching = Sim::of(1_500);
    (searching.carries, searching.is_alive) = (0, false);
    searching.mtu.on_use(searching.now, || None);
    searching.pump();
    while let Some(at) = searching.mtu.poll_timeout() {
        searching.now = at;
        searching.mtu.handle_timeout(at, None);
        searching.pump();
    }
    assert_eq!(searching.mtu.state(), MtuState::Base);
    (searching.carries, searching.is_alive) = (carries, true);
    searching.run(RTT);
    assert_eq!(searching.mtu.size(), 1_472, "the next use searches again");
}

#[test]
fn less_than_base_is_an_error_that_ends_when_base_gets_through() {
    let mut sim = Sim::of(600);
    sim.run(Duration::from_secs(20));
    assert_eq!(sim.mtu.size(), BASE, "searching upward says nothing about base");
    sim.mtu.on_stall(sim.now, 3);
    sim.pump();
    sim.run(Duration::from_secs(20));
    assert_eq!((sim.mtu.size(), sim.mtu.state()), (LEAST, MtuState::Error));
    sim.now += RETRY_BASE;
    sim.run(Duration::from_secs(20));
    assert_eq!(sim.mtu.state(), MtuState::Error);
    sim.carries = 1_472;
    sim.now += RETRY_BASE;
    sim.run(Duration::from_secs(20));
    assert_eq!((sim.mtu.size(), sim.mtu.state()), (1_472, MtuState::SearchComplete));
}

#[test]
fn a_refused_datagram_in_use_shrinks_the_path_at_once() {
    let mut sim = Sim::of(9_000);
    sim.run(Duration::from_secs(20));
    (sim.interface, sim.carries) = (1_472, 1_472);
    sim.mtu.on_refused(sim.now, 8_972);
    assert_eq!(sim.mtu.size(), BASE);
    sim.run(Duration::from_secs(20));
    assert_eq!(sim.mtu.size(), 1_472);
}

#[test]
fn a_late_answer_still_counts() {
    let mut sim = Sim::of(1_500);
    sim.mtu.on_use(sim.now, || None);
    let first = sim.mtu.poll_probe(sim.now).unwrap();
    for _ in 0..4 {
        sim.now = sim.mtu.poll_timeout().unwrap();
        sim.mtu.handle_timeout(sim.now, Some(sim.now));
        while sim.mtu.poll_probe(sim.now).is_some() {}
    }
    sim.mtu.on_answer(sim.now, first.id);
    assert_eq!((first.size, sim.mtu.size()), (1_472, 1_472));
}

#[test]
fn whatever_happens_the_size_stays_within_bounds() {
    let mut rng = StdRng::seed_from_u64(3);
    for _ in 0..300 {
        let mut sim = Sim::of(rng.random_range(600..=u16::MAX));
        sim.loss = rng.random_range(0.0..0.9);
        for _ in 0..50 {
            match rng.random_range(0..6) {
                0 => sim.mtu.on_stall(sim.now, rng.random_range(1..5)),
                1 => sim.mtu.on_refused(sim.now, rng.random()),
                2 => sim.mtu.on_answer(sim.now, rng.random_range(0..40)),
                3 => sim.is_alive = rng.random(),
                4 => sim.carries = rng.random(),
                _ => sim.run(Duration::from_millis(rng.random_range(0..9_000))),
            }
            sim.now += Duration::from_millis(rng.random_range(0..30_000));
            assert!((LEAST..=LIMIT).contains(&sim.mtu.size()));
        }
    }
}
