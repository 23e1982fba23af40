//! What happens when deadlines pass.

use std::time::{Duration, Instant};

use super::timers::Timer;
use super::{State, Stream, StreamError};

/// SYNs that are repeated after twice the round trip that is known from other streams, and what is
/// added to it: the peer may have other things to do.
const SOON_SYNS: u32 = 2;
const SYN_SLACK: Duration = Duration::from_millis(20);
/// Repetitions of a FIN that a Go node leaves unanswered: it forgets streams, and says nothing
/// about those it does not know.
const GO_FIN_RETRIES: u16 = 5;
/// SYNs after which the intervals start over: by then the endpoint has changed to another path.
const SYNS_PER_PATH: u32 = 3;

impl Stream {
    /// Does what is due by `now`. Early and extra calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::Syn => self.on_syn_timeout(now),
                Timer::Rto => self.on_rto(now),
                Timer::TailProbe => self.on_tail_probe(now),
                Timer::Reorder => self.detect_losses(now),
                Timer::DelayedAck => self.due.ack = true,
                Timer::Nagle => self.due.flush = true,
                Timer::Pace => {} // whoever calls us asks for segments next
                Timer::Persist => {
                    self.persist_backoff += 1;
                    self.due.window_probe = true;
                }
                Timer::KeepAlive => self.on_keepalive(now),
                Timer::Idle => self.on_idle(now),
                Timer::User => self.on_user_timeout(now),
                Timer::Shed => {
                    self.recv.shed();
                    self.arm_shed(now);
                }
                Timer::Linger => self.on_linger(),
                Timer::TimeWait => self.end(None),
            }
        }
    }

    fn on_syn_timeout(&mut self, now: Instant) {
        let after = self.config.connect_timeout;
        if now < self.last_received + after {
            self.due.syn = true;
            return;
        }
        self.due.rst = true; // the listener may have opened a stream, and its answer been lost
        self.end(Some(StreamError::TimedOut { after }));
    }

    /// Time to the next SYN: 1, 2, 4 times the base, then by another path 2, 4, 8 times, and so
    /// on; but never beyond the end of the attempt. If the round trip is known from other streams,
    /// the first repetitions come sooner.
    pub(super) fn syn_interval(&self, now: Instant) -> Duration {
        let doublings = match self.syn_attempts {
            n @ 1..=SYNS_PER_PATH => n - 1,
            n => n.saturating_sub(SYNS_PER_PATH).min(16),
        };
        let base = match self.rtt.expected() {
            Some(rtt) if self.syn_attempts <= SOON_SYNS => {
                self.config.syn_retry.min(rtt * 2 + SYN_SLACK)
            }
            _ => self.config.syn_retry,
        };
        let interval = (base * (1 << doublings)).min(self.config.max_rto);
        let end = self.last_received + self.config.connect_timeout;
        interval.min(end.saturating_duration_since(now))
    }

    /// RFC 6298 s5.4 to 5.6. Everything in flight counts as lost; the window lets one segment out
    /// at first, and more as acknowledgements come.
    fn on_rto(&mut self, now: Instant) {
        let Some(head) = self.board.head() else { return };
        let (start, sent) = (head.start, head.last_sent);
        if head.fin && self.is_go() && head.retransmits >= GO_FIN_RETRIES {
            return self.end(None);
        }
        if head.sacked {
            self.board.forget_sacks();
            self.recut(); // the path may have shrunk since they were sent
        }
        if self.peer_window.is_closed(self.board.una()) {
            // No sign of congestion: this is how a closed window is probed.
            self.board.mark_lost(start);
            self.stats.window_probes += 1;
        } else {
            let first = self.rtt.backoff() == 0;
            let flight_size = self.board.flight_size().min(self.flow.cwnd());
            self.board.mark_all_lost();
            self.flow.on_timeout(now, sent, first.then_some(flight_size));
            self.loss.on_timeout(self.board.nxt(), first);
            self.stats.timeouts += 1;
        }
        self.rtt.back_off();
        self.timers.set(Timer::Rto, now + self.rtt.rto());
        self.timers.stop(Timer::TailProbe);
        self.timers.stop(Timer::Reorder);
    }

    fn on_tail_probe(&mut self, now: Instant) {
        if self.board.is_empty() {
            return;
        }
        self.due.tail_probe = true;
        self.loss.on_probe();
        self.stats.tail_probes += 1;
        self.timers.set(Timer::Rto, now + self.rtt.rto());
    }

    pub(super) fn persist_interval(&self) -> Duration {
        (self.rtt.rto() * (1 << self.persist_backoff.min(16))).min(self.config.max_rto)
    }

    /// Probes a peer from which nothing has come; not while data is in flight, which is as good.
    fn on_keepalive(&mut self, now: Instant) {
        let interval = self.config.keepalive;
        let due = self.last_received + interval;
        if now < due {
            return self.timers.set(Timer::KeepAlive, due);
        }
        self.due.keepalive = self.board.is_empty();
        self.timers.set(Timer::KeepAlive, now + interval);
    }

    fn on_idle(&mut self, now: Instant) {
        let after = self.config.idle_timeout;
        let end = self.last_received + after;
        if now < end {
            return self.timers.set(Timer::Idle, end);
        }
        self.due.rst = true;
        self.end(Some(StreamError::IdleTimeout { after }));
    }

    fn on_user_timeout(&mut self, now: Instant) {
        let after = self.config.user_timeout;
        let end = self.progress_at + after;
        if self.board.is_empty() {
            return;
        }
        if now < end {
            return self.timers.set(Timer::User, end);
        }
        if self.only_fin_is_missing() && (self.fin_received || self.is_go()) {
            return self.end(None); // it has everything, and has left
        }
        self.due.rst = true;
        self.end(Some(StreamError::TimedOut { after }));
    }

    fn on_linger(&mut self) {
        let after = self.config.linger;
        self.due.rst = true;
        let delivered = self.state == State::FinWait2
            || self.only_fin_is_missing() && (self.fin_received || self.is_go());
        self.end((!delivered).then_some(StreamError::TimedOut { after }));
    }
}
