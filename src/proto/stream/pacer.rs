//! When the next data segment may go out, so that a window is spread over its round trip.
//!
//! A bucket of bytes that fills at the controller's rate. It holds so much that a driver whose
//! timers are good to a millisecond never sends less than the rate, and that the first segments
//! after a pause, small requests above all, never wait.

use std::time::{Duration, Instant};

/// The bucket holds what the rate brings in this time, or else...
const BURST_TIME: Duration = Duration::from_millis(2);
/// ... so many segments ...
const BURST_SEGMENTS: u64 = 10;
/// ... unless they are as large as on loopback. No more: routers in front of 100 Mbit/s often queue
/// no more than 64 KiB.
const BURST_BYTES: u64 = 64 * 1024;
/// An empty bucket is waited for until it holds what the rate brings in this time: one wake-up for
/// a run of segments instead of one for each.
const WAKE_TIME: Duration = Duration::from_millis(1);

/// A token bucket of bytes.
#[derive(Debug, Clone)]
pub(super) struct Pacer {
    /// Bytes per second; `None`: no limit.
    rate: Option<f64>,
    budget: f64,
    burst: f64,
    wake: f64,
    filled_at: Instant,
}

impl Pacer {
    /// A pacer without a limit.
    pub(super) fn new(now: Instant) -> Self {
        Self { rate: None, budget: 0.0, burst: 0.0, wake: 0.0, filled_at: now }
    }

    /// Changes the rate; what has gathered at the old one is kept.
    pub(super) fn set_rate(&mut self, now: Instant, rate: Option<u64>, max_payload: u64) {
        let Some(rate) = rate else {
            self.rate = None;
            return;
        };
        let rate = rate.max(1) as f64;
        if self.rate == Some(rate) {
            return;
        }
        let was_full = self.rate.is_none();
        self.fill(now);
        let segments = (BURST_SEGMENTS * max_payload).min(BURST_BYTES).max(max_payload) as f64;
        self.burst = (rate * BURST_TIME.as_secs_f64()).max(segments);
        self.wake = (rate * WAKE_TIME.as_secs_f64()).min(self.burst);
        self.budget = if was_full { self.burst } else { self.budget.min(self.burst) };
        self.rate = Some(rate);
        self.filled_at = now;
    }

    fn fill(&mut self, now: Instant) {
        let Some(rate) = self.rate.filter(|_| now > self.filled_at) else { return };
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.budget = (self.budget + rate * elapsed).min(self.burst);
        self.filled_at = now;
    }

    /// `None`: `bytes` may go now. Otherwise when to ask again. What begins, such as a small
    /// request beside bulk, may overdraw the bucket once over: bulk then waits so much longer.
    pub(super) fn check(&mut self, now: Instant, bytes: u64, begins: bool) -> Option<Instant> {
        let rate = self.rate?;
        let bytes = bytes as f64;
        if self.budget < self.burst {
            self.fill(now);
        }
        let overdraft = if begins { self.burst } else { 0.0 };
        if self.budget + overdraft >= bytes.min(self.burst) {
            return None;
        }
        let missing = (bytes.max(self.wake) - self.budget) / rate;
        Some(now + Duration::from_secs_f64(missing.clamp(1e-6, 3600.0)))
    }

    /// `bytes` went out.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64) {
        if self.rate.is_some() {
            self.fill(now);
            // Probes and timeouts do not ask first; they shall not make others wait for ever.
            self.budget = (self.budget - bytes as f64).max(-self.burst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Bytes that leave in `time` if the caller comes when it is told to, but `late`.
    fn sent_in(rate: u64, time: Duration, late: Duration) -> u64 {
        let start = Instant::now();
        let (mut now, mut sent) = (start, 0);
        let mut pacer = Pacer::new(now);
        pacer.set_rate(now, Some(rate), 1000);
        while now < start + time {
            match pacer.check(now, 1000, false) {
                None => {
                    pacer.on_sent(now, 1000);
                    sent += 1000;
                }
                Some(at) => now = at + late,
            }
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_even_if_timers_are_a_millisecond_late() {
        for rate in [100_000, 12_500_000, 1_000_000_000] {
            for late in [Duration::ZERO, MS] {
                let sent = sent_in(rate, Duration::from_secs(1), late);
                let burst = (rate / 500).max(10_000);
                assert!(sent >= rate && sent <= rate + 2 * burst, "{rate} {late:?}: {sent}");
            }
        }
    }

    #[test]
    fn ten_segments_never_wait_and_the_eleventh_does() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        assert_eq!(pacer.check(now, 1000, false), None, "no rate, no limit");
        pacer.set_rate(now, Some(10_000), 1000);
        for _ in 0..10 {
            assert_eq!(pacer.check(now, 1000, false), None);
            pacer.on_sent(now, 1000);
        }
        assert_eq!(pacer.check(now, 1000, true), None, "another request does not wait for them");
        let at = pacer.check(now, 1000, false).unwrap();
        assert!((99 * MS..=101 * MS).contains(&(at - now)), "{:?}", at - now);
        assert_eq!(pacer.check(at + MS, 1000, false), None);
    }

    #[test]
    fn a_segment_larger_than_the_bucket_is_not_stuck() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        pacer.set_rate(now, Some(1_000_000), 1000);
        assert_eq!(pacer.check(now, 60_000, false), None);
        pacer.on_sent(now, 60_000);
        let at = pacer.check(now, 60_000, false).unwrap();
        assert!(at > now && pacer.check(at + 60 * MS, 60_000, false).is_none());
    }
}
