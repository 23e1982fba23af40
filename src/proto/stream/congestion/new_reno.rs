//! AIMD as TCP has it: RFC 5681, with SACK-based recovery (RFC 6675), proportional rate reduction
//! (RFC 6937), an initial window of ten segments (RFC 6928) and byte counting (RFC 3465).
//!
//! In slow start the window grows by all that was acknowledged, without the limit of RFC 3465:
//! peers acknowledge whole batches of segments at once, and the limit would punish them for it.
//! After a timeout, where a large acknowledgement often means that one hole was filled, the limit
//! is one segment.

use std::time::{Duration, Instant};

use super::prr::Prr;
use super::{Ack, Congestion, Controller, MIN_SEGMENTS};
use super::{initial_window, is_window_used, window_pacing_rate};

/// The controller of RFC 5681.
#[derive(Debug, Clone)]
pub struct NewReno {
    mss: u64,
    cwnd: u64,
    ssthresh: u64,
    /// Bytes acknowledged since the window last grew in congestion avoidance.
    bytes_acked: u64,
    after_timeout: bool,
    recovery: Option<Prr>,
    /// Window and threshold before the last reduction.
    undo: Option<(u64, u64)>,
}

impl NewReno {
    /// A window for segments of `max_payload` bytes.
    #[must_use]
    pub fn new(max_payload: u64) -> Self {
        let mss = max_payload.max(1);
        let cwnd = initial_window(mss);
        Self {
            mss,
            cwnd,
            ssthresh: u64::MAX,
            bytes_acked: 0,
            after_timeout: false,
            recovery: None,
            undo: None,
        }
    }

    fn reduce(&mut self, flight_size: u64) {
        self.undo = Some((self.cwnd, self.ssthresh));
        // RFC 5681 eq. 4
        self.ssthresh = (flight_size / 2).max(MIN_SEGMENTS * self.mss);
    }
}

impl Controller for NewReno {
    fn on_sent(&mut self, bytes: u64) {
        if let Some(recovery) = &mut self.recovery {
            recovery.on_sent(bytes);
        }
    }

    fn on_ack(&mut self, ack: &Ack) {
        if let Some(recovery) = &mut self.recovery {
            if ack.in_recovery {
                let is_safe = ack.acked > 0;
                self.cwnd = recovery.on_ack(ack.delivered, ack.in_flight, is_safe, self.mss);
            } else {
                self.recovery = None;
                self.cwnd = self.ssthresh;
            }
            return;
        }
        if ack.in_recovery && !self.after_timeout || ack.acked == 0 {
            return;
        }
        if self.cwnd < self.ssthresh {
            // Growth needs proof that the window was used (RFC 7661): at least half of it.
            if ack.in_flight_before * 2 < self.cwnd {
                return;
            }
            let limit = if self.after_timeout { self.mss } else { u64::MAX };
            let room = self.ssthresh - self.cwnd;
            self.cwnd += ack.acked.min(limit).min(room);
        } else if is_window_used(self.cwnd, self.mss, ack.in_flight_before) {
            self.bytes_acked += ack.acked;
            if self.bytes_acked >= self.cwnd {
                self.bytes_acked -= self.cwnd;
                self.cwnd += self.mss;
            }
        }
        if !ack.in_recovery {
            self.after_timeout = false;
        }
    }

    fn on_congestion(&mut self, loss: &Congestion) {
        self.reduce(loss.flight_size);
        self.recovery = Some(Prr::new(loss.flight_size, self.ssthresh));
        self.cwnd = loss.in_flight + self.mss;
        self.bytes_acked = 0;
        self.after_timeout = false;
    }

    fn on_timeout(&mut self, _now: Instant, flight_size: Option<u64>) {
        if let Some(flight_size) = flight_size {
            self.reduce(flight_size);
        }
        self.cwnd = self.mss;
        self.bytes_acked = 0;
        self.after_timeout = true;
        self.recovery = None;
    }

    fn on_spurious(&mut self) {
        if let Some((cwnd, ssthresh)) = self.undo.take() {
            self.cwnd = self.cwnd.max(cwnd);
            self.ssthresh = ssthresh;
            self.recovery = None;
            self.after_timeout = false;
        }
    }

    fn on_restart(&mut self, _now: Instant) {
        self.cwnd = self.cwnd.min(initial_window(self.mss));
    }

    fn set_max_payload(&mut self, bytes: u64) {
        // A window of less than the initial segments would be one the old size had earned.
        let was_initial = self.cwnd == initial_window(self.mss);
        self.mss = bytes.max(1);
        if was_initial {
            self.cwnd = initial_window(self.mss);
        }
        self.cwnd = self.cwnd.max(self.mss);
    }

    fn cwnd(&self) -> u64 {
        self.cwnd
    }

    fn ssthresh(&self) -> u64 {
        self.ssthresh
    }

    fn pacing_rate(&self, srtt: Option<Duration>) -> Option<u64> {
        window_pacing_rate(self.cwnd, self.ssthresh, srtt)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MSS, ack, loss};
    use super::*;

    #[test]
    fn slow_start_doubles_each_round_trip() {
        let mut reno = NewReno::new(MSS);
        assert_eq!(reno.cwnd(), 10_000);
        reno.on_ack(&ack(10_000, 10_000, false));
        assert_eq!(reno.cwnd(), 20_000);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut reno = NewReno::new(MSS);
        reno.on_ack(&ack(1000, 1000, false));
        assert_eq!(reno.cwnd(), 10_000);
    }

    #[test]
    fn loss_halves_the_flight_and_then_growth_is_linear() {
        let mut reno = NewReno::new(MSS);
        reno.on_congestion(&loss(40_000));
        assert_eq!(reno.ssthresh(), 20_000);
        reno.on_ack(&ack(5000, 20_000, true));
        assert!(reno.cwnd() <= 20_000, "no growth during recovery");
        reno.on_ack(&ack(1000, 20_000, false));
        assert_eq!(reno.cwnd(), 20_000, "the threshold, when it is over");
        for _ in 0..20 {
            reno.on_ack(&ack(1000, 20_000, false));
        }
        assert_eq!(reno.cwnd(), 21_000);
    }

    #[test]
    fn timeout_falls_to_one_segment_and_grows_one_segment_per_acknowledgement() {
        let mut reno = NewReno::new(MSS);
        reno.on_timeout(Instant::now(), Some(10_000));
        assert_eq!((reno.cwnd(), reno.ssthresh()), (1000, 5000));
        reno.on_timeout(Instant::now(), None);
        assert_eq!(reno.ssthresh(), 5000, "the second timeout in a row says nothing new");
        reno.on_ack(&ack(9000, 1000, true));
        assert_eq!(reno.cwnd(), 2000);
    }

    #[test]
    fn a_loss_that_was_none_is_undone() {
        let mut reno = NewReno::new(MSS);
        reno.on_congestion(&loss(10_000));
        reno.on_spurious();
        assert_eq!((reno.cwnd(), reno.ssthresh()), (10_000, u64::MAX));
        reno.on_spurious();
        assert_eq!(reno.cwnd(), 10_000, "once");
    }

    #[test]
    fn the_initial_window_follows_the_segment_size() {
        assert_eq!(NewReno::new(1152).cwnd(), 11_520);
        assert_eq!(NewReno::new(4096).cwnd(), 14_600);
        assert_eq!(NewReno::new(9000).cwnd(), 18_000);
    }
}
