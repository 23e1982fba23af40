//! BBR: sends as fast as the path was seen to deliver, and keeps as much in flight as that takes.
//!
//! After the first version (Cardwell et al., "BBR: Congestion-Based Congestion Control", 2016,
//! and draft-cardwell-iccrg-bbr-congestion-control-00) with parts of the third:
//!
//! ```text
//!            rate no longer grows          in flight <= BDP
//!  Startup ───────────────────────► Drain ────────────────► ProbeBW ◄──┐ 8 phases of a round trip:
//!  rate x 2.77 each round trip      rate x 0.36                │       │ x 1.25, x 0.75, 6 times x 1
//!                                                              ▼       │
//!         no round trip as short as the minimum for 10 s:   ProbeRTT ──┘ half a BDP for 200 ms
//! ```
//!
//! # Loss
//! A loss does not change the rate: as bandwidth counts what is delivered, 3 % of loss is 3 % less
//! bandwidth. The later versions of BBR reduce at 2 % of loss in a round; radio links and bursts
//! lose as much without being full. So that it is still no danger to a network that is: rounds that
//! lose more than a tenth end Startup, and otherwise lower the rate by a tenth each until
//! the next probe; a timeout falls back to one segment; and a second timeout in a row forgets all
//! that was known of the path.
//!
//! # Very short round trips
//! Data for a millisecond is kept in flight even where the round trip is shorter: timers fire to the
//! millisecond and threads are put aside for about as long. On loopback, where a packet takes 50 us,
//! a window made for that would run empty whenever the receiving process is not on a processor at
//! the very moment. Nor is there pacing, since it could only be done by timers that are too coarse
//! for it: the window limits alone. No radio is that short, so there a loss is the overflow of a
//! socket's buffer, and the window gives way to it; nor does it ever grow to more than half a MiB.

mod model;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::model::Model;
use super::{Ack, Congestion, Controller, initial_window, rate};

/// Doubles the rate each round trip (4 ln 2).
const STARTUP_GAIN: f64 = 2.773;
/// Undoes in a round trip what Startup queued in its last.
const DRAIN_GAIN: f64 = 1.0 / STARTUP_GAIN;
/// Rates of ProbeBW's phases: probe, drain what that queued, cruise.
const CYCLE_GAINS: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
const UP: usize = 0;
const DOWN: usize = 1;
const CRUISE: usize = 2;
/// The window, in bandwidth-delay products. Above 1.25, or probing would not be possible; what is
/// more is queue as soon as streams share a link. BBR's drafts say 2, for acknowledgements that
/// come late and in bunches, but the model accounts for these. With 1.5, four streams keep half
/// of the queue, and a CUBIC neighbour gets its share of a buffer of one BDP instead of 4 %.
const CWND_GAIN: f64 = 1.5;
/// Startup is over when this many rounds did not bring a quarter more bandwidth.
const FULL_ROUNDS: u32 = 3;
const FULL_GROWTH: f64 = 1.25;
const PROBE_RTT_GAIN: f64 = 0.5;
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
/// Least window, in segments: with delayed acknowledgements, fewer would stall.
const MIN_CWND_SEGMENTS: u64 = 4;
/// Streams that start together on a path of which nothing is known have an initial window each, as
/// connections would, but only so many; the rest of the streams share these.
const MAX_STARTING_STREAMS: u64 = 16;
/// Share of a round that is lost when the path must be overloaded, whatever else it is.
const HEAVY_LOSS: f64 = 0.1;
/// Segments that must be lost for the share to mean something.
const HEAVY_LOSS_SEGMENTS: u64 = 8;
const HEAVY_LOSS_BETA: f64 = 0.9;
/// What an overflow leaves of the window where the round trip is below the floor, by what part it
/// grows again each round without loss, and what it never falls below.
const OVERFLOW_BETA: f64 = 0.7;
const OVERFLOW_GROWTH: u64 = 32;
const MIN_CEILING_BYTES: u64 = 64 * 1024;
/// Most in flight where the round trip is too short to be told from scheduling: it queues in the
/// receiver's socket buffer, in front of everybody else's packets. Measured on loopback at 2 GB/s:
/// from 10 MiB to this, round trips beside a bulk stream fell from 6 ms to 0.5, and throughput rose
/// by half, as the data stays in the processor's cache.
const SHORT_PATH_CWND: u64 = 512 * 1024;

/// The controller of the [module](self).
#[derive(Debug, Clone)]
pub struct Bbr {
    mss: u64,
    cwnd: u64,
    /// Window of the beginning, before anything is known.
    initial: u64,
    model: Model,
    mode: Mode,
    /// ProbeBW's phase.
    phase: usize,
    phase_start: Instant,
    total_lost_at_phase: u64,
    /// Startup has found what the path takes.
    is_full: bool,
    full_bandwidth: u64,
    full_rounds: u32,
    /// The rate is held to this after heavy loss.
    bound: Option<u64>,
    /// The window is held to this after an overflow on a path without pacing.
    ceiling: Option<u64>,
    round_lost: u64,
    round_delivered: u64,
    /// Low rates are our own doing until this round.
    limited_until: u64,
    prior_cwnd: u64,
    /// The least round trip when ProbeRTT began.
    probed_rtt: Duration,
    /// Shuffles the cycles of streams that start together.
    salt: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Startup,
    Drain,
    ProbeBw,
    ProbeRtt {
        /// Set once in flight is low enough.
        end: Option<(Instant, u64)>,
    },
}

impl Bbr {
    /// A controller that knows nothing of the path yet.
    #[must_use]
    pub fn new(now: Instant, max_payload: u64) -> Self {
        let mss = max_payload.max(1);
        Self {
            mss,
            cwnd: initial_window(mss),
            initial: initial_window(mss),
            model: Model::new(now),
            mode: Mode::Startup,
            phase: CRUISE,
            phase_start: now,
            total_lost_at_phase: 0,
            is_full: false,
            full_bandwidth: 0,
            full_rounds: 0,
            bound: None,
            ceiling: None,
            round_lost: 0,
            round_delivered: 0,
            limited_until: 0,
            prior_cwnd: 0,
            probed_rtt: Duration::ZERO,
            salt: 0,
        }
    }

    fn pacing_gain(&self) -> f64 {
        match self.mode {
            Mode::Startup => STARTUP_GAIN,
            Mode::Drain => DRAIN_GAIN,
            Mode::ProbeBw => CYCLE_GAINS[self.phase % CYCLE_GAINS.len()],
            Mode::ProbeRtt { .. } => 1.0,
        }
    }

    fn bandwidth(&self) -> u64 {
        self.model.bandwidth().min(self.bound.unwrap_or(u64::MAX))
    }

    /// `gain` times what the path holds.
    fn inflight(&self, gain: f64) -> u64 {
        let bdp = self.model.bdp(gain).unwrap_or(self.initial);
        match (self.bound, self.model.bandwidth()) {
            (Some(bound), bandwidth) if bound < bandwidth => {
                (bdp as f64 * (bound as f64 / bandwidth as f64)) as u64
            }
            _ => bdp,
        }
    }

    fn min_cwnd(&self) -> u64 {
        MIN_CWND_SEGMENTS * self.mss
    }

    /// Ends a round: was it heavy with loss, and has Startup filled the path?
    fn on_round(&mut self, ack: &Ack) {
        let lost = ack.total_lost.saturating_sub(self.round_lost);
        let delivered = ack.total_delivered.saturating_sub(self.round_delivered);
        self.round_lost = ack.total_lost;
        self.round_delivered = ack.total_delivered;
        self.ceiling = self.ceiling.filter(|_| self.model.is_below_floor());
        if lost == 0
            && let Some(ceiling) = &mut self.ceiling
        {
            *ceiling += *ceiling / OVERFLOW_GROWTH;
        }
        let is_heavy = lost >= HEAVY_LOSS_SEGMENTS * self.mss
            && lost as f64 > (lost + delivered) as f64 * HEAVY_LOSS;
        if is_heavy {
            self.is_full = true;
            if self.mode == Mode::ProbeBw {
                self.bound = Some((self.bandwidth() as f64 * HEAVY_LOSS_BETA) as u64);
            }
        }
        let is_limited = ack.rate.is_some_and(|sample| sample.is_app_limited);
        if self.is_full || is_limited {
            return;
        }
        let bandwidth = self.model.bandwidth();
        if bandwidth as f64 >= self.full_bandwidth as f64 * FULL_GROWTH {
            self.full_bandwidth = bandwidth;
            self.full_rounds = 0;
        } else {
            self.full_rounds += 1;
            self.is_full = self.full_rounds >= FULL_ROUNDS;
        }
    }

    fn advance(&mut self, ack: &Ack) {
        if self.mode == Mode::Startup && self.is_full {
            self.mode = Mode::Drain;
        }
        if self.mode == Mode::Drain && ack.in_flight <= self.inflight(1.0) {
            self.enter_probe_bw(ack);
        }
        if self.mode == Mode::ProbeBw && self.is_phase_over(ack) {
            self.start_phase((self.phase + 1) % CYCLE_GAINS.len(), ack.now, ack.total_lost);
            if self.phase == UP {
                self.bound = None;
            }
        }
    }

    fn enter_probe_bw(&mut self, ack: &Ack) {
        self.mode = Mode::ProbeBw;
        // Anywhere but where the rate is low; it just was.
        let phase = match self.salt >> 32 {
            salt if salt % 7 == 0 => UP,
            salt => DOWN + (salt % 7) as usize,
        };
        self.start_phase(phase, ack.now, ack.total_lost);
    }

    fn start_phase(&mut self, phase: usize, now: Instant, total_lost: u64) {
        self.phase = phase;
        self.phase_start = now;
        self.total_lost_at_phase = total_lost;
    }

    fn is_phase_over(&self, ack: &Ack) -> bool {
        let length = self.model.min_rtt().unwrap_or_default().max(model::RTT_FLOOR);
        let passed = ack.now.saturating_duration_since(self.phase_start);
        let has_passed = passed > length;
        match self.phase {
            // Until it is in flight, or it turns out that it does not fit.
            UP => {
                let has_lost = ack.total_lost > self.total_lost_at_phase;
                has_passed && (has_lost || ack.in_flight_before >= self.inflight(CYCLE_GAINS[UP]))
            }
            // Until the queue is gone, not only what probing added to it; but not for ever.
            DOWN => passed > length * 4 || ack.in_flight <= self.inflight(1.0),
            _ => has_passed,
        }
    }

    /// Keeps little in flight for a while, so that the queue empties and the round trip shows.
    fn probe_rtt(&mut self, ack: &Ack, is_due: bool) {
        let is_probing = matches!(self.mode, Mode::ProbeRtt { .. });
        if is_due && self.is_full && !is_probing && !self.model.is_below_floor() {
            self.prior_cwnd = self.cwnd;
            self.probed_rtt = self.model.min_rtt().unwrap_or_default();
            self.mode = Mode::ProbeRtt { end: None };
        }
        let Mode::ProbeRtt { end } = &mut self.mode else { return };
        let round = self.model.round();
        match *end {
            None if ack.in_flight <= self.cwnd => {
                *end = Some((ack.now + PROBE_RTT_TIME, round + 1));
            }
            Some((at, last_round)) if ack.now >= at && round >= last_round => {
                let min_rtt = self.model.min_rtt().unwrap_or_default();
                if min_rtt < self.probed_rtt - self.probed_rtt / 8 {
                    // What was in flight was meant for a longer round trip: once more.
                    self.probed_rtt = min_rtt;
                    *end = None;
                    return;
                }
                self.limited_until = round + 2;
                self.cwnd = self.cwnd.max(self.prior_cwnd);
                self.enter_probe_bw(ack);
            }
            _ => {}
        }
    }

    fn set_cwnd(&mut self, ack: &Ack) {
        if let Mode::ProbeRtt { .. } = self.mode {
            let most = self.inflight(PROBE_RTT_GAIN).max(self.min_cwnd());
            self.cwnd = self.cwnd.min(most);
            return;
        }
        let gain = if self.mode == Mode::ProbeBw { CWND_GAIN } else { STARTUP_GAIN };
        let target = self.inflight(gain) + self.model.extra_acked();
        if self.is_full {
            self.cwnd = (self.cwnd + ack.delivered).min(target);
        } else if self.cwnd < target || ack.total_delivered < self.initial {
            self.cwnd += ack.delivered;
        }
        if self.model.is_below_floor() {
            self.cwnd = self.cwnd.min(SHORT_PATH_CWND);
        }
        self.cwnd = self.cwnd.min(self.ceiling.unwrap_or(u64::MAX)).max(self.min_cwnd());
    }
}

impl Controller for Bbr {
    fn on_ack(&mut self, ack: &Ack) {
        if let Some(rtt) = ack.rtt {
            let noise = u64::from(rtt.subsec_nanos());
            self.salt = self.salt.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(noise | 1);
        }
        let is_new_round = self.model.begins_round(ack);
        let is_probing_rtt = matches!(self.mode, Mode::ProbeRtt { .. });
        let is_limited = is_probing_rtt || self.model.round() < self.limited_until;
        self.model.take_rate(ack, is_limited);
        if is_new_round {
            self.on_round(ack);
        }
        self.model.take_bunching(ack);
        self.advance(ack);
        let is_due = self.model.take_rtt(ack.now, ack.rtt);
        self.probe_rtt(ack, is_due);
        self.set_cwnd(ack);
    }

    fn on_congestion(&mut self, loss: &Congestion) {
        if self.model.is_below_floor() {
            let left = (loss.flight_size as f64 * OVERFLOW_BETA) as u64;
            self.ceiling = Some(left.max(MIN_CEILING_BYTES));
        }
    }

    fn on_timeout(&mut self, _now: Instant, flight_size: Option<u64>) {
        self.prior_cwnd = self.prior_cwnd.max(self.cwnd);
        self.cwnd = self.mss;
        if flight_size.is_none() {
            self.model.forget_bandwidth();
            self.mode = Mode::Startup;
            self.is_full = false;
            self.full_bandwidth = 0;
            self.full_rounds = 0;
            self.bound = None;
            self.prior_cwnd = 0;
        }
    }

    fn on_spurious(&mut self) {
        self.cwnd = self.cwnd.max(self.prior_cwnd);
    }

    fn on_restart(&mut self, now: Instant) {
        // What the path delivered before the pause is where to go on, without probing for more.
        if self.mode == Mode::ProbeBw {
            self.start_phase(CRUISE, now, self.total_lost_at_phase);
        }
    }

    fn on_start(&mut self, streams: u64) {
        let initial = initial_window(self.mss) * streams.clamp(1, MAX_STARTING_STREAMS);
        if !self.is_full && initial > self.initial {
            self.initial = initial;
            self.cwnd = self.cwnd.max(initial);
        }
    }

    fn set_max_payload(&mut self, bytes: u64) {
        let was_initial = self.cwnd == self.initial;
        let streams = self.initial / initial_window(self.mss).max(1);
        self.mss = bytes.max(1);
        self.initial = initial_window(self.mss) * streams;
        if was_initial {
            self.cwnd = self.initial;
        }
        self.cwnd = self.cwnd.max(self.mss);
    }

    fn cwnd(&self) -> u64 {
        self.cwnd
    }

    fn ssthresh(&self) -> u64 {
        u64::MAX
    }

    fn pacing_rate(&self, srtt: Option<Duration>) -> Option<u64> {
        if self.model.is_below_floor() {
            return None;
        }
        let least = if self.is_full { self.min_cwnd() } else { self.initial };
        let least = rate(least, srtt?)?;
        let gain = self.pacing_gain();
        if !self.is_full {
            // A first exchange of a few bytes says nothing about bandwidth.
            return Some((self.bandwidth().max(least) as f64 * gain) as u64);
        }
        Some(((self.bandwidth() as f64 * gain) as u64).max(least))
    }
}
