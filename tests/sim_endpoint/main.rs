//! Whole endpoints and messengers in a virtual network, with seeds: `PILOT_SIM_SEED=n` replays one.

mod go_node;
mod messages;
mod path_mtu;
mod turns;
mod world;

use std::collections::HashMap;
use std::time::Duration;

use pilot_agent::proto::endpoint::EndpointEvent;
use pilot_agent::proto::messenger::{Content, Outcome};
use pilot_agent::proto::path::Via;
use pilot_agent::proto::stream::StreamError;
use rand::RngExt;
use world::{Link, World};

const LAN: Link = Link {
    latency: Duration::from_millis(10),
    jitter: Duration::ZERO,
    loss: 0.0,
    duplicate: 0.0,
    corrupt: 0.0,
};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Runs a story with many seeds, or the one in the environment; a failure names its seed.
fn with_seeds(count: u64, story: impl Fn(u64) + std::panic::RefUnwindSafe) {
    if let Some(seed) = std::env::var("PILOT_SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return story(seed);
    }
    for seed in 0..count {
        if let Err(panic) = std::panic::catch_unwind(|| story(seed)) {
            eprintln!("failed with seed {seed}; replay with PILOT_SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn text(text: &str) -> Content {
    Content { data: text.to_owned().into(), ..Content::default() }
}

#[test]
fn a_new_peer_answers_within_two_round_trips() {
    let mut world = World::new(1, LAN);
    let (a, b) = (world.add_host(), world.add_host());
    world.run_for(seconds(1));
    world.introduce(a, b);
    let to = world.hosts[b].here();
    let begin = world.elapsed();
    let ticket = world
        .at(a, |host, now| host.messenger.request(now, &mut host.endpoint, to, text("?"), None));
    let answered = world.run_until(seconds(5), |world| {
        let request = world.at(b, |host, now| host.messenger.take_request(now, &mut host.endpoint));
        if let Some(request) = request {
            world.at(b, |host, now| {
                host.messenger.reply(now, &mut host.endpoint, request.ticket, Ok(text("!")));
            });
        }
        world.hosts[a].outcomes.contains_key(&ticket.number)
    });
    assert!(answered);
    assert_eq!(world.hosts[a].outcomes[&ticket.number], Outcome::Replied(text("!")));
    let round_trips = (world.elapsed() - begin).as_secs_f64() / 0.02;
    assert!(round_trips < 2.1, "{round_trips} round trips");
}

#[test]
fn a_known_peer_answers_within_one_round_trip() {
    let mut world = World::new(1, LAN);
    let (a, b) = (world.add_host(), world.add_host());
    world.introduce(a, b);
    let to = world.hosts[b].here();
    world.at(a, |host, now| host.endpoint.warm_up(now, to.node));
    world.run_for(seconds(1));
    world.at(b, |host, _| host.endpoint.listen(9));
    let begin = world.elapsed();
    let stream = world.at(a, |host, now| {
        let id = host.endpoint.connect(now, to, 9, true).unwrap();
        host.endpoint.write(now, id, b"?").unwrap();
        id
    });
    let mut accepted = None;
    let answered = world.run_until(seconds(5), |world| {
        world.at(b, |host, now| {
            accepted = accepted.or_else(|| host.endpoint.accept(9));
            if let Some(id) = accepted
                && let Ok(Some(data)) = host.endpoint.read_chunk(now, id, 100)
            {
                host.endpoint.write(now, id, &data).unwrap();
            }
        });
        world.at(a, |host, now| {
            matches!(host.endpoint.read_chunk(now, stream, 100), Ok(Some(data)) if data == "?"[..])
        })
    });
    assert!(answered);
    let round_trips = (world.elapsed() - begin).as_secs_f64() / 0.02;
    assert!(round_trips < 1.1, "{round_trips} round trips");
}

/// Many messages over a bad link, while processes restart: each arrives once for each process
/// that it was acknowledged by, none is lost, none comes twice.
#[test]
fn messages_arrive_once_whatever_the_link_does() {
    with_seeds(150, |seed| {
        let mut world = World::new(seed, LAN);
        world.link = Link::random(&mut world.rng);
        let (a, b) = (world.add_host(), world.add_host());
        world.introduce(a, b);
        let to = world.hosts[b].here();
        let mut waiting = HashMap::new();
        let mut seen: HashMap<String, u32> = HashMap::new();
        let count = world.rng.random_range(5..60);
        for n in 0..count {
            let name = format!("message {n}");
            let size =
                if world.rng.random_bool(0.1) { world.rng.random_range(0..60_000) } else { 0 };
            let content = text(&(name.clone() + &" ".repeat(size)));
            let ticket = world
                .at(a, |host, now| host.messenger.send(now, &mut host.endpoint, to, content, None));
            waiting.insert(ticket.number, name);
            if world.rng.random_bool(0.3) {
                let pause = Duration::from_millis(world.rng.random_range(0..300));
                world.run_for(pause);
            }
        }
        let done = world.run_until(seconds(120), |world| {
            while let Some(message) =
                world.at(b, |host, now| host.messenger.take_message(now, &mut host.endpoint))
            {
                let name = String::from_utf8(message.content.data.to_vec()).unwrap();
                *seen.entry(name.trim_end().to_owned()).or_default() += 1;
            }
            waiting.keys().all(|number| world.hosts[a].outcomes.contains_key(number))
        });
        assert!(done, "not all were answered: {:?}", world.link);
        for (number, name) in &waiting {
            assert_eq!(world.hosts[a].outcomes[number], Outcome::Delivered, "{name}");
            assert_eq!(seen.get(name), Some(&1), "{name}");
        }
    });
}

#[test]
fn a_restarted_peer_is_noticed_within_a_round_trip_and_a_timer() {
    with_seeds(40, |seed| {
        let mut world = World::new(seed, LAN);
        let (a, b) = (world.add_host(), world.add_host());
        world.introduce(a, b);
        world.at(b, |host, _| host.endpoint.listen(9));
        let to = world.hosts[b].here();
        let old = world.at(a, |host, now| {
            let id = host.endpoint.connect(now, to, 9, true).unwrap();
            host.endpoint.write(now, id, b"hello").unwrap();
            id
        });
        world.run_for(seconds(2));
        world.restart(b);
        world.at(b, |host, _| host.endpoint.listen(9));
        // Half of the time the restarted peer speaks first, else we do.
        if seed % 2 == 0 {
            world.introduce(b, a);
            let back = world.hosts[a].node;
            world.at(b, |host, now| host.endpoint.warm_up(now, back));
        } else {
            let written = world.at(a, |host, now| host.endpoint.write(now, old, b"more"));
            assert_eq!(written, Ok(4));
        }
        let noticed = world.run_until(seconds(3), |world| world.hosts[a].closed(old).is_some());
        assert!(noticed, "the old stream goes on");
        assert_eq!(world.hosts[a].closed(old), Some(Some(StreamError::PeerRestarted)));
        let again = world.at(a, |host, now| {
            let id = host.endpoint.connect(now, to, 9, true).unwrap();
            host.endpoint.write(now, id, b"again").unwrap();
            id
        });
        let mut data = Vec::new();
        let mut accepted = None;
        let arrived = world.run_until(seconds(3), |world| {
            world.at(b, |host, now| {
                accepted = accepted.or_else(|| host.endpoint.accept(9));
                if let Some(id) = accepted
                    && let Ok(Some(chunk)) = host.endpoint.read_chunk(now, id, 100)
                {
                    data.extend_from_slice(&chunk);
                }
            });
            data == b"again"
        });
        assert!(arrived, "a new stream does not work: {:?}", world.hosts[a].closed(again));
    });
}

#[test]
fn a_stream_that_is_opened_to_a_restarted_peer_gets_through() {
    with_seeds(40, |seed| {
        let mut world = World::new(seed, LAN);
        let (a, b) = (world.add_host(), world.add_host());
        world.introduce(a, b);
        let to = world.hosts[b].here();
        world.at(a, |host, now| host.endpoint.warm_up(now, to.node));
        world.run_for(seconds(2));
        world.restart(b);
        world.at(b, |host, _| host.endpoint.listen(9));
        // The dialer does not know yet: its SYN is sealed with a key that is gone.
        world.at(a, |host, now| {
            let id = host.endpoint.connect(now, to, 9, true).unwrap();
            host.endpoint.write(now, id, b"all of it").unwrap();
            id
        });
        let mut data = Vec::new();
        let mut accepted = None;
        let arrived = world.run_until(seconds(5), |world| {
            world.at(b, |host, now| {
                accepted = accepted.or_else(|| host.endpoint.accept(9));
                if let Some(id) = accepted
                    && let Ok(Some(chunk)) = host.endpoint.read_chunk(now, id, 100)
                {
                    data.extend_from_slice(&chunk);
                }
            });
            data == b"all of it"
        });
        assert!(arrived, "it got {data:?}");
    });
}

#[test]
fn messages_go_on_when_either_side_restarts() {
    with_seeds(60, |seed| {
        let mut world = World::new(seed, LAN);
        world.link = Link { loss: 0.02, ..LAN };
        let (a, b) = (world.add_host(), world.add_host());
        world.introduce(a, b);
        let to = world.hosts[b].here();
        for round in 0..6 {
            let ticket = world.at(a, |host, now| {
                host.messenger.send(now, &mut host.endpoint, to, text("hello"), None)
            });
            // In mid-conversation: perhaps before it arrived, perhaps after.
            let pause = Duration::from_millis(world.rng.random_range(0..80));
            world.run_for(pause);
            if round % 2 == 0 {
                world.restart(b);
            }
            let delivered = world.run_until(seconds(20), |world| {
                world.hosts[a].outcomes.get(&ticket.number) == Some(&Outcome::Delivered)
            });
            assert!(delivered, "round {round}: {:?}", world.hosts[a].outcomes.get(&ticket.number));
            if round == 3 {
                world.restart(a);
                world.introduce(a, b);
            }
        }
    });
}

#[test]
fn without_a_direct_path_the_relay_serves_and_with_one_it_is_left() {
    let mut world = World::new(3, LAN);
    let (a, b) = (world.add_host(), world.add_host());
    world.run_for(seconds(1));
    world.block(a, b);
    world.introduce(a, b);
    let to = world.hosts[b].here();
    let ticket = world.at(a, |host, now| {
        host.messenger.send(now, &mut host.endpoint, to, text("by relay"), None)
    });
    let delivered = world.run_until(seconds(5), |world| {
        world.hosts[a].outcomes.get(&ticket.number) == Some(&Outcome::Delivered)
    });
    assert!(delivered && world.elapsed() < seconds(4), "{:?}", world.elapsed());
    assert_eq!(world.hosts[a].endpoint.route(to.node), Some(Via::Relay));
    world.blocked.clear();
    let direct = Some(Via::Direct(world.hosts[b].addr.into()));
    let is_direct =
        world.run_until(seconds(20), |world| world.hosts[a].endpoint.route(to.node) == direct);
    assert!(is_direct, "the direct path is not found again");
}

#[test]
fn pings_alone_find_the_relay() {
    let mut world = World::new(3, LAN);
    let (a, b) = (world.add_host(), world.add_host());
    world.run_for(seconds(1));
    world.block(a, b);
    world.introduce(a, b);
    let to = world.hosts[b].node;
    world.at(a, |host, now| host.endpoint.ping(now, to)).expect("known");
    world.run_for(seconds(2));
    assert_eq!(world.hosts[a].endpoint.route(to), Some(Via::Relay));
}

#[test]
fn an_idle_stream_is_kept_alive_by_few_packets_and_still_works() {
    for blocked in [false, true] {
        let mut world = World::new(5, LAN);
        let (a, b) = (world.add_host(), world.add_host());
        world.run_for(seconds(1));
        if blocked {
            world.block(a, b);
        }
        world.introduce(a, b);
        let to = world.hosts[b].here();
        world.at(b, |host, _| host.endpoint.listen(9));
        let stream = world.at(a, |host, now| {
            let id = host.endpoint.connect(now, to, 9, true).unwrap();
            host.endpoint.write(now, id, b"first").unwrap();
            id
        });
        world.run_for(seconds(10));
        let other = world.at(b, |host, _| host.endpoint.accept(9)).expect("accepted");
        let before = world.datagrams;
        world.run_for(seconds(600));
        let idle = world.datagrams - before;
        assert!((20..500).contains(&idle), "{idle} datagrams in 10 minutes, blocked: {blocked}");
        world.at(a, |host, now| host.endpoint.write(now, stream, b"last").unwrap());
        let arrived = world.run_until(seconds(5), |world| {
            world.at(b, |host, now| {
                let data = host.endpoint.read_chunk(now, other, 100);
                matches!(data, Ok(Some(data)) if data.ends_with(b"last"))
            })
        });
        assert!(arrived, "blocked: {blocked}");
    }
}

#[test]
fn a_peer_that_is_not_there_is_reported() {
    let mut world = World::new(4, LAN);
    let (a, b) = (world.add_host(), world.add_host());
    world.introduce(a, b);
    world.block(a, b);
    let to = world.hosts[b].here();
    world.hosts.pop();
    let stream = world.at(a, |host, now| host.endpoint.connect(now, to, 9, true).unwrap());
    let ended = world.run_until(seconds(40), |world| world.hosts[a].closed(stream).is_some());
    assert!(ended, "it waits for ever");
    let why = world.hosts[a].closed(stream).unwrap().unwrap();
    assert!(matches!(why, StreamError::PeerUnreachable | StreamError::TimedOut { .. }), "{why}");
}

#[test]
fn garbage_forgery_and_replay_change_nothing() {
    with_seeds(30, |seed| {
        let mut world = World::new(seed, LAN);
        let (a, b) = (world.add_host(), world.add_host());
        world.introduce(a, b);
        let to = world.hosts[b].here();
        let ticket = world.at(a, |host, now| {
            host.messenger.send(now, &mut host.endpoint, to, text("first"), None)
        });
        world.run_until(seconds(5), |world| world.hosts[a].outcomes.contains_key(&ticket.number));
        let (from, victim) = (world.hosts[a].addr, world.hosts[b].addr);
        let mut recorded = Vec::new();
        for n in 0..400u32 {
            let mut data: Vec<u8> =
                (0..world.rng.random_range(1..200)).map(|_| world.rng.random()).collect();
            if data.len() > 8 && n % 2 == 0 {
                let magic = [b"PILS", b"PILA", b"PILK", b"PILT", b"PILP"][n as usize / 2 % 5];
                data[..4].copy_from_slice(magic);
                let node = world.hosts[a].node.0.to_be_bytes();
                data[4..8].copy_from_slice(&node);
            }
            recorded.push(data.clone());
            world.launch(from, victim, data);
        }
        for data in recorded {
            world.launch(victim, from, data);
        }
        world.run_for(seconds(2));
        let ticket = world.at(a, |host, now| {
            host.messenger.send(now, &mut host.endpoint, to, text("second"), None)
        });
        let delivered = world.run_until(Duration::from_millis(200), |world| {
            world.hosts[a].outcomes.get(&ticket.number) == Some(&Outcome::Delivered)
        });
        assert!(delivered, "disturbed");
        let restarted = |host: &world::Host| {
            host.events.iter().any(|event| matches!(event, EndpointEvent::PeerRestarted(_)))
        };
        assert!(!world.hosts.iter().any(restarted));
    });
}

#[test]
fn a_stream_waits_for_a_way_to_its_peer() {
    let mut world = World::new(5, LAN);
    let (a, b) = (world.add_host(), world.add_host());
    world.at(b, |host, _| host.endpoint.listen(9));
    world.at(a, |host, _| host.endpoint.set_beacon(None));
    let (node, mut record) = world.record(b);
    let endpoint = record.endpoint.take();
    let to = world.hosts[b].here();
    let stream = world.at(a, |host, now| {
        host.endpoint.set_peer(now, node, &record);
        host.endpoint.connect(now, to, 9, true).unwrap()
    });
    world.run_for(seconds(2));
    record.endpoint = endpoint;
    world.at(a, |host, now| host.endpoint.set_peer(now, node, &record));
    let is_open = world.run_until(seconds(3), |world| {
        world.hosts[a].endpoint.stream(stream).is_some_and(|s| s.dialect().is_some())
    });
    assert!(is_open);
}
