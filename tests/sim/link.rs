//! Links of the simulations: `linkem`'s, picked at random.

use std::time::Duration;

pub(crate) use linkem::{Link, LinkParams, Loss};
use rand::RngExt;
use rand::rngs::StdRng;

/// A link picked at random: from a perfect one to a very bad one.
pub(crate) fn random(rng: &mut StdRng) -> LinkParams {
    let pick = |rng: &mut StdRng, p: f64, most: f64| {
        if rng.random_bool(p) { rng.random_range(0.0..most) } else { 0.0 }
    };
    let delay = Duration::from_micros(rng.random_range(50..80_000));
    let jitter = if rng.random_bool(0.4) {
        delay.mul_f64(rng.random_range(0.0..1.0))
    } else {
        Duration::ZERO
    };
    let loss = if rng.random_bool(0.25) {
        let enter = rng.random_range(0.002..0.03);
        Loss::Bursts { enter, leave: rng.random_range(0.1..0.5), loss: rng.random_range(0.3..0.9) }
    } else {
        Loss::Bernoulli(pick(rng, 0.6, 0.15))
    };
    let rate = rng.random_range(50_000..5_000_000);
    let queue = rng.random_range(10_000..200_000);
    LinkParams {
        delay,
        jitter,
        keep_order: rng.random_bool(0.3),
        loss,
        duplicate: pick(rng, 0.3, 0.1),
        reorder: pick(rng, 0.3, 0.1),
        corrupt: pick(rng, 0.3, 0.05),
        rate: rng.random_bool(0.4).then_some(rate),
        queue: Some(queue),
        ..LinkParams::default()
    }
}
