//! Endpoints behind NATs, and what happens to networks, in virtual time and with seeds:
//! `PILOT_SIM_SEED=n` replays one, `PILOT_SIM_COUNT=n` plays so many.

mod forgery;
mod histories;
mod nat;
mod traffic;
mod world;

use std::time::Duration;

use nat::{Kind, Rule};
use pilot_agent::proto::path::{ClassRule, PathPolicy, TrafficClass, Via};
use traffic::Traffic;
use world::World;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Runs a story with many seeds, or the one in the environment; a failure names its seed.
fn with_seeds(count: u64, story: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let given = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    if let Some(seed) = given("PILOT_SIM_SEED") {
        return story(seed);
    }
    for seed in 0..given("PILOT_SIM_COUNT").unwrap_or(count) {
        if let Err(panic) = std::panic::catch_unwind(|| story(seed)) {
            eprintln!("failed with seed {seed}; replay with PILOT_SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

const KINDS: [(&str, Option<Kind>); 5] = [
    ("public", None),
    ("full cone", Some(Kind::FULL_CONE)),
    ("restricted", Some(Kind::RESTRICTED)),
    ("port-restricted", Some(Kind::PORT_RESTRICTED)),
    ("symmetric", Some(Kind::SYMMETRIC)),
];

/// Two hosts, each behind a NAT of its kind.
fn pair(seed: u64, kinds: [Option<Kind>; 2]) -> World {
    let mut world = World::new(seed);
    for kind in kinds {
        let network = kind.map(|kind| world.add_nat(kind, None));
        world.add_host(network);
    }
    world.run_for(seconds(1));
    world
}

/// Whether two NATs let a direct path through without guessing ports.
fn is_possible(a: Option<Kind>, b: Option<Kind>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    let hard = |kind: Kind| kind.mapping != Rule::Independent;
    let strict = |kind: Kind| kind.filtering == Rule::AddressAndPort;
    !(hard(a) && strict(b) || hard(b) && strict(a))
}

#[test]
fn every_pair_of_nats_talks_at_once_and_directly_where_that_is_possible() {
    for (name, a) in KINDS {
        for (other, b) in KINDS {
            let mut world = pair(1, [a, b]);
            let begin = world.elapsed();
            let mut traffic = Traffic::new(&mut world, 0, 1);
            assert!(traffic.exchange(&mut world, seconds(1)), "{name} to {other}: no answer");
            let took = world.elapsed() - begin;
            assert!(took < ms(300), "{name} to {other}: first answer after {took:?}");
            let is_direct =
                world.run_until(seconds(3), |world| world.is_direct(0, 1) && world.is_direct(1, 0));
            assert_eq!(is_direct, is_possible(a, b), "{name} to {other}");
            assert!(traffic.exchange(&mut world, seconds(1)), "{name} to {other}");
        }
    }
}

#[test]
fn hosts_behind_one_nat_use_their_own_network() {
    let mut world = World::new(1);
    let nat = world.add_nat(Kind::PORT_RESTRICTED, None);
    world.add_host(Some(nat));
    world.add_host(Some(nat));
    world.run_for(seconds(1));
    let mut traffic = Traffic::new(&mut world, 0, 1);
    assert!(traffic.exchange(&mut world, seconds(1)));
    world.run_for(seconds(1));
    let own = Via::Direct(world.hosts[1].addr.into());
    assert_eq!(world.route(0, 1), Some(own));
}

#[test]
fn nats_inside_nats_are_passed_too() {
    let mut world = World::new(1);
    let outer = world.add_nat(Kind::PORT_RESTRICTED, None);
    let inner = world.add_nat(Kind::PORT_RESTRICTED, Some(outer));
    let other = world.add_nat(Kind::PORT_RESTRICTED, None);
    world.add_host(Some(inner));
    world.add_host(Some(other));
    world.run_for(seconds(1));
    let mut traffic = Traffic::new(&mut world, 0, 1);
    assert!(traffic.exchange(&mut world, seconds(1)));
    let is_direct = |world: &mut World| world.is_direct(0, 1) && world.is_direct(1, 0);
    assert!(world.run_until(seconds(3), is_direct));
}

/// Behind NATs that forget after 20 s, after ten minutes without a word.
#[test]
fn idle_peers_cost_nothing_and_answer_within_three_round_trips() {
    for b in [Kind::FULL_CONE, Kind::PORT_RESTRICTED, Kind::SYMMETRIC] {
        let kind = |kind: Kind| Some(Kind { lifetime: seconds(20), ..kind });
        let mut world = pair(1, [kind(Kind::PORT_RESTRICTED), kind(b)]);
        let node = world.hosts[1].node;
        world.at(0, |_, _| ());
        world.introduce(0, 1);
        let ping = |world: &mut World| {
            let begin = world.elapsed();
            let before = world.hosts[0].endpoint.stats().datagrams_received;
            world.at(0, |endpoint, now| endpoint.ping(now, node)).unwrap();
            let done = world.run_until(seconds(5), |world| {
                world.hosts[0].endpoint.peer(node).is_some_and(|peer| peer.rtt().is_some())
                    && world.hosts[0].endpoint.stats().datagrams_received > before
            });
            assert!(done);
            world.elapsed() - begin
        };
        world.at(0, |endpoint, now| endpoint.warm_up(now, node));
        world.run_for(seconds(5));
        ping(&mut world);
        world.run_for(seconds(130));
        let before = world.hosts[0].sent;
        world.run_for(seconds(470));
        assert_eq!(world.hosts[0].sent, before, "somebody is not left in peace");
        let took = ping(&mut world);
        assert!(took < ms(3 * 40), "{took:?}");
    }
}

#[test]
fn when_nothing_works_probes_stay_few() {
    let mut world = pair(1, [Some(Kind::PORT_RESTRICTED), Some(Kind::PORT_RESTRICTED)]);
    let mut traffic = Traffic::new(&mut world, 0, 1);
    assert!(traffic.exchange(&mut world, seconds(1)));
    world.run_for(seconds(2));
    world.hosts[1].is_cut = true;
    traffic.write(&mut world, 0);
    let mut per_second = Vec::new();
    for _ in 0..30 {
        let before = world.hosts[0].sent;
        world.run_for(seconds(1));
        per_second.push(world.hosts[0].sent - before);
    }
    assert!(per_second.iter().all(|sent| *sent <= 60), "{per_second:?}");
    let later: u64 = per_second[15..].iter().sum();
    assert!(later <= 15 * 20, "{per_second:?}");
}

fn shows_no_address(for_peer: bool) {
    let mut world = pair(1, [Some(Kind::FULL_CONE), Some(Kind::FULL_CONE)]);
    let hidden = PathPolicy { direct: false, ..PathPolicy::default() };
    let whom = for_peer.then_some(world.hosts[1].node);
    world.at(0, |endpoint, _| endpoint.set_policy(whom, hidden));
    let mut traffic = Traffic::new(&mut world, 1, 0);
    assert!(traffic.exchange(&mut world, seconds(1)));
    world.overheard = None;
    for _ in 0..10 {
        assert!(traffic.exchange(&mut world, seconds(1)));
        world.run_for(seconds(2));
    }
    assert!(world.overheard.is_none(), "it has sent something directly");
    assert_eq!(world.route(0, 1), Some(Via::Relay));
    assert_eq!(world.route(1, 0), Some(Via::Relay));
}

#[test]
fn who_wants_the_relay_only_shows_no_address() {
    shows_no_address(false);
}

#[test]
fn a_policy_for_one_peer_holds_before_that_is_known() {
    shows_no_address(true);
}

#[test]
fn what_is_to_go_directly_waits_for_a_direct_path() {
    let mut world = pair(1, [None, None]);
    let rule = PathPolicy { bulk: ClassRule::DirectOnly, ..PathPolicy::default() };
    world.at(0, |endpoint, _| endpoint.set_policy(None, rule));
    let mut traffic = Traffic::new(&mut world, 0, 1);
    assert!(traffic.exchange(&mut world, seconds(1)));
    world.run_for(seconds(2));
    let (a, b) = (world.outside_ip(0), world.outside_ip(1));
    world.blocked.extend([(a, b), (b, a)]);
    assert!(traffic.exchange(&mut world, seconds(2)), "normal traffic takes the relay");
    assert_eq!(world.route(0, 1), Some(Via::Relay));
    traffic.set_class(&mut world, TrafficClass::Bulk);
    traffic.write(&mut world, 0);
    assert!(!traffic.settle(&mut world, seconds(5)), "bulk does not");
    world.blocked.clear();
    assert!(traffic.settle(&mut world, seconds(16)), "it goes on");
    assert!(world.is_direct(0, 1));
}

#[test]
fn what_goes_two_ways_does_not_notice_when_one_dies() {
    let mut world = pair(1, [None, None]);
    let rule = PathPolicy { control: ClassRule::Duplicate, ..PathPolicy::default() };
    world.at(0, |endpoint, _| endpoint.set_policy(None, rule));
    let mut traffic = Traffic::new(&mut world, 0, 1);
    traffic.set_class(&mut world, TrafficClass::Control);
    assert!(traffic.exchange(&mut world, seconds(1)));
    world.run_for(seconds(2));
    let (a, b) = (world.outside_ip(0), world.outside_ip(1));
    world.blocked.insert((a, b));
    let begin = world.elapsed();
    traffic.write(&mut world, 0);
    assert!(traffic.settle(&mut world, seconds(1)));
    assert!(world.elapsed() - begin <= ms(20), "by the relay, without waiting");
}

#[test]
fn a_clean_relay_is_better_than_a_lossy_path_until_that_is_clean_again() {
    let mut world = pair(1, [None, None]);
    let mut traffic = Traffic::new(&mut world, 0, 1);
    let mut talk = |world: &mut World, time: Duration| {
        let end = world.elapsed() + time;
        while world.elapsed() < end {
            assert!(traffic.exchange(world, seconds(20)));
            world.run_for(ms(20));
        }
    };
    talk(&mut world, seconds(2));
    assert!(world.is_direct(0, 1));
    world.loss = 0.25;
    talk(&mut world, seconds(30));
    assert_eq!(world.route(0, 1), Some(Via::Relay));
    let changes = world.hosts[0].changes.len();
    talk(&mut world, seconds(60));
    assert!(world.hosts[0].changes.len() <= changes + 2, "{:?}", world.hosts[0].changes);
    world.loss = 0.0;
    talk(&mut world, seconds(30));
    assert!(world.is_direct(0, 1) && world.is_direct(1, 0));
}
