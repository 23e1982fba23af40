//! Which segments are lost: RACK (RFC 8985), with the DupThresh of RFC 6675 inside it.
//!
//! A segment is lost when one that was *sent* sufficiently later has arrived. Because that is
//! about time, not about numbers, a lost retransmission is noticed as well, and the tail loss
//! probe turns the loss of the last segments into the same case. Both dialects report every gap
//! by SACK, so there is no counting of duplicate acknowledgements.

use std::time::{Duration, Instant};

use super::rtt::RttEstimator;
use super::scoreboard::{Delivery, Scoreboard};

/// Segments delivered beyond a gap after which reordering is no longer waited for.
const DUP_THRESH: usize = 3;
/// Least time before a tail loss probe, so that a delayed acknowledgement comes first.
const MIN_PROBE_TIMEOUT: Duration = Duration::from_millis(10);
/// Tail loss probes in a row; then the timeout comes.
const MAX_PROBES: u32 = 2;
/// Recoveries after which the reordering window shrinks again (RFC 8985 s6.2 step 4).
const REORDER_PERSISTENCE: u32 = 16;

/// What is known about the order of arrival.
#[derive(Debug, Default)]
pub(super) struct LossDetector {
    /// RACK.xmit_ts and RACK.end_seq as one number, and RACK.rtt.
    newest_tx: Option<u64>,
    rtt: Duration,
    reordering_seen: bool,
    /// RACK.reo_wnd_mult; grows when a retransmission proves to have been needless.
    window_mult: u32,
    recoveries_left: u32,
    /// While recovering: SND.NXT when the loss was found.
    recovery_point: Option<u64>,
    /// The reduction that began this recovery can still turn out to have been needless.
    may_undo: bool,
    /// Tail loss probes sent since anything new arrived.
    probes: u32,
}

impl LossDetector {
    /// Takes note of what an acknowledgement delivered. `true`: what recovery began with had only
    /// been late (RFC 3522, but by the round-trip time instead of a timestamp); it is over.
    pub(super) fn on_delivery(
        &mut self,
        now: Instant,
        delivery: &Delivery,
        rtt: &RttEstimator,
        una: u64,
    ) -> bool {
        let mut is_spurious = false;
        if let Some(newest) = &delivery.newest {
            let took = now.saturating_duration_since(newest.last_sent);
            let is_original = rtt.min_rtt().is_some_and(|min| took < min);
            if newest.retransmits > 0 && is_original {
                // RFC 8985 s6.2 step 1: too early for the retransmission; the original came late.
                self.on_needless_retransmission();
                is_spurious = self.in_recovery() && self.may_undo;
                self.may_undo = false;
            } else if self.newest_tx.is_none_or(|tx| tx < newest.tx) {
                self.newest_tx = Some(newest.tx);
                self.rtt = took;
            }
        }
        self.reordering_seen |= delivery.reordered;
        self.probes = 0;
        if is_spurious || self.recovery_point.is_some_and(|point| una >= point) {
            self.recovery_point = None;
            self.recoveries_left = self.recoveries_left.saturating_sub(1);
            if self.recoveries_left == 0 {
                self.window_mult = 1;
            }
        }
        is_spurious
    }

    fn on_needless_retransmission(&mut self) {
        self.reordering_seen = true;
        self.window_mult = (self.window_mult.max(1) + 1).min(64);
        self.recoveries_left = REORDER_PERSISTENCE;
    }

    /// Marks what is lost by now. Returns when to look again for what may only be late.
    pub(super) fn detect(
        &self,
        now: Instant,
        board: &mut Scoreboard,
        rtt: &RttEstimator,
    ) -> (bool, Option<Instant>) {
        let Some(newest_tx) = self.newest_tx else { return (false, None) };
        let patience = self.rtt + self.reordering_window(board, rtt);
        let mut any = false;
        while let Some(segment) = board.oldest_transmission() {
            if segment.tx >= newest_tx {
                break;
            }
            let deadline = segment.last_sent + patience;
            if deadline > now {
                return (any, Some(deadline));
            }
            let start = segment.start;
            board.mark_lost(start);
            any = true;
        }
        (any, None)
    }

    /// RFC 8985 s6.2 step 4.
    fn reordering_window(&self, board: &Scoreboard, rtt: &RttEstimator) -> Duration {
        if !self.reordering_seen && (self.in_recovery() || board.sacked_segments() >= DUP_THRESH) {
            return Duration::ZERO;
        }
        let quarter = rtt.min_rtt().unwrap_or_default() / 4;
        (quarter * self.window_mult.max(1)).min(rtt.srtt().unwrap_or_default())
    }

    /// A loss was found. `true` if it is the first of its window of data, so that the congestion
    /// window must be reduced.
    pub(super) fn enter_recovery(&mut self, nxt: u64) -> bool {
        if self.in_recovery() {
            return false;
        }
        self.recovery_point = Some(nxt);
        self.may_undo = true;
        true
    }

    /// After a timeout: everything up to `nxt` is sent again before the window counts as lossless.
    /// `is_first`: of several in a row.
    pub(super) fn on_timeout(&mut self, nxt: u64, is_first: bool) {
        self.recovery_point = Some(nxt);
        self.may_undo = is_first;
    }

    pub(super) fn in_recovery(&self) -> bool {
        self.recovery_point.is_some()
    }

    /// How long to wait for an acknowledgement before a segment is sent again to provoke one
    /// (RFC 8985 s7.2); `None` when there is nothing to gain by it. Unlike there, it is also done
    /// during recovery, as a retransmission behind which nothing is left to send is a tail, too;
    /// and it is repeated, each time after twice as long, since a probe is lost as easily as what
    /// it asks for, and the least timeout is ten round trips of 20 ms (RFC 9002 s6.2 does so).
    pub(super) fn probe_timeout(
        &self,
        board: &Scoreboard,
        rtt: &RttEstimator,
        delayed_ack: Duration,
    ) -> Option<Duration> {
        if board.in_flight() == 0
            || self.probes >= MAX_PROBES
            || rtt.backoff() > 0
            || board.first_lost().is_some()
        {
            return None;
        }
        let (srtt, rttvar) = (rtt.srtt().or(rtt.expected())?, rtt.rttvar()?);
        let slack = if board.len() == 1 { delayed_ack * 2 } else { Duration::ZERO };
        // Twice the round trip, or less where it hardly varies.
        let timeout = (srtt * 2 + slack).min(srtt + (rttvar * 4).max(srtt / 4) + delayed_ack * 2);
        Some(timeout.max(MIN_PROBE_TIMEOUT) * (1 << self.probes))
    }

    /// A tail loss probe was sent.
    pub(super) fn on_probe(&mut self) {
        self.probes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::StreamConfig;
    use super::super::macroflow::Stamp;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Flight {
        now: Instant,
        board: Scoreboard,
        loss: LossDetector,
        rtt: RttEstimator,
    }

    impl Flight {
        /// Segments of 10 bytes, one each millisecond, on a path of 40 ms.
        fn new(segments: u32) -> Self {
            let start = Instant::now();
            let mut board = Scoreboard::new();
            (0..segments)
                .for_each(|i| board.push(start + MS * i, 10, false, Stamp::first(start + MS * i)));
            let mut rtt = RttEstimator::new(&StreamConfig::default());
            rtt.sample(40 * MS);
            Self { now: start + 50 * MS, board, loss: LossDetector::default(), rtt }
        }

        fn sack(&mut self, left: u64, right: u64) -> (bool, Option<Instant>) {
            let mut delivery = Delivery::default();
            self.board.sack(left, right, &mut delivery);
            self.loss.on_delivery(self.now, &delivery, &self.rtt, self.board.una());
            self.loss.detect(self.now, &mut self.board, &self.rtt)
        }
    }

    #[test]
    fn three_segments_beyond_a_gap_are_a_loss_and_fewer_wait_a_quarter_round_trip() {
        let mut flight = Flight::new(6);
        let (lost, again) = flight.sack(11, 21);
        assert!(!lost && again.is_some_and(|at| at > flight.now));
        let (lost, again) = flight.sack(21, 41);
        assert!(lost && again.is_none());
        assert_eq!(flight.board.first_lost(), Some(1));
    }

    #[test]
    fn a_lost_retransmission_is_noticed_without_a_timeout() {
        let mut flight = Flight::new(6);
        flight.sack(11, 41);
        flight.loss.enter_recovery(flight.board.nxt());
        flight.board.retransmit(flight.now, 1, Stamp::first(flight.now));
        flight.board.push(flight.now + MS, 10, false, Stamp::first(flight.now + MS));
        flight.now += 60 * MS;
        flight.sack(61, 71);
        assert_eq!(flight.board.first_lost(), Some(1));
    }

    #[test]
    fn an_acknowledgement_too_early_for_the_retransmission_teaches_patience() {
        let mut flight = Flight::new(6);
        flight.sack(11, 41);
        flight.board.retransmit(flight.now, 1, Stamp::first(flight.now));
        flight.now += 5 * MS;
        flight.sack(1, 11);
        assert!(flight.loss.reordering_seen);
        assert_eq!(flight.loss.window_mult, 2);
    }

    #[test]
    fn a_tail_is_probed_twice_and_not_after_a_timeout() {
        let mut flight = Flight::new(2);
        let probe = |f: &Flight| f.loss.probe_timeout(&f.board, &f.rtt, 5 * MS);
        assert_eq!(probe(&flight), Some(80 * MS));
        flight.loss.on_probe();
        assert_eq!(probe(&flight), Some(160 * MS));
        flight.loss.on_probe();
        assert_eq!(probe(&flight), None);
        flight.loss.probes = 0;
        flight.rtt.back_off();
        assert_eq!(probe(&flight), None);
    }
}
