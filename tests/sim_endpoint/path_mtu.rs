//! Segments grow to what the path carries, and shrink when it carries less.

use std::time::Duration;

use pilot_agent::proto::endpoint::StreamId;
use pilot_agent::proto::path::Via;
use pilot_agent::proto::pmtud::MtuState;

use crate::world::{Link, World};
use crate::{LAN, seconds, with_seeds};

/// What every path carries, direct and relayed.
const BASE: u16 = 1_152;
const PORT: u16 = 9;

/// A stream between two hosts that know each other, and how much of it arrived.
struct Transfer {
    world: World,
    a: usize,
    b: usize,
    stream: StreamId,
    other: Option<StreamId>,
    written: usize,
    arrived: usize,
}

impl Transfer {
    fn new(seed: u64, link: Link, mtu: usize) -> Self {
        let mut world = World::new(seed, link);
        world.mtu = mtu;
        let (a, b) = (world.add_host(), world.add_host());
        world.run_for(seconds(1));
        Self::between(world, a, b)
    }

    fn between(mut world: World, a: usize, b: usize) -> Self {
        world.introduce(a, b);
        world.at(b, |host, _| host.endpoint.listen(PORT));
        let to = world.hosts[b].here();
        let stream = world.at(a, |host, now| host.endpoint.connect(now, to, PORT, true).unwrap());
        Self { world, a, b, stream, other: None, written: 0, arrived: 0 }
    }

    /// Writes `bytes` more, and reads at the other end, until all has arrived; `false` if that
    /// takes longer than `limit`.
    fn transfer(&mut self, bytes: usize, limit: Duration) -> bool {
        let (goal, stream, a, b) = (self.written + bytes, self.stream, self.a, self.b);
        let (mut written, mut arrived, mut other) = (self.written, self.arrived, self.other);
        let done = self.world.run_until(limit, |world| {
            world.at(a, |host, now| {
                while written < goal {
                    let chunk: Vec<u8> = (written..goal.min(written + 20_000)).map(byte).collect();
                    match host.endpoint.write(now, stream, &chunk).unwrap() {
                        0 => break,
                        n => written += n,
                    }
                }
            });
            world.at(b, |host, now| {
                other = other.or_else(|| host.endpoint.accept(PORT));
                let Some(id) = other else { return };
                while let Ok(Some(data)) = host.endpoint.read_chunk(now, id, 1 << 20) {
                    assert!(data.iter().enumerate().all(|(i, b)| *b == byte(arrived + i)));
                    arrived += data.len();
                }
            });
            arrived == goal
        });
        (self.written, self.arrived, self.other) = (written, arrived, other);
        done
    }

    /// Sends more until the path's size is known.
    fn search(&mut self) {
        let begin = self.world.elapsed();
        while self.state() != Some(MtuState::SearchComplete) {
            assert!(self.transfer(50_000, seconds(5)));
            self.world.run_for(Duration::from_millis(20));
            assert!(self.world.elapsed() < begin + seconds(5), "{:?}", self.state());
        }
    }

    /// Payload of full segments now.
    fn payload(&self) -> u16 {
        let endpoint = &self.world.hosts[self.a].endpoint;
        endpoint.stream(self.stream).unwrap().stats().max_payload
    }

    fn probes(&self) -> u32 {
        let to = self.world.hosts[self.b].node;
        let peer = self.world.hosts[self.a].endpoint.peer(to).unwrap();
        peer.path_mtu().map_or(0, |mtu| mtu.probes_sent())
    }

    fn state(&self) -> Option<MtuState> {
        let to = self.world.hosts[self.b].node;
        self.world.hosts[self.a].endpoint.peer(to)?.path_mtu().map(|mtu| mtu.state())
    }
}

fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

#[test]
fn a_transfer_is_at_full_size_within_a_few_round_trips() {
    for (mtu, payload) in [(1_231, BASE), (1_372, 1_302), (1_472, 1_402), (8_972, 8_902)] {
        let mut transfer = Transfer::new(1, LAN, mtu);
        let begin = transfer.world.elapsed();
        let grown = |transfer: &mut Transfer| {
            while transfer.payload() < payload {
                assert!(transfer.transfer(20_000, seconds(5)));
            }
            (transfer.world.elapsed() - begin).as_secs_f64() / 0.02
        };
        let round_trips = grown(&mut transfer);
        // SYN, the first full segment, a probe; the second of Ethernet's size for jumbo frames.
        // Less than Ethernet takes losses to tell.
        let most = if mtu < 1_472 { 40.0 } else { 8.0 };
        assert!(round_trips < most, "{mtu}: {round_trips} round trips");
        transfer.search();
        assert_eq!(transfer.payload(), payload, "{mtu}");
        assert!(transfer.probes() <= 15, "{mtu}: {} probes", transfer.probes());
    }
}

#[test]
fn small_messages_and_idle_streams_are_never_probed() {
    let mut transfer = Transfer::new(1, LAN, 1_472);
    for _ in 0..20 {
        assert!(transfer.transfer(1_000, seconds(5)));
    }
    transfer.world.run_for(seconds(1_000));
    assert_eq!((transfer.probes(), transfer.state()), (0, None));
    assert!(transfer.world.largest < 1_100);
}

#[test]
fn loss_does_not_keep_a_path_small() {
    with_seeds(40, |seed| {
        let mut transfer = Transfer::new(seed, Link { loss: 0.03, ..LAN }, 1_472);
        assert!(transfer.transfer(1_000_000, seconds(120)));
        assert_eq!(transfer.payload(), 1_402);
    });
}

#[test]
fn a_path_that_became_wider_is_used_when_the_raise_timer_says_so() {
    let mut transfer = Transfer::new(1, LAN, 1_372);
    transfer.search();
    assert_eq!(transfer.payload(), 1_302);
    transfer.world.mtu = 1_472;
    for _ in 0..70 {
        assert!(transfer.transfer(20_000, seconds(5)));
        transfer.world.run_for(seconds(1));
    }
    assert_eq!(transfer.payload(), 1_402);
}

#[test]
fn a_new_stream_starts_with_what_is_known() {
    let mut transfer = Transfer::new(1, LAN, 1_472);
    assert!(transfer.transfer(500_000, seconds(60)));
    let (world, probes) = (&mut transfer.world, transfer.stream);
    let to = world.hosts[transfer.b].here();
    let id = world.at(transfer.a, |host, now| host.endpoint.connect(now, to, PORT, true).unwrap());
    world.run_for(seconds(1));
    assert_ne!(id, probes);
    let stream = world.hosts[transfer.a].endpoint.stream(id).unwrap();
    assert_eq!(stream.stats().max_payload, 1_402);
}

#[test]
fn the_relay_has_a_size_of_its_own() {
    let mut world = World::new(3, LAN);
    world.mtu = 1_472;
    let (a, b) = (world.add_host(), world.add_host());
    world.run_for(seconds(1));
    world.block(a, b);
    let mut transfer = Transfer::between(world, a, b);
    assert!(transfer.transfer(500_000, seconds(60)));
    let to = transfer.world.hosts[b].node;
    assert_eq!(transfer.world.hosts[a].endpoint.route(to), Some(Via::Relay));
    assert_eq!(transfer.payload(), 1_393, "nine bytes less than directly");
    transfer.world.blocked.clear();
    for _ in 0..30 {
        assert!(transfer.transfer(50_000, seconds(10)));
        transfer.world.run_for(seconds(1));
    }
    assert!(matches!(transfer.world.hosts[a].endpoint.route(to), Some(Via::Direct(_))));
    assert_eq!(transfer.payload(), 1_402);
}

/// The path loses what is larger than before, and says nothing.
#[test]
fn a_black_hole_is_noticed_and_what_comes_after_it_gets_through() {
    with_seeds(40, |seed| {
        let link = if seed % 2 == 0 { LAN } else { Link { loss: 0.03, ..LAN } };
        let mut transfer = Transfer::new(seed, link, 8_972);
        transfer.search();
        assert_eq!(transfer.payload(), 8_902);
        transfer.world.mtu = 1_372;
        let begin = transfer.world.elapsed();
        let chunk = vec![0; 100_000];
        let (a, stream) = (transfer.a, transfer.stream);
        transfer.world.at(a, |host, now| host.endpoint.write(now, stream, &chunk).unwrap());
        let to = transfer.world.hosts[transfer.b].node;
        let is_noticed = transfer.world.run_until(seconds(3), |world| {
            world.hosts[a].endpoint.peer(to).and_then(|p| p.path_mtu()).is_some_and(|m| m.is_base())
        });
        assert!(is_noticed);
        let took = transfer.world.elapsed() - begin;
        assert!(took < Duration::from_millis(1_000), "{took:?}");
        let mut next = Transfer::between(transfer.world, a, transfer.b);
        next.world.hosts[next.b].endpoint.accept(PORT);
        assert!(next.transfer(500_000, seconds(20)));
        next.search();
        assert_eq!(next.payload(), 1_302);
    });
}
