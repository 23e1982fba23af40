//! How streams end: half close, close, reset, and the Go peer's way.
//!
//! Between our nodes each direction ends by itself: FIN follows the last byte, takes a number,
//! carries a valid acknowledgement and is acknowledged like data. A Go node's FIN ends both
//! directions and is answered by FIN+ACK, which itself is never answered: two Go nodes of
//! February that do so keep at it for ever.

use std::time::{Duration, Instant};

use super::timers::Timer;
use super::{Dialect, Segment, State, Stream, StreamError, StreamEvent};
use crate::wire::Flags;

/// Least time between two answers to a repeated FIN.
const FIN_ACK_INTERVAL: Duration = Duration::from_millis(200);

impl Stream {
    /// Ends this direction: the peer reads the end after all that was written, and may go on
    /// sending. Again, or after a Go peer has closed, it does nothing.
    ///
    /// # Errors
    /// `HalfCloseUnsupported` toward a Go node, whose streams only close as a whole; if that is
    /// only learned when it answers, the stream fails with it. Otherwise the stream's error.
    pub fn finish(&mut self, now: Instant) -> Result<(), StreamError> {
        let _ = now;
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.finishing || self.fin_sent() {
            return Ok(());
        }
        match self.dialect {
            Some(Dialect::Native(options)) if options.half_close => {}
            None => {}
            _ => return Err(StreamError::HalfCloseUnsupported),
        }
        self.finishing = true;
        Ok(())
    }

    /// Lets go of the stream: delivers what was written, then FIN; what arrives from now on is
    /// dropped. Gives up, with RST, after [`linger`](super::StreamConfig::linger) without
    /// progress.
    pub fn close(&mut self, now: Instant) {
        if self.released {
            return;
        }
        self.released = true;
        self.recv.discard();
        match self.state {
            State::Closed | State::TimeWait => {}
            State::SynSent if self.send.buffered() == 0 => {
                self.due.rst = self.syn_attempts > 0;
                self.end(None);
            }
            _ => {
                self.finishing = true;
                self.timers.set(Timer::Linger, now + self.config.linger);
            }
        }
    }

    /// Drops the stream at once, with RST, and whatever was not delivered.
    pub fn abort(&mut self, now: Instant) {
        let _ = now;
        self.released = true;
        self.recv.discard();
        if self.state == State::Closed {
            return;
        }
        let nothing_sent = self.state == State::SynSent && self.syn_attempts == 0;
        self.due.rst = !nothing_sent && self.state != State::TimeWait;
        self.end(Some(StreamError::Aborted));
    }

    /// Fails the stream at once and without a packet, because the peer is known to have forgotten
    /// it ([`StreamError::PeerRestarted`]) or cannot be reached.
    pub fn fail(&mut self, now: Instant, error: StreamError) {
        let _ = now;
        self.due.rst = false;
        self.end(Some(error));
    }

    /// The peer's FIN, after `data_len` bytes in the same segment.
    pub(super) fn on_fin(&mut self, segment: &Segment<'_>, data_len: usize) {
        self.due.ack = true;
        let Some(start) = self.offset_of(segment.seq) else { return };
        self.note_fin(start + data_len as u64);
    }

    /// Remembers where the peer's stream ends, unless it is said to end where it cannot.
    fn note_fin(&mut self, at: u64) -> bool {
        let possible = (self.recv.rcv_nxt()..=self.recv.limit_edge() + 1).contains(&at);
        if possible && self.fin_at.is_none() {
            self.fin_at = Some(at);
        }
        possible
    }

    /// A Go node's FIN (`FIN`) or its answer to ours (`FIN+ACK`).
    pub(super) fn on_go_fin(&mut self, now: Instant, segment: &Segment<'_>) {
        let is_answer = segment.flags.contains(Flags::ACK);
        if is_answer && !self.on_ack(now, segment, None, None) {
            return;
        }
        if matches!(self.state, State::Closed) {
            return;
        }
        if self.fin_received {
            if !is_answer {
                self.answer_go_fin(now);
            }
            return;
        }
        let Some(at) = self.offset_of(segment.seq) else { return };
        if !self.note_fin(at) {
            return;
        }
        self.fin_wants_answer |= !is_answer;
        self.consume_fin(now);
        if !self.fin_received {
            self.due.ack = true; // ahead of missing data: say what is missing
        }
    }

    fn answer_go_fin(&mut self, now: Instant) {
        let recently = |last| now.saturating_duration_since(last) < FIN_ACK_INTERVAL;
        if !self.last_fin_ack.is_some_and(recently) {
            self.last_fin_ack = Some(now);
            self.due.fin_ack = true;
        }
    }

    /// When everything before the peer's FIN has arrived, its direction has ended.
    pub(super) fn consume_fin(&mut self, now: Instant) {
        if self.fin_received || self.fin_at != Some(self.recv.rcv_nxt()) {
            return;
        }
        self.recv.consume_fin();
        self.fin_received = true;
        if !self.released {
            self.say(StreamEvent::Readable);
        }
        if self.is_go() {
            if self.fin_wants_answer {
                self.answer_go_fin(now);
            }
            let undelivered = self.send.buffered() > 0;
            return self.enter_time_wait(now, undelivered.then_some(StreamError::PeerClosed));
        }
        self.due.ack = true;
        self.state = self.state.after_fin_received();
        if self.state == State::TimeWait {
            self.enter_time_wait(now, None);
        }
    }

    /// Our FIN is acknowledged, and so is everything before it.
    pub(super) fn on_fin_acked(&mut self, now: Instant) {
        self.state = self.state.after_fin_acked();
        match self.state {
            State::TimeWait => self.enter_time_wait(now, None),
            State::Closed => self.end(None),
            _ => {}
        }
    }

    /// Over in both directions; stays to answer what was lost or comes late.
    fn enter_time_wait(&mut self, now: Instant, error: Option<StreamError>) {
        self.state = State::TimeWait;
        self.timers.stop_all();
        self.timers.set(Timer::TimeWait, now + self.config.time_wait);
        self.send.clear();
        self.board.clear();
        self.leave_window();
        self.say_closed(error);
    }

    /// Over at once.
    pub(super) fn end(&mut self, error: Option<StreamError>) {
        self.state = State::Closed;
        self.timers.stop_all();
        self.send.clear();
        self.board.clear();
        self.leave_window();
        self.recv.drop_waiting();
        self.due = super::output::Due { rst: self.due.rst, ..Default::default() };
        self.say_closed(error);
    }

    /// What was in flight is nobody's concern any more.
    fn leave_window(&mut self) {
        self.is_held = false;
        self.flow.set_busy(false);
        self.flow.sync(&self.board);
    }

    /// Says, once, how the stream ended; what comes after that (an RST in TIME_WAIT) is no news.
    fn say_closed(&mut self, error: Option<StreamError>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.error = error;
        if !self.released {
            self.say(StreamEvent::Readable);
        }
        if std::mem::take(&mut self.write_blocked) {
            self.say(StreamEvent::Writable);
        }
        self.say(StreamEvent::Closed(error));
    }

    /// Whether nothing of ours is missing but the acknowledgement of FIN.
    pub(super) fn only_fin_is_missing(&self) -> bool {
        self.fin_sent() && self.send.buffered() == 0
    }
}
