//! Streams over simulated links: more than a thousand random schedules, each of which must end
//! with every byte delivered once and in order, or with a clear error.
//!
//! A failing schedule prints its seed; `PILOT_SIM_SEED=<seed> cargo test --test sim_stream`
//! plays it alone, and with `PILOT_SIM_TRACE=1` every segment is printed.

mod sim {
    pub(crate) mod end;
    pub(crate) mod go_peer;
    pub(crate) mod link;
    pub(crate) mod pair;
    pub(crate) mod throughput;
}

use std::time::{Duration, Instant};

use pilot_agent::proto::stream::{Stream, StreamError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sim::end::{End, Plan, random_config};
use sim::go_peer::GoPeer;
use sim::link::{self, LinkParams};
use sim::pair::{Pair, Side};
use sim::throughput;

/// Schedules between two of our streams, and between one and a peer with a Go node's habits.
const NATIVE_SCHEDULES: u64 = 900;
const GO_SCHEDULES: u64 = 400;

#[test]
fn every_schedule_between_our_nodes_ends_well_or_with_a_clear_error() {
    let failures = for_each_seed(0, NATIVE_SCHEDULES, play_native);
    assert!(failures * 50 < NATIVE_SCHEDULES, "{failures} links were too bad");
}

#[test]
fn every_schedule_with_a_go_node_ends_well_or_with_a_clear_error() {
    let failures = for_each_seed(1_000_000, GO_SCHEDULES, play_go);
    assert!(failures * 50 < GO_SCHEDULES, "{failures} links were too bad");
}

#[test]
fn a_link_that_dies_ends_both_streams_with_a_clear_error() {
    for_each_seed(2_000_000, 50, |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = Instant::now();
        let dead_after = Some(Duration::from_millis(rng.random_range(0..2000)));
        // So slow that nothing is done before it dies.
        let (rate, queue) = (Some(5_000_000), Some(200_000));
        let params =
            LinkParams { dead_after, rate, queue, ..LinkParams::clean(Duration::from_millis(20)) };
        let plans = random_plans(&mut rng, 30_000_000, true);
        let sides = native_sides(now, plans, &mut rng);
        let mut pair = Pair::new(sides, [params; 2], now, rng);
        pair.play();
        for end in pair.ends() {
            assert!(!end.is_complete() || end.plan.to_write + end.plan.to_read == 0);
            let closed = end.closed.flatten().expect("an error");
            assert!(matches!(
                closed,
                StreamError::TimedOut { .. } | StreamError::IdleTimeout { .. }
            ));
        }
        true
    });
}

#[test]
fn an_abort_in_mid_stream_reaches_the_other_end() {
    for_each_seed(3_000_000, 50, |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = Instant::now();
        let mut plans = random_plans(&mut rng, 500_000, true);
        plans[1].abort_at = Some(rng.random_range(0..plans[1].to_read));
        plans[0].half_close = true;
        let params = [link::random(&mut rng), link::random(&mut rng)];
        let sides = native_sides(now, plans, &mut rng);
        let mut pair = Pair::new(sides, params, now, rng);
        pair.play();
        let closed: Vec<_> = pair.ends().map(|end| end.closed.flatten()).collect();
        assert!(closed.len() == 2 && closed[1] == Some(StreamError::Aborted), "{closed:?}");
        // RST is sent once: if it is lost, silence says the same later.
        assert!(closed[0].is_some(), "{closed:?}");
        true
    });
}

#[test]
fn throughput_is_what_loss_and_buffer_allow() {
    let rtt = 0.040;
    for loss in [0.0, 0.001, 0.01, 0.05] {
        for buffer in [64 * 1024, 1024 * 1024, 4 * 1024 * 1024] {
            let got = throughput::goodput(3_000_000, loss, buffer);
            println!("loss {loss}, buffer {buffer}: {:.2} MB/s", got / 1e6);
            // A window each round trip; or what AIMD gets (Mathis et al., 1997).
            let window = buffer as f64 / rtt;
            let aimd = if loss > 0.0 { 1152.0 / rtt * 1.22 / loss.sqrt() } else { 5_000_000.0 };
            let least = window.min(aimd) * 0.4;
            assert!(got > least, "{got} B/s, {least} at least, loss {loss}, buffer {buffer}");
        }
    }
}

/// Plays seeds from `first` on, or only the one of the environment if it is among them. Returns
/// how many schedules ended with an error.
fn for_each_seed(first: u64, count: u64, play: impl Fn(u64) -> bool) -> u64 {
    let only = std::env::var("PILOT_SIM_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = (first..first + count).filter(|seed| only.is_none_or(|only| only == *seed));
    let mut failures = 0;
    for seed in seeds {
        let announce = Announce(seed);
        if !play(seed) {
            println!("seed {seed} ended with an error");
            failures += 1;
        }
        drop(announce);
    }
    failures
}

/// Says which seed it was when a schedule fails.
struct Announce(u64);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("seed {seed} failed: PILOT_SIM_SEED={seed} cargo test --test sim_stream");
        }
    }
}

fn random_plans(rng: &mut StdRng, most: u64, busy: bool) -> [Plan; 2] {
    let amount = |rng: &mut StdRng| {
        let least = if busy { most / 2 } else { 0 };
        match rng.random_range(0..4) {
            0 if !busy => 0,
            1 if !busy => rng.random_range(1..100),
            2 if !busy => rng.random_range(1..most / 10 + 2),
            _ => rng.random_range(least..=most),
        }
    };
    let amounts = [amount(rng), amount(rng)];
    [0, 1].map(|index| {
        let write_size = [1 + rng.random_range(0..200), 4000, 100_000][rng.random_range(0..3)];
        // Tiny writes of much data would only take long.
        let write_size = write_size.max((amounts[index] / 400) as usize + 1);
        let slow = !busy && rng.random_bool(0.3);
        let pause = |rng: &mut StdRng, most: u64| Duration::from_micros(rng.random_range(0..most));
        let read_pause = if slow { pause(rng, 200_000) } else { Duration::ZERO };
        let read_from = if slow { pause(rng, 5_000_000) } else { Duration::ZERO };
        let write_pause = if rng.random_bool(0.3) { pause(rng, 20_000) } else { Duration::ZERO };
        Plan {
            to_write: amounts[index],
            to_read: amounts[1 - index],
            write_size,
            write_pause,
            read_size: if slow { 8192 } else { 65_536 },
            read_pause,
            read_from,
            half_close: rng.random_bool(0.7),
            abort_at: None,
        }
    })
}

fn native_sides(now: Instant, plans: [Plan; 2], rng: &mut StdRng) -> [Side; 2] {
    let dialer = End::new(now, 0, Stream::connect(now, random_config(rng)), plans[0]);
    [Side::Ours(Box::new(dialer)), Side::Listening(random_config(rng), plans[1])]
}

fn play_native(seed: u64) -> bool {
    let mut rng = StdRng::seed_from_u64(seed);
    let now = Instant::now();
    let mut plans = random_plans(&mut rng, 300_000, false);
    // Ends that do not finish must know how much to expect; both kinds together would not.
    plans[1].half_close = plans[0].half_close;
    let params = [link::random(&mut rng), link::random(&mut rng)];
    let sides = native_sides(now, plans, &mut rng);
    let mut pair = Pair::new(sides, params, now, rng);
    pair.play();
    check(&pair)
}

fn play_go(seed: u64) -> bool {
    let mut rng = StdRng::seed_from_u64(seed);
    let now = Instant::now();
    let mut plans = random_plans(&mut rng, 300_000, false);
    let params = [link::random(&mut rng), link::random(&mut rng)];
    let we_dial = rng.random_bool(0.5);
    // Whether the Go node closes first, by itself; half close it has not.
    plans[usize::from(!we_dial)].half_close = false;
    let sides = if we_dial {
        let stream = Stream::connect(now, random_config(&mut rng));
        let ours = End::new(now, 0, stream, plans[0]);
        [Side::Ours(Box::new(ours)), Side::Go(Box::new(GoPeer::new(now, 1, false, plans[1])))]
    } else {
        let go = GoPeer::new(now, 0, true, plans[0]);
        [Side::Go(Box::new(go)), Side::Listening(random_config(&mut rng), plans[1])]
    };
    let mut pair = Pair::new(sides, params, now, rng);
    pair.play();
    check(&pair)
}

/// Whether the schedule ended well; if not, every end of ours must know.
fn check(pair: &Pair) -> bool {
    let complete = pair.sides.iter().all(|side| match side {
        Side::Ours(end) => end.is_complete(),
        Side::Go(peer) => peer.is_complete(),
        // A dialer that has nothing to say may close before anybody hears of it.
        Side::Listening(_, plan) => plan.to_write + plan.to_read == 0,
    });
    if complete {
        return true;
    }
    for end in pair.ends().filter(|end| !end.is_complete()) {
        assert!(end.error.is_some() || end.closed.flatten().is_some(), "{}", pair.describe());
    }
    false
}
