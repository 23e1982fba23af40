//! CUBIC (RFC 9438): the window is a cubic function of the time since the last loss, with its
//! plateau where the loss was. With HyStart++ (RFC 9406) in slow start, fast convergence, and
//! proportional rate reduction (RFC 6937).

use std::time::{Duration, Instant};

use super::hystart::{Growth, HyStart};
use super::prr::Prr;
use super::{Ack, Congestion, Controller, MIN_SEGMENTS};
use super::{initial_window, is_window_used, window_pacing_rate};

/// C, in segments per second cubed.
const C: f64 = 0.4;
/// What is left of the window after a loss.
const BETA: f64 = 0.7;
/// Growth of the Reno-friendly window, segments per round trip: 3 (1 - beta) / (1 + beta).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The controller of RFC 9438.
#[derive(Debug, Clone)]
pub struct Cubic {
    mss: u64,
    cwnd: u64,
    ssthresh: u64,
    /// Bytes by which the window is due to grow, less than a segment.
    credit: f64,
    /// W_max, segments: the window before the last reduction.
    w_max: f64,
    epoch: Option<Epoch>,
    min_rtt: Duration,
    hystart: HyStart,
    after_timeout: bool,
    recovery: Option<Prr>,
    undo: Option<Undo>,
}

/// A stage of congestion avoidance.
#[derive(Debug, Clone)]
struct Epoch {
    start: Instant,
    k: f64,
    /// W_est, segments: what Reno would have.
    w_est: f64,
    /// The last time at which the window was in use; a pause does not count (s5.8).
    last_ack: Instant,
}

/// What a reduction changed.
#[derive(Debug, Clone)]
struct Undo {
    cwnd: u64,
    ssthresh: u64,
    w_max: f64,
    epoch: Option<Epoch>,
}

impl Cubic {
    /// A window for segments of `max_payload` bytes.
    #[must_use]
    pub fn new(max_payload: u64) -> Self {
        let mss = max_payload.max(1);
        Self {
            mss,
            cwnd: initial_window(mss),
            ssthresh: u64::MAX,
            credit: 0.0,
            w_max: 0.0,
            epoch: None,
            min_rtt: Duration::MAX,
            hystart: HyStart::default(),
            after_timeout: false,
            recovery: None,
            undo: None,
        }
    }

    fn segments(&self, bytes: u64) -> f64 {
        bytes as f64 / self.mss as f64
    }

    fn slow_start(&mut self, ack: &Ack) {
        // Growth needs proof that the window was used (RFC 7661): at least half of it.
        if ack.in_flight_before * 2 < self.cwnd {
            return;
        }
        let limit = if self.after_timeout { self.mss } else { u64::MAX };
        let acked = ack.acked.min(limit).min(self.ssthresh - self.cwnd);
        if self.ssthresh < u64::MAX {
            self.cwnd += acked;
            return;
        }
        match self.hystart.on_ack(acked, ack.total_delivered, ack.in_flight, ack.rtt) {
            Growth::By(bytes) => self.cwnd += bytes,
            Growth::Stop => self.ssthresh = self.cwnd,
        }
    }

    fn congestion_avoidance(&mut self, ack: &Ack) {
        if !is_window_used(self.cwnd, self.mss, ack.in_flight_before) {
            if let Some(epoch) = &mut self.epoch {
                let pause = ack.now.saturating_duration_since(epoch.last_ack);
                epoch.start += pause;
                epoch.last_ack = ack.now;
            }
            return;
        }
        let cwnd = self.segments(self.cwnd);
        if self.epoch.is_none() {
            // Without a loss before (HyStart++ ended slow start), the plateau is here.
            self.w_max = self.w_max.max(cwnd);
            let k = ((self.w_max - cwnd) / C).cbrt();
            self.epoch = Some(Epoch { start: ack.now, k, w_est: cwnd, last_ack: ack.now });
        }
        let (acked, w_max, rtt) = (self.segments(ack.acked), self.w_max, self.min_rtt);
        let Some(epoch) = &mut self.epoch else { return };
        epoch.last_ack = ack.now;
        let t = ack.now.saturating_duration_since(epoch.start).as_secs_f64();
        let w_cubic = |t: f64| C * (t - epoch.k).powi(3) + w_max;
        let target = w_cubic(t + rtt.as_secs_f64()).clamp(cwnd, 1.5 * cwnd);
        // s4.3: alpha is 1 once the old window is reached again
        epoch.w_est += if epoch.w_est < w_max { ALPHA } else { 1.0 } * acked / cwnd;
        let gain = if w_cubic(t) < epoch.w_est {
            (epoch.w_est - cwnd).max(0.0)
        } else {
            (target - cwnd) / cwnd * acked
        };
        self.credit += gain * self.mss as f64;
        let whole = self.credit.floor();
        self.credit -= whole;
        self.cwnd += whole as u64;
    }

    /// s4.6 and s4.7
    fn reduce(&mut self, flight_size: u64) {
        self.undo = Some(Undo {
            cwnd: self.cwnd,
            ssthresh: self.ssthresh,
            w_max: self.w_max,
            epoch: self.epoch.take(),
        });
        let cwnd = self.segments(self.cwnd);
        self.w_max = if cwnd < self.w_max { cwnd * (1.0 + BETA) / 2.0 } else { cwnd };
        let left = (flight_size as f64 * BETA) as u64;
        self.ssthresh = left.max(MIN_SEGMENTS * self.mss);
        self.credit = 0.0;
    }
}

impl Controller for Cubic {
    fn on_sent(&mut self, bytes: u64) {
        if let Some(recovery) = &mut self.recovery {
            recovery.on_sent(bytes);
        }
    }

    fn on_ack(&mut self, ack: &Ack) {
        if let Some(rtt) = ack.rtt {
            self.min_rtt = self.min_rtt.min(rtt);
        }
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
            self.slow_start(ack);
        } else {
            self.congestion_avoidance(ack);
        }
        if !ack.in_recovery {
            self.after_timeout = false;
        }
    }

    fn on_congestion(&mut self, loss: &Congestion) {
        self.reduce(loss.flight_size);
        self.recovery = Some(Prr::new(loss.flight_size, self.ssthresh));
        self.cwnd = loss.in_flight + self.mss;
        self.after_timeout = false;
    }

    fn on_timeout(&mut self, _now: Instant, flight_size: Option<u64>) {
        if let Some(flight_size) = flight_size {
            self.reduce(flight_size);
        }
        self.cwnd = self.mss;
        self.after_timeout = true;
        self.recovery = None;
    }

    fn on_spurious(&mut self) {
        if let Some(undo) = self.undo.take() {
            self.cwnd = self.cwnd.max(undo.cwnd);
            self.ssthresh = undo.ssthresh;
            self.w_max = undo.w_max;
            self.epoch = undo.epoch;
            self.recovery = None;
            self.after_timeout = false;
        }
    }

    fn on_restart(&mut self, _now: Instant) {
        self.cwnd = self.cwnd.min(initial_window(self.mss));
        self.epoch = None;
    }

    fn set_max_payload(&mut self, bytes: u64) {
        let was_initial = self.cwnd == initial_window(self.mss);
        let old = std::mem::replace(&mut self.mss, bytes.max(1));
        let ratio = old as f64 / self.mss as f64;
        self.w_max *= ratio;
        self.epoch = None;
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

    /// Acknowledges whole windows, one each round trip of 100 ms, for `seconds`.
    fn run(cubic: &mut Cubic, start: Instant, seconds: f64) -> Instant {
        let rtt = Duration::from_millis(100);
        let mut now = start;
        while now < start + Duration::from_secs_f64(seconds) {
            now += rtt;
            for _ in 0..10 {
                let cwnd = cubic.cwnd();
                let ack = Ack { now, rtt: Some(rtt), ..ack(cwnd / 10, cwnd, false) };
                cubic.on_ack(&ack);
            }
        }
        now
    }

    #[test]
    fn a_loss_leaves_seven_tenths_and_the_old_window_is_back_after_k_seconds() {
        let mut cubic = Cubic::new(MSS);
        cubic.cwnd = 1_000 * MSS;
        cubic.on_congestion(&loss(1_000 * MSS));
        assert_eq!(cubic.ssthresh(), 700 * MSS);
        let now = Instant::now();
        cubic.on_ack(&Ack { now, ..ack(MSS, 700 * MSS, false) });
        assert_eq!(cubic.cwnd(), 700 * MSS);
        // K = cbrt(300 / 0.4) = 9.09 s
        let now = run(&mut cubic, now, 4.0);
        assert!((900 * MSS..970 * MSS).contains(&cubic.cwnd()), "{}", cubic.cwnd());
        let now = run(&mut cubic, now, 5.1);
        assert!((990 * MSS..1_020 * MSS).contains(&cubic.cwnd()), "{}", cubic.cwnd());
        run(&mut cubic, now, 6.0);
        assert!(cubic.cwnd() > 1_050 * MSS, "then it probes: {}", cubic.cwnd());
    }

    #[test]
    fn a_second_loss_below_the_old_window_makes_room_for_others() {
        let mut cubic = Cubic::new(MSS);
        cubic.cwnd = 100 * MSS;
        cubic.on_congestion(&loss(100 * MSS));
        cubic.on_ack(&ack(MSS, 70 * MSS, false));
        cubic.on_congestion(&loss(70 * MSS));
        assert!((59.0..60.0).contains(&cubic.w_max), "{}", cubic.w_max);
    }

    #[test]
    fn with_small_windows_it_is_no_slower_than_reno() {
        let mut cubic = Cubic::new(MSS);
        cubic.cwnd = 10 * MSS;
        cubic.on_congestion(&loss(10 * MSS));
        cubic.on_ack(&ack(MSS, 7 * MSS, false));
        run(&mut cubic, Instant::now(), 2.0);
        // Twenty round trips at 0.53 segments each, and at 1 beyond the old window.
        assert!((15 * MSS..25 * MSS).contains(&cubic.cwnd()), "{}", cubic.cwnd());
    }

    #[test]
    fn a_timeout_that_was_needless_is_undone() {
        let mut cubic = Cubic::new(MSS);
        cubic.cwnd = 50 * MSS;
        cubic.on_timeout(Instant::now(), Some(50 * MSS));
        assert_eq!(cubic.cwnd(), MSS);
        cubic.on_spurious();
        assert_eq!((cubic.cwnd(), cubic.ssthresh()), (50 * MSS, u64::MAX));
    }

    #[test]
    fn a_change_of_segment_size_keeps_the_window_in_bytes() {
        let mut cubic = Cubic::new(MSS);
        cubic.cwnd = 100 * MSS;
        cubic.on_congestion(&loss(100 * MSS));
        cubic.set_max_payload(2 * MSS);
        assert!((cubic.w_max - 50.0).abs() < 1e-9);
    }
}
