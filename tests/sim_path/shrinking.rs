//! The path carries less, or more, than it did: what is in flight is cut again, and arrives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::proto::stream::StreamConfig;

use crate::wire::{Path, Plan, Wire};

const MS: Duration = Duration::from_millis(1);
const SIZES: [u16; 6] = [60_000, 1200, 9000, 1152, 576, 30_000];
const SEEDS: u64 = 500;

fn config(max_payload: u16) -> Arc<StreamConfig> {
    Arc::new(StreamConfig { max_payload, ..StreamConfig::default() })
}

fn path(max_payload: u16) -> Path {
    Path { latency: 20 * MS, loss: 0.0, reorder: 0.0, duplicate: 0.0, max_payload }
}

fn one_way(to_write: u64) -> [Plan; 2] {
    let rate = u64::MAX;
    [Plan { to_write, rate }, Plan { to_write: 0, rate }]
}

#[test]
fn what_a_black_hole_swallowed_is_sent_again_in_pieces_at_once() {
    let mut wire = Wire::new(&config(60_000), path(60_000), one_way(20_000_000), 1);
    while wire.read[1] < 10_000_000 {
        wire.step(wire.now + 1000 * MS);
    }
    wire.path.max_payload = 1200;
    let found = wire.now + 90 * MS; // two round trips
    while wire.now < found {
        wire.step(found);
    }
    let swallowed = wire.ends[0].stats().in_flight;
    assert!(swallowed > 100_000, "{}", wire.describe());
    let (before, read_before) = (wire.ends[0].stats(), wire.read[1]);
    wire.ends.iter_mut().for_each(|end| end.set_max_payload(1200));
    let back = found + 45 * MS; // one round trip, and the pace of the link
    while wire.now < back {
        wire.step(back);
    }
    let after = wire.ends[0].stats();
    assert_eq!((after.recuts, after.timeouts), (1, before.timeouts), "{}", wire.describe());
    assert!(wire.read[1] > read_before, "{}", wire.describe());
    while !wire.is_done() {
        wire.step(wire.now + 1000 * MS);
        assert!(wire.now < back + 5000 * MS, "{}", wire.describe());
    }
}

/// A path whose size changes again and again, ends that learn of it some time later, and loss,
/// reordering and duplication on top. Returns how often segments were cut again.
fn play(seed: u64) -> u64 {
    let rate = u64::MAX;
    let amount = [100_000, 1_000_000, 4_000_000][(seed % 3) as usize];
    let plans = [Plan { to_write: amount, rate }, Plan { to_write: amount / 3, rate }];
    let mut wire = Wire::new(&config(1152), path(1152), plans, seed);
    wire.path.latency = wire.pick(&[MS / 2, 10 * MS, 60 * MS]);
    wire.path.loss = wire.pick(&[0.0, 0.01, 0.08]);
    wire.path.reorder = wire.pick(&[0.0, 0.05, 0.3]);
    wire.path.duplicate = wire.pick(&[0.0, 0.1]);
    let round_trip = wire.path.latency * 2;
    let limit = wire.start + Duration::from_secs(1800);
    let step = Duration::from_secs(10);
    while !wire.is_done() {
        let size = wire.pick(&SIZES);
        let ms = u64::try_from((round_trip * 12).as_millis()).expect("short") + 1;
        let (change, lag) = (wire.pick_ms(ms), wire.pick_ms(ms / 3 + 1));
        // Larger segments are sent only once the path is known to carry them.
        let grows = size > wire.path.max_payload;
        wire.path.max_payload = size;
        let learns = wire.now + if grows { Duration::ZERO } else { lag };
        run_until(&mut wire, learns, step);
        wire.ends.iter_mut().for_each(|end| end.set_max_payload(size));
        let until = learns + change;
        run_until(&mut wire, until, step);
        assert!(wire.now < limit, "seed {seed} stalled: {}", wire.describe());
    }
    wire.ends.iter().map(|end| end.stats().recuts).sum()
}

fn run_until(wire: &mut Wire, until: Instant, step: Duration) {
    while wire.now < until && !wire.is_done() {
        wire.step(until.min(wire.now + step));
    }
}

#[test]
fn every_schedule_of_growing_and_shrinking_paths_delivers_every_byte() {
    let recuts: u64 = (0..SEEDS)
        .map(|seed| {
            println!("seed {seed}");
            play(seed)
        })
        .sum();
    println!("{recuts} recuts");
    assert!(recuts > SEEDS, "schedules that exercise nothing: {recuts} recuts");
}
