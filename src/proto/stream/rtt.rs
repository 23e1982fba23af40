//! Round-trip time and retransmission timeout (RFC 6298).

use std::time::Duration;

use super::StreamConfig;

/// Clock granularity G of RFC 6298.
const GRANULARITY: Duration = Duration::from_millis(1);
/// Back-offs after which the timeout cannot grow any more, whatever the limits.
const MAX_BACKOFF: u32 = 16;

/// Smoothed round-trip time, its variation, and what follows from them.
#[derive(Debug, Clone)]
pub(super) struct RttEstimator {
    smoothed: Option<(Duration, Duration)>,
    min: Option<Duration>,
    /// What other streams on the path have measured (RFC 9040).
    expected: Option<Duration>,
    backoff: u32,
    initial_rto: Duration,
    min_rto: Duration,
    max_rto: Duration,
}

impl RttEstimator {
    pub(super) fn new(config: &StreamConfig) -> Self {
        Self {
            smoothed: None,
            min: None,
            expected: None,
            backoff: 0,
            initial_rto: config.initial_rto,
            min_rto: config.min_rto,
            max_rto: config.max_rto,
        }
    }

    /// Takes a measurement. By Karn's rule the caller only measures segments sent once.
    pub(super) fn sample(&mut self, rtt: Duration) {
        self.min = Some(self.min.map_or(rtt, |min| min.min(rtt)));
        self.smoothed = Some(match self.smoothed {
            // RFC 6298 s2.2
            None => (rtt, rtt / 2),
            // RFC 6298 s2.3: beta = 1/4, alpha = 1/8
            Some((srtt, rttvar)) => {
                let rttvar = (rttvar * 3 + srtt.abs_diff(rtt)) / 4;
                ((srtt * 7 + rtt) / 8, rttvar)
            }
        });
    }

    /// Doubles the timeout (RFC 6298 s5.5).
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(MAX_BACKOFF);
    }

    /// Something new was acknowledged: the timeout is what the estimate says.
    pub(super) fn reset_backoff(&mut self) {
        self.backoff = 0;
    }

    pub(super) fn backoff(&self) -> u32 {
        self.backoff
    }

    /// The retransmission timeout, with back-off.
    pub(super) fn rto(&self) -> Duration {
        let base = match self.smoothed {
            // Three times what is expected, as RFC 6298 makes of the first measurement.
            None => self.expected.map_or(self.initial_rto, |rtt| rtt * 3),
            // RFC 6298 s2.3: SRTT + max(G, K * RTTVAR), K = 4
            Some((srtt, rttvar)) => srtt + GRANULARITY.max(rttvar * 4),
        };
        (base.max(self.min_rto) * (1 << self.backoff)).min(self.max_rto)
    }

    pub(super) fn srtt(&self) -> Option<Duration> {
        self.smoothed.map(|(srtt, _)| srtt)
    }

    /// Until something is measured, this is what to go by.
    pub(super) fn expect(&mut self, rtt: Duration) {
        self.expected = Some(rtt);
    }

    pub(super) fn expected(&self) -> Option<Duration> {
        self.expected
    }

    /// RTTVAR, half of what is expected before anything is measured.
    pub(super) fn rttvar(&self) -> Option<Duration> {
        self.smoothed.map(|(_, rttvar)| rttvar).or(self.expected.map(|rtt| rtt / 2))
    }

    pub(super) fn min_rtt(&self) -> Option<Duration> {
        self.min
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn timeout_follows_rfc_6298() {
        let mut rtt = RttEstimator::new(&StreamConfig::default());
        assert_eq!(rtt.rto(), 1000 * MS);
        rtt.sample(100 * MS);
        assert_eq!((rtt.srtt(), rtt.rto()), (Some(100 * MS), 300 * MS));
        rtt.sample(100 * MS);
        assert_eq!(rtt.rto(), 100 * MS + 150 * MS); // rttvar 50 -> 37.5
        rtt.sample(20 * MS);
        assert_eq!((rtt.srtt(), rtt.min_rtt()), (Some(90 * MS), Some(20 * MS)));
    }

    #[test]
    fn timeout_has_a_floor_a_ceiling_and_doubles() {
        let mut rtt = RttEstimator::new(&StreamConfig::default());
        rtt.sample(MS);
        assert_eq!(rtt.rto(), 200 * MS);
        rtt.back_off();
        rtt.back_off();
        assert_eq!(rtt.rto(), 800 * MS);
        for _ in 0..100 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(), 10_000 * MS);
        rtt.reset_backoff();
        assert_eq!(rtt.rto(), 200 * MS);
    }
}
