//! Which ports to try, in which order: those that are likely, then all others, each once.

use std::collections::VecDeque;

use rand::{Rng, RngExt};

/// No NAT maps to a privileged port unless ours is one.
const LEAST: u32 = 1_024;
const COUNT: u32 = 65_536 - LEAST;

/// See the [module](self).
///
/// The others come in steps of a random size that shares no factor with their number: so each
/// comes once, without a table, and any range that a NAT may draw from gets its share early.
#[derive(Debug)]
pub(super) struct PortOrder {
    likely: VecDeque<u16>,
    was_likely: Vec<u16>,
    next: u32,
    step: u32,
    left: u32,
}

impl PortOrder {
    pub(super) fn new(likely: &[u16], rng: &mut impl Rng) -> Self {
        let mut was_likely = likely.to_vec();
        was_likely.sort_unstable();
        let step = loop {
            let step = rng.random_range(COUNT / 8..COUNT);
            if gcd(step, COUNT) == 1 {
                break step;
            }
        };
        let next = rng.random_range(0..COUNT);
        Self { likely: likely.iter().copied().collect(), was_likely, next, step, left: COUNT }
    }

    /// How many of the likely ones are left.
    pub(super) fn likely_left(&self) -> usize {
        self.likely.len()
    }
}

impl Iterator for PortOrder {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if let Some(port) = self.likely.pop_front() {
            return Some(port);
        }
        while self.left > 0 {
            self.left -= 1;
            let port = (LEAST + self.next) as u16;
            self.next = (self.next + self.step) % COUNT;
            if self.was_likely.binary_search(&port).is_err() {
                return Some(port);
            }
        }
        None
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn every_port_comes_once_and_the_likely_ones_first() {
        for seed in 0..20 {
            let likely = [50_000, 50_002, 2_000];
            let order = PortOrder::new(&likely, &mut StdRng::seed_from_u64(seed));
            let mut ports: Vec<u16> = order.collect();
            assert_eq!(ports[..3], likely, "seed {seed}");
            ports.sort_unstable();
            assert!(ports.iter().copied().eq(1_024..=65_535), "seed {seed}");
        }
    }

    #[test]
    fn any_range_gets_its_share_early() {
        for seed in 0..100 {
            let order = PortOrder::new(&[], &mut StdRng::seed_from_u64(seed));
            let within = order.take(1_024).filter(|port| (32_768..49_152).contains(port)).count();
            // A quarter of all ports; as many as of random ones, give or take.
            assert!((180..340).contains(&within), "seed {seed}: {within} of 1024");
        }
    }
}
