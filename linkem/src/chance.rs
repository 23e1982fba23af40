//! The random numbers of one packet.

/// SplitMix64 (Steele, Lea and Flood, 2014), started anew for each packet from the link's seed and
/// the packet's number: however many numbers one packet draws, the next packet's are the same.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn of_packet(seed: u64, number: u64) -> Self {
        Self(mix(mix(seed ^ GAMMA).wrapping_add(number)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// Evenly distributed from 0 to 1, without 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::Chance;

    #[test]
    fn a_seed_means_the_same_forever() {
        let mut chance = Chance::of_packet(7, 3);
        let first = [chance.next(), chance.next()];
        assert_eq!(first, [1_643_285_199_125_671_944, 2_390_009_598_695_427_423]);
    }

    #[test]
    fn the_first_numbers_of_successive_packets_are_evenly_distributed() {
        let mut tenths = [0u32; 10];
        for number in 0..100_000 {
            tenths[(Chance::of_packet(1, number).unit() * 10.0) as usize] += 1;
        }
        // Three standard deviations of a binomial distribution.
        assert!(tenths.iter().all(|n| n.abs_diff(10_000) < 285), "{tenths:?}");
    }
}
