//! Buffers that grow with what a path and an application can use.
//!
//! A window must hold what moves in a round trip, and what that is nobody knows beforehand:
//! 500 Mbit/s over 200 ms need 12 MB, a chat needs a page. So both ends start small, and grow
//! when they see that the buffer is what limits the stream. Room that was offered is never taken
//! back; memory is used only for data that is there.

use std::time::{Duration, Instant};

use super::recv::Assembler;
use super::timers::Timer;
use super::{State, Stream, StreamEvent};

/// Round trips may take so many times the measured one, and a little, without a window being the
/// reason: queues, and machines that are busy.
const RTT_TOLERANCE: u32 = 2;
const RTT_SLACK: Duration = Duration::from_millis(20);
/// Congestion windows that the send buffer holds at most: one in flight, one to be written while
/// that is acknowledged, one because the window may double meanwhile.
const SEND_BUFFER_WINDOWS: u64 = 3;

/// Buffers that were not used for about so long are let go.
const KEEP_SPARES: Duration = Duration::from_secs(1);

/// Grows the receive buffer when the application reads more than half of it in a round trip: the
/// sender, which had the other half to fill meanwhile, might have sent more.
///
/// A receiver has few measurements of the round trip, if any. But data beyond the room that is
/// offered now can only come after more has been offered, hence a round trip from now at the
/// earliest; and exactly then from a sender that waits for room.
#[derive(Debug, Clone)]
pub(super) struct RecvTuner {
    /// The present round: when it began, and what had been read then.
    since: Instant,
    from: u64,
    /// The round trip being measured: from when, until data beyond this arrives.
    marked_at: Instant,
    mark: u64,
    /// Least such round trip.
    waited: Option<Duration>,
}

impl RecvTuner {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, from: 1, marked_at: now, mark: u64::MAX, waited: None }
    }

    /// Data has arrived in order up to `rcv_nxt`, while room up to `edge` was offered.
    pub(super) fn on_data(&mut self, now: Instant, rcv_nxt: u64, edge: u64) {
        if rcv_nxt > self.mark {
            let took = now.saturating_duration_since(self.marked_at);
            self.waited = Some(self.waited.map_or(took, |least| least.min(took)));
            self.mark = u64::MAX;
        }
        if self.mark == u64::MAX {
            (self.mark, self.marked_at) = (edge, now);
        }
    }

    /// The application has read.
    pub(super) fn on_read(
        &mut self,
        now: Instant,
        recv: &mut Assembler,
        srtt: Option<Duration>,
        most: usize,
    ) {
        let consumed = recv.consumed();
        if consumed - self.from < recv.limit() as u64 / 2 {
            return;
        }
        let took = now.saturating_duration_since(self.since);
        if recv.limit() < most && self.round_trip(srtt).is_none_or(|rtt| took <= rtt) {
            recv.grow(recv.limit().saturating_mul(2).min(most));
        }
        (self.since, self.from) = (now, consumed);
    }

    /// What is known of the round trip: its own measure is too long when the sender did not wait
    /// for room, the stream's may be old.
    fn round_trip(&self, srtt: Option<Duration>) -> Option<Duration> {
        let most = srtt.map(|srtt| srtt * RTT_TOLERANCE + RTT_SLACK);
        match (srtt, most, self.waited) {
            (Some(srtt), Some(most), Some(waited)) => Some(waited.clamp(srtt, most)),
            (srtt, _, waited) => srtt.or(waited),
        }
    }
}

impl Stream {
    /// Buffers to be used again are kept for a moment, by a stream that receives.
    pub(super) fn arm_shed(&mut self, now: Instant) {
        if !self.recv.has_spares() {
            return;
        }
        if matches!(self.state, State::TimeWait | State::Closed) {
            self.recv.drop_spares();
        } else {
            self.timers.set_if_idle(Timer::Shed, now + KEEP_SPARES);
        }
    }

    /// When everything written is out, the application had more, and the path would take more,
    /// then the send buffer is what limits the stream.
    pub(super) fn grow_send_buffer(&mut self) {
        if !self.write_blocked || self.send.unsent() > 0 {
            return;
        }
        let (cwnd, in_flight) = self.flow.window();
        let path_has_room = in_flight + u64::from(self.max_payload()) <= cwnd
            && self.peer_window.room(self.board.nxt(), 1, self.board.len()) > 0;
        let windows =
            usize::try_from(cwnd.saturating_mul(SEND_BUFFER_WINDOWS)).unwrap_or(usize::MAX);
        let most = windows.min(self.config.max_send_buffer);
        if path_has_room && self.board.first_lost().is_none() && self.send.grow(most) {
            self.write_blocked = false;
            self.say(StreamEvent::Writable);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const KB: u64 = 1024;

    /// A sender with a window of its own, as fast as that and ours allow, and a reader that takes
    /// everything at once. Returns what our window becomes in two seconds.
    fn window_after(rtt: Duration, cwnd: u64, srtt: Option<Duration>) -> usize {
        let start = Instant::now();
        let mut recv = Assembler::new(64 * 1024);
        let mut tuner = RecvTuner::new(start);
        let (mut now, mut offered) = (start, recv.limit_edge());
        while now < start + 2000 * MS {
            // What was offered arrives at the sender half a round trip later, its answer another
            // half later: one batch each.
            let batch = cwnd.min(offered - recv.rcv_nxt());
            let (end, in_steps) = (recv.rcv_nxt() + batch, batch.min(32 * KB));
            now += rtt;
            while recv.rcv_nxt() < end {
                let len = in_steps.min(end - recv.rcv_nxt());
                recv.insert(recv.rcv_nxt(), &vec![0; len as usize]);
                tuner.on_data(now, recv.rcv_nxt(), offered);
                let _ = recv.read_chunk(usize::MAX);
                tuner.on_read(now, &mut recv, srtt, 64 << 20);
            }
            offered = recv.limit_edge();
        }
        recv.limit()
    }

    #[test]
    fn the_window_grows_to_a_few_times_what_moves_in_a_round_trip() {
        for srtt in [None, Some(50 * MS)] {
            let window = window_after(50 * MS, 1024 * KB, srtt);
            assert!((2 << 20..=8 << 20).contains(&window), "{window}, srtt {srtt:?}");
        }
    }

    #[test]
    fn a_sender_that_never_fills_the_window_leaves_it_as_it_is() {
        assert_eq!(window_after(50 * MS, 8 * KB, Some(50 * MS)), 64 * 1024);
    }

    #[test]
    fn a_window_that_never_suffices_grows_to_the_limit() {
        assert_eq!(window_after(50 * MS, u64::MAX, None), 64 << 20);
    }

    #[test]
    fn a_reader_that_is_slow_gets_no_larger_buffer() {
        let start = Instant::now();
        let mut recv = Assembler::new(64 * 1024);
        let mut tuner = RecvTuner::new(start);
        for i in 0..1000u32 {
            let now = start + 20 * MS * i;
            let free = recv.free();
            recv.insert(recv.rcv_nxt(), &vec![0; free]);
            tuner.on_data(now, recv.rcv_nxt(), recv.limit_edge());
            let _ = recv.read_chunk(4096);
            tuner.on_read(now, &mut recv, Some(20 * MS), 64 << 20);
        }
        assert_eq!(recv.limit(), 64 * 1024);
    }
}
