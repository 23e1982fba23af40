//! What a received segment means.

use std::time::Instant;

use super::recv::Inserted;
use super::scoreboard::Delivery;
use super::timers::Timer;
use super::{Segment, State, Stream, StreamError, StreamEvent};
use crate::wire::{Flags, SackBlocks, Seq};

/// Payload below which a segment counts as the end of something, until larger ones are seen.
pub(super) const LEAST_FULL_SEGMENT: usize = 1152;
/// Full segments acknowledged at once.
const ACK_EVERY: u32 = 2;
/// Short segments acknowledged at once where answers are expected.
const ACK_EVERY_SHORT: u32 = 8;

impl Stream {
    /// Takes a segment of this stream. Nonsense is dropped without a word.
    pub fn handle_segment(&mut self, now: Instant, segment: &Segment<'_>) {
        self.take_segment(now, segment);
        self.flow.sync(&self.board);
    }

    fn take_segment(&mut self, now: Instant, segment: &Segment<'_>) {
        if self.state == State::Closed {
            return;
        }
        self.stats.segments_received += 1;
        if segment.flags.contains(Flags::RST) {
            return self.on_rst(segment);
        }
        if self.state == State::SynSent {
            return self.on_answer(now, segment);
        }
        self.last_received = now;
        if segment.flags.contains(Flags::SYN) {
            return self.on_syn(segment);
        }
        if self.is_go() && segment.flags.contains(Flags::FIN) {
            return self.on_go_fin(now, segment);
        }
        if !segment.flags.contains(Flags::ACK) {
            return; // Go peer: a payload without ACK is ignored
        }
        let sack = SackBlocks::parse(segment.payload);
        let data = if sack.is_some() { &[] } else { segment.payload };
        if !self.on_ack(now, segment, sack, Some(segment.window)) || self.state == State::Closed {
            return;
        }
        if !data.is_empty() {
            self.on_data(now, segment.seq, data);
        } else if sack.is_none()
            && !segment.flags.contains(Flags::FIN)
            && self.local_window.answers_probe(&self.recv)
        {
            // A probe. Answered only if the answer is news, or two peers would do so for ever.
            self.due.ack = true;
        }
        if segment.flags.contains(Flags::FIN) {
            self.on_fin(segment, data.len());
        }
        self.consume_fin(now);
    }

    /// While dialing, only the answer to SYN counts: nothing else tells the peer's numbers.
    fn on_answer(&mut self, now: Instant, segment: &Segment<'_>) {
        let answer = Flags::SYN.with(Flags::ACK);
        let ack = segment.ack.unwrap_near(self.board.una()).unwrap_or(0);
        if !segment.flags.contains(Flags::ACK) || !(1..=self.board.nxt()).contains(&ack) {
            return;
        }
        if !segment.flags.contains(answer) {
            // The peer talks already: its answer was lost, and is to be had without waiting.
            self.due.syn |= self.syn_attempts == 1;
            return;
        }
        self.last_received = now;
        self.progress_at = now;
        self.learn_dialect(segment);
        self.state = State::Established;
        self.timers.stop(Timer::Syn);
        self.timers.set(Timer::KeepAlive, now + self.config.keepalive);
        self.timers.set(Timer::Idle, now + self.config.idle_timeout);
        if self.syn_attempts == 1 {
            self.rtt.sample(now.saturating_duration_since(self.syn_sent_at));
            self.update_pacing(now);
        } else {
            // The first SYN was probably lost, and what came before its repetition ignored.
            self.board.mark_all_lost();
        }
        self.due.ack = true;
        self.say(StreamEvent::Connected);
        if !self.board.is_empty() {
            self.timers.set(Timer::Rto, now + self.rtt.rto());
            self.timers.set(Timer::User, now + self.config.user_timeout);
            self.arm_tail_probe(now);
        }
        self.on_ack(now, segment, None, None);
        if self.is_go() && self.finishing && !self.released {
            self.due.rst = true;
            self.end(Some(StreamError::HalfCloseUnsupported));
        }
    }

    /// A SYN for a stream that exists: our SYN-ACK was lost, and with it perhaps what followed.
    fn on_syn(&mut self, segment: &Segment<'_>) {
        if segment.flags.contains(Flags::ACK) {
            self.due.ack = true;
        } else if self.syn_attempts == 0 && self.state != State::TimeWait {
            self.due.syn_ack = true;
            if self.board.una() == 1 {
                self.board.mark_all_lost();
            }
        }
    }

    fn on_rst(&mut self, segment: &Segment<'_>) {
        if self.state == State::SynSent {
            return self.end(Some(StreamError::Refused));
        }
        // Go peer: an RST carries zeros. Any other number must be one we could receive next,
        // FIN and a window probe included.
        let plausible = segment.seq == Seq(0)
            || self.offset_of(segment.seq).is_some_and(|offset| {
                (self.recv.rcv_nxt()..=self.recv.limit_edge() + 2).contains(&offset)
            });
        if !plausible {
            return;
        }
        let delivered = self.is_drained() || self.only_fin_is_missing() && self.fin_received;
        let in_order = self.state == State::TimeWait || self.released && delivered;
        self.end((!in_order).then_some(StreamError::Reset));
    }

    /// Takes acknowledgement, SACK blocks and window. `false` if the segment acknowledges what was
    /// never sent, and so is not of this stream.
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        sack: Option<SackBlocks>,
        window: Option<u16>,
    ) -> bool {
        let una = self.board.una();
        let Some(ack) = segment.ack.unwrap_near(una) else { return false };
        if ack > self.board.nxt() {
            return false;
        }
        if self.state == State::SynReceived {
            self.state = State::Established;
        }
        // The third packet measures the path, unless it comes so late that it is another one, or
        // is early data, which left before our SYN-ACK arrived.
        let took = now.saturating_duration_since(self.syn_sent_at);
        if self.syn_acks == 1
            && self.rtt.srtt().is_none()
            && ack == 1
            && segment.payload.is_empty()
            && took < self.config.initial_rto
        {
            self.rtt.sample(took);
            self.update_pacing(now);
        }
        if ack < una {
            return true;
        }
        let was_closed = self.peer_window.is_closed(una);
        let mut delivery = Delivery::default();
        self.board.ack(ack, &mut delivery);
        for block in sack.iter().flat_map(SackBlocks::as_slice) {
            if let (Some(left), Some(right)) =
                (block.left.unwrap_near(ack), block.right.unwrap_near(ack))
            {
                self.board.sack(left, right, &mut delivery);
            }
        }
        if let Some(window) = window {
            let is_news = !segment.payload.is_empty()
                || ack != una
                || self.offset_of(segment.seq) != Some(self.recv.rcv_nxt());
            self.peer_window.update(ack, window, is_news);
        }
        if delivery.any {
            self.on_delivery(now, &delivery);
        }
        if delivery.acked > 0 {
            self.on_progress(now, &delivery);
        }
        self.after_window(now, was_closed, delivery.acked > 0);
        true
    }

    fn on_delivery(&mut self, now: Instant, delivery: &Delivery) {
        let rtt = delivery.sent_once.map(|sent| now.saturating_duration_since(sent));
        if let Some(rtt) = rtt {
            self.rtt.sample(rtt);
        }
        if self.loss.on_delivery(now, delivery, &self.rtt, self.board.una()) {
            self.board.forget_losses();
            self.flow.on_spurious();
        }
        self.detect_losses(now);
        let rtts = (rtt, self.rtt.srtt());
        self.flow.on_delivery(now, delivery, &self.board, rtts, self.loss.in_recovery());
        self.arm_tail_probe(now);
    }

    /// Looks for lost segments, now and when those that may only be late are due.
    pub(super) fn detect_losses(&mut self, now: Instant) {
        let (lost, again) = self.loss.detect(now, &mut self.board, &self.rtt);
        match again {
            Some(at) => self.timers.set(Timer::Reorder, at),
            None => self.timers.stop(Timer::Reorder),
        }
        if lost && self.loss.enter_recovery(self.board.nxt()) {
            self.stats.recoveries += 1;
            self.flow.on_congestion(now, &self.board);
            self.timers.stop(Timer::TailProbe);
        }
    }

    /// Something was acknowledged in order.
    fn on_progress(&mut self, now: Instant, delivery: &Delivery) {
        self.progress_at = now;
        self.rtt.reset_backoff();
        let una = self.board.una();
        self.send.release(una, self.board.head().map_or(una, |head| head.start));
        self.stats.bytes_acked = self.send.una() - 1;
        if self.write_blocked && self.send.is_below_half() {
            self.write_blocked = false;
            self.say(StreamEvent::Writable);
        }
        if self.board.is_empty() {
            self.timers.stop(Timer::Rto);
            self.timers.stop(Timer::User);
        } else {
            self.timers.set(Timer::Rto, now + self.rtt.rto());
        }
        if self.timers.get(Timer::Linger).is_some() {
            self.timers.set(Timer::Linger, now + self.config.linger);
        }
        if delivery.fin {
            self.on_fin_acked(now);
        }
        self.arm_tail_probe(now);
    }

    /// What a changed window means for data that waits.
    fn after_window(&mut self, now: Instant, was_closed: bool, advanced: bool) {
        let una = self.board.una();
        if self.peer_window.is_closed(una) {
            self.progress_at = now; // the peer lives, and says that it is its reader who does not
            return;
        }
        self.persist_backoff = 0;
        self.timers.stop(Timer::Persist);
        if was_closed
            && !advanced
            && let Some(head) = self.board.head()
        {
            // It was sent into the closed window and found no room.
            let start = head.start;
            self.board.mark_lost(start);
        }
    }

    fn on_data(&mut self, now: Instant, seq: Seq, data: &[u8]) {
        let Some(start) = self.offset_of(seq) else { return };
        let end = start + data.len() as u64;
        if self.fin_at.is_some_and(|fin| end > fin) && !self.fin_received {
            return;
        }
        let before = self.recv.rcv_nxt();
        if self.released && self.state == State::FinWait2 && end > before {
            // Nobody will read it, and the sender should know.
            self.due.rst = true;
            return self.end(None);
        }
        let had_gap = self.has_gap();
        match self.recv.insert(start, data) {
            Inserted::InOrder => {
                self.stats.bytes_received += self.recv.rcv_nxt() - before;
                self.local_window.on_data();
                self.recv_tuner.on_data(now, self.recv.rcv_nxt(), self.local_window.edge());
                if !self.released {
                    self.say(StreamEvent::Readable);
                }
                self.schedule_ack(now, data.len(), had_gap);
                return;
            }
            Inserted::OutOfOrder => {
                self.latest_range = start;
                self.stats.segments_out_of_order += 1;
            }
            Inserted::Duplicate => self.stats.segments_duplicate += 1,
            Inserted::NoRoom => self.stats.segments_dropped += 1,
        }
        self.due.ack = true; // RFC 5681 s4.2
    }

    /// Full segments are acknowledged in pairs; short ones at once, because a Go peer holds its
    /// next short segment until then, for up to 40 ms. Where answers are expected, a few short
    /// ones wait for the answer to carry the acknowledgement.
    fn schedule_ack(&mut self, now: Instant, len: usize, had_gap: bool) {
        let full = len >= self.full_segment;
        self.full_segment = self.full_segment.max(len);
        self.unacked_segments += 1;
        let every = match full {
            true => ACK_EVERY,
            false if self.answers_soon && !self.is_go() => ACK_EVERY_SHORT,
            false => 1,
        };
        if had_gap || self.unacked_segments >= every {
            self.due.ack = true;
        } else {
            self.timers.set_if_idle(Timer::DelayedAck, now + self.config.delayed_ack);
        }
    }

    /// The offset that the peer calls `seq`.
    pub(super) fn offset_of(&self, seq: Seq) -> Option<u64> {
        Seq(seq.0.wrapping_sub(self.irs.0)).unwrap_near(self.recv.rcv_nxt())
    }
}
