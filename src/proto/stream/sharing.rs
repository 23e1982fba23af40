//! A stream and its path: whom it shares the path with, and what happens when it gets another.

use std::time::{Duration, Instant};

use super::macroflow::Macroflow;
use super::rtt::RttEstimator;
use super::timers::Timer;
use super::{CongestionControl, State, Stream};

impl Stream {
    /// Chooses another congestion control, which starts anew, for this stream alone; what is in
    /// flight stays. Nothing happens if it has this one.
    pub fn set_congestion(&mut self, now: Instant, congestion: CongestionControl) {
        if self.flow.congestion() != congestion {
            self.enter(now, Macroflow::new(now, congestion, self.max_payload()), false);
        }
    }

    /// Shares window and rate with the other streams on its path. From here on its owner keeps
    /// the line of those that are [held](Self::is_held).
    pub fn share(&mut self, now: Instant, flow: &Macroflow) {
        self.enter(now, flow.clone(), true);
    }

    fn enter(&mut self, now: Instant, flow: Macroflow, is_shared: bool) {
        self.flow.move_to(flow, is_shared, &self.board);
        self.flow.set_max_payload(self.max_payload().into());
        self.flow.update_pacing(now, self.rtt.srtt());
        self.timers.stop(Timer::Pace);
    }

    /// Segments go by quite another path from now on: round trips and bandwidth are measured anew.
    /// `rtt` is what is expected of it.
    pub fn on_path_change(&mut self, now: Instant, rtt: Option<Duration>) {
        self.rtt = RttEstimator::new(&self.config);
        if let Some(rtt) = rtt {
            self.rtt.expect(rtt);
        }
        self.flow.start_over(now);
        self.timers.stop(Timer::Pace);
    }

    /// The path that segments went by was dead, and there is another: what is in flight goes out
    /// again at once.
    pub fn on_path_death(&mut self, now: Instant) {
        self.due.syn |= self.state == State::SynSent;
        self.rtt.reset_backoff();
        if !self.board.is_empty() {
            self.board.mark_all_lost();
            self.flow.sync(&self.board);
            self.timers.set(Timer::Rto, now + self.rtt.rto());
            self.timers.stop(Timer::TailProbe);
            self.timers.stop(Timer::Reorder);
        }
    }

    /// Whether there is data that could go, but for the window or the rate that it shares with
    /// others.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.is_held && self.flow.is_shared()
    }

    /// Whether there is something to send that does not wait in line with data: what others
    /// wait for, or what was lost.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.due.any() || self.board.first_lost().is_some()
    }
}
