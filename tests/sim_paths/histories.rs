//! Things happen to the network; afterwards everything works again, soon.

use std::time::Duration;

use rand::RngExt;

use crate::nat::{Kind, Rule};
use crate::traffic::Traffic;
use crate::world::World;
use crate::{KINDS, is_possible, ms, pair, seconds, with_seeds};

/// After the last thing that happened, so long until bytes flow both ways.
const BACK_WITHIN: Duration = Duration::from_secs(3);
/// And so long until they go directly, if that is possible at all: the round of probes after the
/// one that failed last, and the answers that a path which was dead must give.
const DIRECT_WITHIN: Duration = Duration::from_secs(20);

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    NatReboots(usize),
    HostMoves { host: usize, is_noticed: bool },
    LinkIsCut { host: usize, time: Duration },
    BeaconIsDown(Duration),
    Loss(f64),
    OneWay { from: usize, time: Duration },
    Pause(Duration),
}

fn random_event(world: &mut World) -> Event {
    let host = world.rng.random_range(0..2);
    let time = ms(world.rng.random_range(100..4_000));
    match world.rng.random_range(0..7) {
        0 if !world.nats.is_empty() => {
            Event::NatReboots(world.rng.random_range(0..world.nats.len()))
        }
        1 => Event::HostMoves { host, is_noticed: world.rng.random_bool(0.7) },
        2 => Event::LinkIsCut { host, time },
        3 => Event::BeaconIsDown(time),
        4 => Event::Loss(world.rng.random_range(0.0..0.2)),
        5 => Event::OneWay { from: host, time },
        _ => Event::Pause(ms(world.rng.random_range(100..60_000))),
    }
}

fn play(world: &mut World, traffic: &mut Traffic, event: Event) {
    let mut talk = |world: &mut World, time: Duration| {
        let end = world.elapsed() + time;
        while world.elapsed() < end {
            let writer = world.rng.random_range(0..2);
            traffic.write(world, writer);
            traffic.read(world);
            let pause = ms(world.rng.random_range(1..200)).min(end - world.elapsed());
            world.run_for(pause);
        }
    };
    match event {
        Event::NatReboots(nat) => world.nats[nat].1.reboot(),
        Event::HostMoves { host, is_noticed } => world.renumber(host, is_noticed),
        Event::LinkIsCut { host, time } => {
            world.hosts[host].is_cut = true;
            talk(world, time);
            world.hosts[host].is_cut = false;
        }
        Event::BeaconIsDown(time) => {
            world.beacon_is_down = true;
            talk(world, time);
            world.beacon_is_down = false;
        }
        Event::Loss(loss) => world.loss = loss,
        Event::OneWay { from, time } => {
            let to = 1 - from;
            let pair = (world.outside_ip(from), world.outside_ip(to));
            world.blocked.insert(pair);
            talk(world, time);
            world.blocked.clear();
        }
        Event::Pause(time) => world.run_for(time),
    }
    talk(world, ms(200));
}

#[test]
fn whatever_happens_both_ends_are_on_working_paths_soon_after() {
    with_seeds(300, |seed| {
        let mut world = World::new(seed);
        let mut kinds = [None; 2];
        for kind in &mut kinds {
            *kind = KINDS[world.rng.random_range(0..KINDS.len())].1.map(|kind| Kind {
                preserves_ports: world.rng.random_bool(0.5),
                lifetime: seconds(world.rng.random_range(20..120)),
                ..kind
            });
            let network = kind.map(|kind| world.add_nat(kind, None));
            world.add_host(network);
        }
        world.latency = ms(world.rng.random_range(1..80));
        world.run_for(seconds(1));
        let mut traffic = Traffic::new(&mut world, 0, 1);
        assert!(traffic.exchange(&mut world, seconds(3)), "{kinds:?}");
        let events: Vec<Event> = (0..world.rng.random_range(1..6))
            .map(|_| {
                let event = random_event(&mut world);
                play(&mut world, &mut traffic, event);
                event
            })
            .collect();
        let story = format!("{kinds:?} {:?}: {events:?}", world.latency);
        world.loss = 0.0;
        // Where only one end knows that something happened, the other must speak to learn it.
        let end = world.elapsed() + BACK_WITHIN;
        while world.elapsed() < end {
            traffic.write(&mut world, 0);
            traffic.write(&mut world, 1);
            world.run_for(ms(100));
        }
        assert!(traffic.settle(&mut world, seconds(1)), "not back: {story} {}", world.describe());
        let begin = world.elapsed();
        assert!(traffic.exchange(&mut world, seconds(1)), "not well: {story}");
        assert!(world.elapsed() - begin < ms(400) + world.latency * 8, "slow: {story}");
        if is_possible(kinds[0], kinds[1]) {
            let end = world.elapsed() + DIRECT_WITHIN;
            while world.elapsed() < end && !(world.is_direct(0, 1) && world.is_direct(1, 0)) {
                assert!(traffic.exchange(&mut world, seconds(3)));
                world.run_for(ms(100));
            }
            assert!(
                world.is_direct(0, 1) && world.is_direct(1, 0),
                "not direct: {story} {}",
                world.describe()
            );
        }
        let changes = world.hosts.iter().map(|host| host.changes.len()).max().unwrap();
        assert!(changes <= 6 + 6 * events.len(), "{changes} changes: {story}");
    });
}

/// There is traffic for so long before something happens. Who is idle does not notice that its NAT
/// was rebooted before it tells the beacon next where it is.
const WARM_UP: Duration = Duration::from_millis(500);

/// How long a stream stands still: the time between two arrivals at `reader`.
fn longest_pause(
    world: &mut World,
    traffic: &mut Traffic,
    time: Duration,
    happen: impl FnOnce(&mut World),
) -> Duration {
    let (begin, mut last, mut longest) = (world.elapsed(), world.elapsed(), Duration::ZERO);
    let mut happen = Some(happen);
    while world.elapsed() < begin + WARM_UP + time {
        if world.elapsed() >= begin + WARM_UP
            && let Some(happen) = happen.take()
        {
            happen(world);
        }
        let before = traffic.read[1];
        traffic.write(world, 0);
        world.run_for(ms(10));
        traffic.read(world);
        if traffic.read[1] > before {
            longest = longest.max(world.elapsed() - last);
            last = world.elapsed();
        }
    }
    longest.max(world.elapsed() - last)
}

#[test]
fn a_direct_path_that_dies_is_left_for_the_relay_within_a_few_round_trips() {
    let mut world = pair(1, [Some(Kind::PORT_RESTRICTED); 2]);
    let mut traffic = Traffic::new(&mut world, 0, 1);
    assert!(traffic.exchange(&mut world, seconds(1)));
    world.run_for(seconds(2));
    assert!(world.is_direct(0, 1));
    let pause = longest_pause(&mut world, &mut traffic, seconds(3), |world| {
        let (a, b) = (world.outside_ip(0), world.outside_ip(1));
        world.blocked.extend([(a, b), (b, a)]);
    });
    assert!(pause < ms(300), "{pause:?} {}", world.describe());
    assert!(traffic.settle(&mut world, seconds(1)));
}

#[test]
fn a_nat_that_reboots_or_an_address_that_changes_stops_a_stream_for_less_than_a_second() {
    for kind in [Kind::FULL_CONE, Kind::PORT_RESTRICTED] {
        for victim in [0, 1] {
            for moves in [false, true] {
                let mut world = pair(1, [Some(kind); 2]);
                let mut traffic = Traffic::new(&mut world, 0, 1);
                assert!(traffic.exchange(&mut world, seconds(1)));
                world.run_for(seconds(2));
                let pause = longest_pause(&mut world, &mut traffic, seconds(4), |world| {
                    if moves {
                        world.renumber(victim, true);
                    } else {
                        world.nats[victim].1.reboot();
                    }
                });
                let case = (kind.filtering == Rule::Independent, victim, moves);
                assert!(pause < ms(1_000), "{case:?}: {pause:?} {}", world.describe());
                assert!(traffic.settle(&mut world, seconds(1)));
                assert!(world.is_direct(0, 1) && world.is_direct(1, 0), "{case:?}");
            }
        }
    }
}

#[test]
fn a_link_that_was_cut_is_used_again_at_once() {
    for time in [500, 2_000, 5_000] {
        let mut world = pair(1, [Some(Kind::PORT_RESTRICTED), None]);
        let mut traffic = Traffic::new(&mut world, 0, 1);
        assert!(traffic.exchange(&mut world, seconds(1)));
        world.run_for(seconds(2));
        world.hosts[0].is_cut = true;
        longest_pause(&mut world, &mut traffic, ms(time), |_| ());
        let begin = world.elapsed();
        world.hosts[0].is_cut = false;
        assert!(traffic.settle(&mut world, seconds(3)));
        let took = world.elapsed() - begin;
        assert!(took < ms(1_000), "{time} ms: {took:?}");
    }
}

#[test]
fn without_the_beacon_direct_paths_go_on() {
    let mut world = pair(1, [Some(Kind::PORT_RESTRICTED); 2]);
    let mut traffic = Traffic::new(&mut world, 0, 1);
    assert!(traffic.exchange(&mut world, seconds(1)));
    world.run_for(seconds(2));
    world.beacon_is_down = true;
    let pause = longest_pause(&mut world, &mut traffic, seconds(60), |_| ());
    assert!(pause < ms(50), "{pause:?}");
}
