//! Attempts between simulated NATs: how many succeed, how soon, and what they cost.

use super::simulation::{Allocator, Conditions, OPENER, Outcome, PROBER, Simulation};
use super::*;

const SEEDS: u64 = 1_000;

struct Rates {
    outcomes: Vec<Outcome>,
}

impl Rates {
    /// Runs and prints; the table of `docs/traversal.md` has these lines.
    fn of(what: &str, conditions: Conditions) -> Self {
        let run = |seed| {
            let outcome = Simulation::new(seed, conditions).run();
            assert!(outcome.left_open <= 1, "seed {seed}: {outcome:?}");
            assert!(outcome.lasted < Duration::from_secs(30), "seed {seed}: {outcome:?}");
            assert!(outcome.probes <= 2_048 && outcome.openers <= 3 * 256, "seed {seed}");
            outcome
        };
        let rates = Self { outcomes: (0..SEEDS).map(run).collect() };
        let within = |secs| 100.0 * rates.within(Duration::from_secs(secs));
        let mut times: Vec<Duration> = rates.times().collect();
        times.sort_unstable();
        let median = times.get(times.len() / 2);
        let probes: usize = rates.outcomes.iter().map(|outcome| outcome.probes).sum();
        println!(
            "{what}: {:.1} % within 1 s, {:.1} % within 5 s, {:.1} % within 10 s, {:.1} % within 20 s; \
             median {median:?}, {} probes on average",
            within(1),
            within(5),
            within(10),
            within(20),
            probes / rates.outcomes.len()
        );
        rates
    }

    /// When both had heard each other.
    fn times(&self) -> impl Iterator<Item = Duration> {
        self.outcomes.iter().filter_map(|o| Some(o.opener_heard?.max(o.prober_heard?)))
    }

    fn within(&self, limit: Duration) -> f64 {
        self.times().filter(|time| *time <= limit).count() as f64 / self.outcomes.len() as f64
    }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn random_ports_are_met_by_luck_and_nearly_always() {
    let rates = Rates::of("random ports", Conditions::default());
    // 98.3 and 99.97 % are expected; with a thousand seeds, three standard deviations are 1.3 %.
    assert!(rates.within(secs(10)) > 0.97);
    assert!(rates.within(secs(20)) > 0.995);
}

#[test]
fn it_does_not_matter_who_asks() {
    let rates =
        Rates::of("asked by the opener", Conditions { asker: OPENER, ..Conditions::default() });
    assert!(rates.within(secs(20)) > 0.995);
}

#[test]
fn loss_costs_some_time_only() {
    let rates = Rates::of("5 % loss", Conditions { loss: 0.05, ..Conditions::default() });
    assert!(rates.within(secs(10)) > 0.94);
    assert!(rates.within(secs(20)) > 0.98);
}

#[test]
fn a_nat_that_forgets_soon_is_opened_again() {
    let lifetime = secs(10);
    let rates = Rates::of("10 s mappings", Conditions { lifetime, ..Conditions::default() });
    assert!(rates.within(secs(20)) > 0.99);
}

#[test]
fn fewer_sockets_need_more_luck() {
    let rates = Rates::of("64 sockets", Conditions { sockets: 64, ..Conditions::default() });
    assert!((0.75..0.95).contains(&rates.within(secs(20))));
}

#[test]
fn a_nat_that_counts_is_seen_through_at_once() {
    for (step, foreign) in [(1, 0.0), (2, 0.0), (1, 0.3), (5, 0.1)] {
        let allocator = Allocator::Counting { step, foreign };
        let what = format!("counting by {step}, {foreign} of it foreign");
        let rates = Rates::of(&what, Conditions { allocator, ..Conditions::default() });
        assert!(rates.within(secs(1)) > 0.98, "{what}");
    }
}

#[test]
fn a_nat_that_keeps_ports_is_seen_through_at_once() {
    let allocator = Allocator::Preserving;
    let rates = Rates::of("keeping ports", Conditions { allocator, ..Conditions::default() });
    assert!(rates.within(secs(1)) > 0.99);
}

#[test]
fn without_descriptors_nothing_is_tried() {
    let outcome = Simulation::new(1, Conditions { sockets: 5, ..Conditions::default() }).run();
    assert_eq!((outcome.probes, outcome.openers, outcome.left_open), (0, 0, 0));
    assert!(outcome.lasted < secs(1), "the other side is told");
}

fn place(mapping: Behavior, outside: Option<&str>) -> OwnPlace {
    OwnPlace {
        nat: NatKind { mapping, ..NatKind::default() },
        outside: outside.map(|outside| outside.parse().unwrap()),
    }
}

fn rng() -> rand::rngs::StdRng {
    rand::SeedableRng::seed_from_u64(7)
}

fn want(attempt: u32, mapping: u8, outside: Option<&str>) -> PunchMessage {
    let outside = outside.map(|outside| outside.parse().unwrap());
    PunchMessage::Want { attempt, mapping, filtering: 0, outside }
}

const SYMMETRIC: u8 = 4;
const CONE: u8 = 2;

/// What a node does at once about a message.
fn answer(own: OwnPlace, message: PunchMessage) -> Vec<PunchAction> {
    let mut puncher = Puncher::default();
    puncher.on_message(Instant::now(), OPENER, message, own, &mut rng());
    std::iter::from_fn(|| puncher.poll_action()).map(|(_, action)| action).collect()
}

#[test]
fn nats_for_which_it_is_no_use_stay_on_the_relay() {
    let symmetric = place(Behavior::AddressDependent, Some("198.51.100.1:1"));
    let cone = place(Behavior::EndpointIndependent, Some("198.51.100.1:1"));
    let unknown = place(Behavior::Unknown, Some("198.51.100.1:1"));
    let there = Some("203.0.113.1:6000");
    let stop = |reason| vec![PunchAction::Tell(PunchMessage::Stop { attempt: 1, reason })];
    let hopeless = stop(StopReason::Hopeless);
    assert_eq!(answer(symmetric, want(1, SYMMETRIC, there)), hopeless);
    assert_eq!(answer(cone, want(1, CONE, there)), hopeless);
    assert_eq!(answer(unknown, want(1, CONE, there)), hopeless);
    assert_eq!(answer(symmetric, want(1, 0, there)), hopeless);
    for nowhere in [None, Some("0.0.0.0:5"), Some("224.0.0.1:5"), Some("203.0.113.1:0")] {
        assert_eq!(answer(symmetric, want(1, CONE, nowhere)), hopeless, "{nowhere:?}");
    }
    let behind_the_same = Some("198.51.100.1:2");
    assert_eq!(answer(symmetric, want(1, CONE, behind_the_same)), hopeless);
    let opened = [PunchAction::OpenSockets(SocketId(1), 256)];
    assert_eq!(answer(symmetric, want(1, CONE, there)), opened);
}

#[test]
fn one_attempt_at_a_time_and_seldom_with_the_same_peer() {
    let (mut puncher, mut now) = (Puncher::default(), Instant::now());
    let own = place(Behavior::AddressDependent, Some("198.51.100.1:1"));
    let there = Some("203.0.113.1:6000");
    let ask = |puncher: &mut Puncher, now, node, attempt| {
        puncher.on_message(now, node, want(attempt, CONE, there), own, &mut rng());
        let mut actions = std::iter::from_fn(|| puncher.poll_action());
        actions.any(|(_, action)| matches!(action, PunchAction::OpenSockets(..)))
    };
    assert!(ask(&mut puncher, now, PROBER, 1));
    assert!(!ask(&mut puncher, now, NodeId(9), 2), "one at a time");
    while let Some(at) = puncher.poll_timeout() {
        now = at;
        puncher.handle_timeout(now);
    }
    assert!(!ask(&mut puncher, now, PROBER, 3), "not so soon");
    assert!(ask(&mut puncher, now, NodeId(9), 4), "others may");
}

#[test]
fn a_peer_that_does_not_answer_is_left_alone() {
    let (mut puncher, start) = (Puncher::default(), Instant::now());
    let own = place(Behavior::EndpointIndependent, Some("203.0.113.1:6000"));
    puncher.wish(start, OPENER, own, &mut rng());
    let mut now = start;
    while let Some(at) = puncher.poll_timeout() {
        now = at;
        puncher.handle_timeout(now);
    }
    let actions: Vec<_> = std::iter::from_fn(|| puncher.poll_action()).collect();
    let wishes = actions
        .iter()
        .filter(|(_, action)| matches!(action, PunchAction::Tell(PunchMessage::Want { .. })));
    assert_eq!(wishes.count(), 3);
    assert_eq!(actions.last(), Some(&(OPENER, PunchAction::Ended(StopReason::Failed))));
    assert!(now < start + secs(6));
    assert!(!puncher.may_wish(now, OPENER) && puncher.may_wish(now, NodeId(9)));
    puncher.on_network_change(now);
    assert!(puncher.may_wish(now, OPENER));
}

#[test]
fn a_plan_that_nobody_wanted_is_ignored() {
    let cone = place(Behavior::EndpointIndependent, Some("203.0.113.1:6000"));
    let ip = "198.51.100.1".parse().unwrap();
    assert!(answer(cone, PunchMessage::Plan { attempt: 1, ip, predicted: vec![] }).is_empty());
}

#[test]
fn the_socket_that_carries_the_path_stays_until_it_is_given_back() {
    let (mut puncher, now) = (Puncher::default(), Instant::now());
    let own = place(Behavior::AddressDependent, Some("198.51.100.1:1"));
    let there = "203.0.113.1:6000";
    puncher.on_message(now, PROBER, want(1, CONE, Some(there)), own, &mut rng());
    puncher.on_sockets(now, SocketId(1), &[5_000; 256]);
    let from = Remote { socket: SocketId(100), addr: there.parse().unwrap() };
    puncher.on_frame(now, OPENER, from);
    assert!(puncher.is_with(PROBER), "that was another peer");
    puncher.on_frame(now, PROBER, from);
    let mut closed = || -> Vec<(u16, u16)> {
        let actions = std::iter::from_fn(|| puncher.poll_action());
        let closed = actions.filter_map(|(_, action)| match action {
            PunchAction::CloseSockets(first, count) => Some((first.0, count)),
            _ => None,
        });
        closed.collect()
    };
    assert_eq!(closed(), [(1, 99), (101, 156)], "all but the one that met the peer");
    puncher.release(PROBER, SocketId(100));
    let mut actions = std::iter::from_fn(|| puncher.poll_action());
    assert_eq!(actions.next(), Some((PROBER, PunchAction::CloseSockets(SocketId(100), 1))));
}
