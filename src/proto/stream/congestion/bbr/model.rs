//! What BBR believes of the path: bandwidth, round-trip time, how acknowledgements bunch.

use std::time::{Duration, Instant};

use super::super::max_filter::MaxFilter;
use super::super::{Ack, rate};

/// The round trip for which data must be in flight even where the true one is shorter; see
/// [`bbr`](super). Also the least duration of a round, so that estimates outlive such pauses.
pub(super) const RTT_FLOOR: Duration = Duration::from_millis(1);
/// Rounds over which the bandwidth is the maximum; longer than a cycle of ProbeBW.
const BANDWIDTH_ROUNDS: u64 = 10;
/// Rounds over which the bunching of acknowledgements is the maximum.
const EXTRA_ACKED_ROUNDS: u64 = 10;
/// Age at which a round-trip minimum is probed for again, and at which it is dropped: when probing
/// did not help, the path has become longer, or others keep its queue filled.
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(10);
/// The first probe comes earlier: a stream that starts into the queue of others takes it for a
/// part of the path, and would hold on to a share of it that is too large.
const FIRST_PROBE_RTT: Duration = Duration::from_millis(2500);
/// A round trip that is longer by no more than this part is the minimum seen again: no two are equal
/// where machines are busy, and probing would cost half of the rate for 200 ms.
const SAME_RTT: u32 = 64;
const MIN_RTT_WINDOW: Duration = Duration::from_secs(11);

/// Filters over what acknowledgements tell.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// Bytes per second, by round.
    bandwidth: MaxFilter,
    /// Bytes acknowledged beyond what the bandwidth accounts for, by round.
    extra_acked: MaxFilter,
    min_rtt: Option<(Duration, Instant)>,
    /// The minimum since it was last probed for.
    recent_rtt: Option<(Duration, Instant)>,
    has_probed_rtt: bool,
    epoch_start: Instant,
    epoch_acked: u64,
    round: u64,
    /// Bytes delivered when the round ends.
    round_end: u64,
    round_started: Instant,
}

impl Model {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            bandwidth: MaxFilter::new(BANDWIDTH_ROUNDS),
            extra_acked: MaxFilter::new(EXTRA_ACKED_ROUNDS),
            min_rtt: None,
            recent_rtt: None,
            has_probed_rtt: false,
            epoch_start: now,
            epoch_acked: 0,
            round: 0,
            round_end: 0,
            round_started: now,
        }
    }

    /// Whether `ack` begins a new round: what was in flight when the last one began has arrived.
    pub(super) fn begins_round(&mut self, ack: &Ack) -> bool {
        let Some(sample) = ack.rate else { return false };
        let long_enough = ack.now.saturating_duration_since(self.round_started) >= RTT_FLOOR;
        if sample.prior_delivered < self.round_end || !long_enough {
            return false;
        }
        self.round += 1;
        self.round_end = ack.total_delivered;
        self.round_started = ack.now;
        true
    }

    /// Takes the delivery rate. Samples that only tell how little there was to send count if they
    /// are better than what was believed; `is_limited`: so do all.
    pub(super) fn take_rate(&mut self, ack: &Ack, is_limited: bool) {
        let Some(sample) = ack.rate else { return };
        // Shorter than a round trip can only be an artefact, but for the floor.
        let min_rtt = self.min_rtt().unwrap_or_default();
        if sample.interval < min_rtt {
            return;
        }
        let Some(bandwidth) = rate(sample.delivered, sample.interval.max(RTT_FLOOR)) else {
            return;
        };
        if !(sample.is_app_limited || is_limited) || bandwidth >= self.bandwidth.get() {
            self.bandwidth.update(self.round, bandwidth);
        }
    }

    /// Takes what acknowledgements brought beyond the bandwidth, as links do that send in
    /// aggregates: the window must cover the silence between two bunches.
    pub(super) fn take_bunching(&mut self, ack: &Ack) {
        let elapsed = ack.now.saturating_duration_since(self.epoch_start);
        let mut expected = bytes(self.bandwidth.get(), elapsed);
        // A bound, or every pause of a receiver would make the next burst larger.
        let most = self.bdp(1.0).unwrap_or(0);
        if self.epoch_acked <= expected || self.epoch_acked - expected > most {
            self.epoch_start = ack.now;
            self.epoch_acked = 0;
            expected = 0;
        }
        self.epoch_acked += ack.delivered;
        self.extra_acked.update(self.round, (self.epoch_acked - expected).min(most));
    }

    /// Takes a round-trip time. `true`: the minimum should be probed for.
    pub(super) fn take_rtt(&mut self, now: Instant, rtt: Option<Duration>) -> bool {
        let is_old = |at: Instant, age| now.saturating_duration_since(at) > age;
        let mut probe = false;
        let interval = if self.has_probed_rtt { PROBE_RTT_INTERVAL } else { FIRST_PROBE_RTT };
        if let Some(rtt) = rtt {
            match &mut self.recent_rtt {
                Some((min, at)) if rtt > *min => {
                    if rtt <= *min + *min / SAME_RTT {
                        *at = now;
                    } else if is_old(*at, interval) {
                        probe = true;
                        self.has_probed_rtt = true;
                        self.recent_rtt = Some((rtt, now));
                    }
                }
                _ => self.recent_rtt = Some((rtt, now)),
            }
        }
        if let Some((recent, at)) = self.recent_rtt
            && self.min_rtt.is_none_or(|(min, seen)| recent <= min || is_old(seen, MIN_RTT_WINDOW))
        {
            self.min_rtt = Some((recent, at));
        }
        probe
    }

    /// Forgets the bandwidth: what was known of the path does not hold any more.
    pub(super) fn forget_bandwidth(&mut self) {
        self.bandwidth.reset(self.round, 0);
        self.extra_acked.reset(self.round, 0);
    }

    /// Bytes per second, 0 if unknown.
    pub(super) fn bandwidth(&self) -> u64 {
        self.bandwidth.get()
    }

    pub(super) fn extra_acked(&self) -> u64 {
        self.extra_acked.get()
    }

    pub(super) fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt.map(|(rtt, _)| rtt)
    }

    /// Whether the round trip is so short that neither pacing nor probing for it has a meaning.
    pub(super) fn is_below_floor(&self) -> bool {
        self.min_rtt().is_some_and(|rtt| rtt < RTT_FLOOR)
    }

    /// `gain` times the bandwidth-delay product, if both are known.
    pub(super) fn bdp(&self, gain: f64) -> Option<u64> {
        let rtt = self.min_rtt()?.max(RTT_FLOOR);
        let bandwidth = self.bandwidth.get();
        (bandwidth > 0).then(|| (gain * bytes(bandwidth, rtt) as f64) as u64)
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }
}

/// Bytes that `rate` brings in `time`.
fn bytes(rate: u64, time: Duration) -> u64 {
    (rate as f64 * time.as_secs_f64()) as u64
}
