//! One direction of a simulated link: a machine without I/O, with a seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How packets are lost.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loss {
    /// Each for itself, with this probability.
    Bernoulli(f64),
    /// In bursts (Gilbert and Elliott): probabilities of falling into a burst and of leaving it,
    /// both for each packet, and of loss during one.
    Bursts { enter: f64, leave: f64, loss: f64 },
}

/// What the link does to packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkParams {
    pub(crate) latency: Duration,
    /// Added, evenly distributed; packets overtake each other by it.
    pub(crate) jitter: Duration,
    pub(crate) loss: Loss,
    pub(crate) duplicate: f64,
    /// Probability of an extra delay of several times the latency.
    pub(crate) reorder: f64,
    /// Probability of one flipped bit.
    pub(crate) corrupt: f64,
    /// Bytes per second, with a queue of so many bytes, beyond which the tail is dropped.
    pub(crate) rate: Option<(u32, u32)>,
    /// From then on, nothing gets through.
    pub(crate) dead_after: Option<Duration>,
}

impl LinkParams {
    /// A link picked at random: from a perfect one to a very bad one.
    pub(crate) fn random(rng: &mut StdRng) -> Self {
        let pick = |rng: &mut StdRng, p: f64, most: f64| {
            if rng.random_bool(p) { rng.random_range(0.0..most) } else { 0.0 }
        };
        let latency = Duration::from_micros(rng.random_range(50..80_000));
        let jitter = if rng.random_bool(0.4) {
            latency.mul_f64(rng.random_range(0.0..1.0))
        } else {
            Duration::ZERO
        };
        let loss = if rng.random_bool(0.25) {
            let enter = rng.random_range(0.002..0.03);
            Loss::Bursts {
                enter,
                leave: rng.random_range(0.1..0.5),
                loss: rng.random_range(0.3..0.9),
            }
        } else {
            Loss::Bernoulli(pick(rng, 0.6, 0.15))
        };
        let rate = rng.random_range(50_000..5_000_000);
        let queue = rng.random_range(10_000..200_000);
        Self {
            latency,
            jitter,
            loss,
            duplicate: pick(rng, 0.3, 0.1),
            reorder: pick(rng, 0.3, 0.1),
            corrupt: pick(rng, 0.3, 0.05),
            rate: rng.random_bool(0.4).then_some((rate, queue)),
            dead_after: None,
        }
    }

    /// A link that does nothing but take time.
    pub(crate) fn clean(latency: Duration) -> Self {
        Self {
            latency,
            jitter: Duration::ZERO,
            loss: Loss::Bernoulli(0.0),
            duplicate: 0.0,
            reorder: 0.0,
            corrupt: 0.0,
            rate: None,
            dead_after: None,
        }
    }
}

/// Packets on their way.
#[derive(Debug)]
pub(crate) struct Link {
    params: LinkParams,
    rng: StdRng,
    start: Instant,
    in_burst: bool,
    /// When the queue in front of a limited rate is empty.
    free_at: Instant,
    packets: BTreeMap<(Instant, u64), Vec<u8>>,
    sent: u64,
}

impl Link {
    pub(crate) fn new(now: Instant, params: LinkParams, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let packets = BTreeMap::new();
        Self { params, rng, start: now, in_burst: false, free_at: now, packets, sent: 0 }
    }

    /// Puts a packet on the link, which may lose it, spoil it, or deliver it twice.
    pub(crate) fn send(&mut self, now: Instant, mut packet: Vec<u8>) {
        let params = self.params;
        let dead = params.dead_after.is_some_and(|after| now >= self.start + after);
        if self.loses() || dead {
            return;
        }
        let mut at = now;
        if let Some((rate, queue)) = params.rate {
            let waiting = self.free_at.saturating_duration_since(now).as_secs_f64();
            if waiting * f64::from(rate) > f64::from(queue) {
                return;
            }
            let takes = Duration::from_secs_f64(packet.len() as f64 / f64::from(rate));
            self.free_at = self.free_at.max(now) + takes;
            at = self.free_at;
        }
        if self.rng.random_bool(params.corrupt) {
            let bit = self.rng.random_range(0..packet.len() * 8);
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        if self.rng.random_bool(params.duplicate) {
            self.deliver(at, packet.clone());
        }
        self.deliver(at, packet);
    }

    fn deliver(&mut self, mut at: Instant, packet: Vec<u8>) {
        let params = self.params;
        at += params.latency + params.jitter.mul_f64(self.rng.random_range(0.0..1.0));
        if self.rng.random_bool(params.reorder) {
            at += params.latency * self.rng.random_range(1..4);
        }
        self.sent += 1;
        self.packets.insert((at, self.sent), packet);
    }

    fn loses(&mut self) -> bool {
        match self.params.loss {
            Loss::Bernoulli(p) => self.rng.random_bool(p),
            Loss::Bursts { enter, leave, loss } => {
                let turn = if self.in_burst { leave } else { enter };
                self.in_burst ^= self.rng.random_bool(turn);
                self.in_burst && self.rng.random_bool(loss)
            }
        }
    }

    /// When the next packet arrives.
    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.packets.keys().next().map(|(at, _)| *at)
    }

    /// Takes a packet that has arrived.
    pub(crate) fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        let first = self.packets.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
