//! What the congestion controllers make of links: floors under the figures that
//! `cargo bench --bench congestion` prints. Virtual time and seeds, so the figures do not depend
//! on the machine.

mod bottleneck;
mod matrix;

use std::time::Duration;

use bottleneck::{Loss, Path, jain};
use pilot_agent::proto::stream::CongestionControl::{Bbr, Cubic, NewReno};
use pilot_agent::proto::stream::{CongestionControl, StreamConfig};

const DEFAULT: CongestionControl = Bbr;

fn use_of(congestion: CongestionControl, path: &Path, warm_up: u64, time: u64) -> matrix::Figures {
    let seconds = Duration::from_secs;
    matrix::single(congestion, path, seconds(warm_up), seconds(time))
}

#[test]
fn the_default_fills_the_link_whatever_it_loses() {
    assert_eq!(StreamConfig::default().congestion, DEFAULT);
    for (loss, floor) in [
        (Loss::None, 0.98),
        (Loss::Random(0.001), 0.98),
        (Loss::Random(0.01), 0.95),
        (Loss::Random(0.03), 0.90),
        (Loss::Bursts(0.01), 0.94),
    ] {
        for buffer in [0.25, 1.0, 4.0] {
            let figures = use_of(DEFAULT, &Path::new(100.0, 20, buffer, loss), 1, 5);
            assert!(figures.utilisation > floor, "{loss:?}, buffer {buffer}: {figures:?}");
            assert!(figures.queue < 0.1, "{loss:?}, buffer {buffer}: {figures:?}");
        }
    }
}

#[test]
fn the_default_fills_long_paths_within_five_seconds() {
    for (path, time) in [
        (Path::new(100.0, 200, 1.0, Loss::None), 5),
        (Path::new(500.0, 100, 1.0, Loss::Random(0.001)), 2),
    ] {
        let figures = use_of(DEFAULT, &path, 5, time);
        assert!(figures.utilisation > 0.93, "{path:?}: {figures:?}");
    }
}

#[test]
fn loss_based_controllers_fill_a_link_that_loses_nothing() {
    for congestion in [Cubic, NewReno] {
        for (buffer, floor) in [(0.25, 0.85), (1.0, 0.98)] {
            let figures = use_of(congestion, &Path::new(100.0, 20, buffer, Loss::None), 1, 8);
            assert!(figures.utilisation > floor, "{congestion}, buffer {buffer}: {figures:?}");
        }
    }
}

#[test]
fn streams_of_one_kind_share_a_link_evenly() {
    for buffer in [0.25, 1.0, 4.0] {
        let path = Path::new(100.0, 20, buffer, Loss::None);
        let (shares, figures) = matrix::shared(&[Bbr; 4], &path, Duration::from_secs(20));
        assert!(jain(&shares) > 0.8, "buffer {buffer}: {shares:?}");
        assert!(figures.utilisation > 0.9, "buffer {buffer}: {figures:?}");
        assert!(figures.dropped < 0.12, "buffer {buffer}: {figures:?}");
    }
}

#[test]
fn many_short_replies_are_quick_and_loss_holds_few_of_them_up() {
    for (loss, half, all) in [(0.0, 190, 230), (0.01, 210, 300), (0.03, 240, 450)] {
        for seed in 0..5 {
            let path = Path::new(1000.0, 20, 1.0, Loss::Random(loss));
            let [p50, _, p100] = matrix::many(DEFAULT, &path, 50, 200 * 1024, seed);
            let ms = Duration::from_millis;
            assert!(p50 < ms(half) && p100 < ms(all), "loss {loss}, {seed}: {p50:?} {p100:?}");
        }
    }
}

#[test]
fn the_default_and_cubic_leave_each_other_something() {
    for buffer in [1.0, 4.0] {
        for pair in [[Bbr, Cubic], [Cubic, Bbr]] {
            let path = Path::new(100.0, 20, buffer, Loss::None);
            let (shares, figures) = matrix::shared(&pair, &path, Duration::from_secs(30));
            assert!(shares.iter().all(|share| *share > 0.15), "{buffer} {pair:?}: {shares:?}");
            assert!(figures.utilisation > 0.9, "{buffer} {pair:?}: {figures:?}");
        }
    }
}

/// A receiver that is put aside for 4 of 20 ms takes 80 %; more would need a window that queues, and
/// holds up everybody else, whenever it is not.
#[test]
fn the_default_never_holds_loopback_back() {
    let ms = Duration::from_millis;
    for (buffer, pause, floor) in
        [(4_000_000, ms(0), 0.97), (4_000_000, ms(4), 0.77), (400_000, ms(4), 0.77)]
    {
        let path = Path::loopback(buffer, pause);
        let figures = matrix::single(DEFAULT, &path, ms(50), ms(200));
        assert!(figures.utilisation > floor, "{buffer} {pause:?}: {figures:?}");
        assert!(figures.dropped < 0.02, "{buffer} {pause:?}: {figures:?}");
    }
}
