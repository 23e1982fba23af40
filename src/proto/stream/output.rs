//! What to send next.

use std::time::Instant;

use super::macroflow::Room;
use super::timers::Timer;
use super::{Dialect, Outgoing, State, Stream};
use crate::wire::sack::{MAX_BLOCKS, SackBlock, SackBlocks, looks_like_sack};
use crate::wire::{Flags, Seq};

/// Segments that something other than new data calls for.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) syn: bool,
    pub(super) syn_ack: bool,
    /// FIN+ACK, with which a Go node's FIN is answered.
    pub(super) fin_ack: bool,
    pub(super) rst: bool,
    /// An acknowledgement, now.
    pub(super) ack: bool,
    /// A keep-alive probe.
    pub(super) keepalive: bool,
    /// One segment regardless of the congestion window, to provoke an acknowledgement.
    pub(super) tail_probe: bool,
    /// One small segment regardless of the peer's window.
    pub(super) window_probe: bool,
    /// What Nagle's rule held back.
    pub(super) flush: bool,
}

impl Due {
    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        let Self { syn, syn_ack, fin_ack, rst, ack, .. } = self;
        *syn || *syn_ack
            || *fin_ack
            || *rst
            || *ack
            || self.keepalive
            || self.tail_probe
            || self.window_probe
    }
}

impl Stream {
    /// Writes the next segment: its payload is appended to `buf`, its header is returned. Call
    /// until it returns `None`.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Outgoing> {
        self.is_held = false;
        let Some(outgoing) = self.next_segment(now, buf) else {
            self.grow_send_buffer();
            self.flow.set_busy(self.is_held);
            self.note_app_limited();
            return None;
        };
        self.flow.sync(&self.board);
        self.flow.set_busy(self.send.unsent() > 0);
        self.stats.segments_sent += 1;
        self.last_sent = now;
        Some(outgoing)
    }

    fn next_segment(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Outgoing> {
        if std::mem::take(&mut self.due.rst) {
            return Some(self.rst());
        }
        match self.state {
            State::Closed => return None,
            State::SynSent => return self.next_while_dialing(now, buf),
            _ => {}
        }
        if std::mem::take(&mut self.due.syn_ack) {
            self.syn_acks += 1;
            self.syn_sent_at = now;
            if let Some(Dialect::Native(_)) = self.dialect {
                self.config.options().encode(buf);
            }
            let (seq, ack) = (Seq(0), self.irs.add(1));
            let flags = Flags::SYN.with(Flags::ACK);
            return Some(Outgoing { flags, seq, ack, window: self.local_window.at_open() });
        }
        if std::mem::take(&mut self.due.fin_ack) {
            self.acknowledged();
            let (seq, ack) = (Seq::from_offset(self.board.nxt()), self.ack_number());
            return Some(Outgoing { flags: Flags::FIN.with(Flags::ACK), seq, ack, window: 0 });
        }
        // SACK needs a segment of its own, and the sender is waiting for it.
        if self.due.ack && self.has_gap() {
            return Some(self.pure_ack(buf));
        }
        if let Some(outgoing) = self.next_with_data(now, buf) {
            return Some(outgoing);
        }
        if std::mem::take(&mut self.due.keepalive) {
            return Some(self.keepalive_probe(buf));
        }
        self.due.ack.then(|| self.pure_ack(buf))
    }

    fn next_while_dialing(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Outgoing> {
        if std::mem::take(&mut self.due.syn) {
            self.config.options().encode(buf);
            self.syn_attempts += 1;
            self.syn_sent_at = now;
            if self.syn_attempts > 1 {
                // What followed a SYN that was lost is ignored, and takes no room.
                self.board.mark_all_lost();
            }
            self.timers.set(Timer::Syn, now + self.syn_interval(now));
            let window = self.local_window.at_open();
            return Some(Outgoing { flags: Flags::SYN, seq: Seq(0), ack: Seq(0), window });
        }
        if self.config.early_data && self.syn_attempts > 0 && self.board.first_lost().is_none() {
            return self.new_data(now, buf);
        }
        None
    }

    fn next_with_data(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Outgoing> {
        if std::mem::take(&mut self.due.window_probe) {
            self.stats.window_probes += 1;
            if let Some(outgoing) = self.send_new(now, buf, 1) {
                return Some(outgoing);
            }
        }
        if let Some(start) = self.board.first_lost()
            && self.may_retransmit(now, start)
        {
            return self.retransmit(now, start, buf);
        }
        if let Some(outgoing) = self.new_data(now, buf) {
            self.due.tail_probe = false;
            return Some(outgoing);
        }
        if let Some(outgoing) = self.fin(now) {
            return Some(outgoing);
        }
        if std::mem::take(&mut self.due.tail_probe) {
            let last = self.board.last().filter(|last| !last.sacked);
            let start = last.or(self.board.head())?.start;
            return self.retransmit(now, start, buf);
        }
        None
    }

    /// Whether a lost segment may be sent again now.
    fn may_retransmit(&mut self, now: Instant, start: u64) -> bool {
        let Some(segment) = self.board.get(start) else { return false };
        let len = u64::from(segment.len);
        self.peer_window.allows_again(segment.end(), self.board.segments_before(start))
            && self.has_room(now, len)
    }

    /// Whether window and pacer let `bytes` go now. If not, the stream is held; if it is the pacer
    /// of this stream alone, the timer is set for when it lets go.
    fn has_room(&mut self, now: Instant, bytes: u64) -> bool {
        self.flow.sync(&self.board);
        let room = self.flow.room(now, bytes);
        match room {
            Room::At(at) if !self.flow.is_shared() => self.timers.set(Timer::Pace, at),
            _ => self.timers.stop(Timer::Pace),
        }
        self.is_held |= room != Room::Now;
        room == Room::Now
    }

    /// A round trip was measured, or the like.
    pub(super) fn update_pacing(&mut self, now: Instant) {
        self.flow.update_pacing(now, self.rtt.srtt());
    }

    /// There is nothing to send. If neither the window nor pacing is the reason, the application
    /// or the peer's window is, and what is in flight says nothing about the path's bandwidth.
    fn note_app_limited(&mut self) {
        if !self.is_held && self.board.first_lost().is_none() {
            self.flow.note_app_limited();
        }
    }

    fn retransmit(&mut self, now: Instant, start: u64, buf: &mut Vec<u8>) -> Option<Outgoing> {
        let len = self.board.get(start)?.len;
        let stamp = self.flow.on_sent(now, len.into());
        let segment = self.board.retransmit(now, start, stamp)?;
        self.stats.segments_retransmitted += 1;
        self.after_sending(now);
        if segment.fin {
            return Some(self.fin_header(segment.start));
        }
        self.stats.bytes_retransmitted += u64::from(segment.len);
        self.send.copy_sent(segment.start, segment.len as usize, buf);
        Some(self.header(Flags::ACK, segment.start))
    }

    /// The next segment never sent, if the windows, Nagle's rule and the state allow one.
    fn new_data(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Outgoing> {
        let unsent = self.send.unsent();
        if unsent == 0 || self.fin_sent() {
            return None;
        }
        let full = usize::from(self.max_payload());
        let want = unsent.min(full);
        let room = self.peer_window.room(self.board.nxt(), want, self.board.len());
        if room == 0 && self.board.is_empty() && self.state != State::SynSent {
            self.timers.set_if_idle(Timer::Persist, now + self.persist_interval());
        }
        // Less than wanted is only worth sending when nothing else will move the window
        // (RFC 9293 s3.8.6.2.1).
        if room == 0 || room < want && !self.board.is_empty() {
            return None;
        }
        if self.board.is_empty() {
            self.flow.on_start(now, self.rtt.rto(), self.rtt.expected());
        }
        if room < full && self.must_hold_short_segment(now) {
            return None;
        }
        if !self.due.tail_probe && !self.has_room(now, room as u64) {
            return None;
        }
        self.send_new(now, buf, room)
    }

    /// Nagle's rule (RFC 896): a short segment waits while anything is unacknowledged; as at Go
    /// nodes, not for long.
    fn must_hold_short_segment(&mut self, now: Instant) -> bool {
        if self.nodelay || self.finishing || self.due.flush || self.board.is_empty() {
            return false;
        }
        self.timers.set_if_idle(Timer::Nagle, now + self.config.nagle_hold);
        true
    }

    /// Cuts a segment of `len` bytes, or of one byte if the peer would take it for SACK blocks.
    /// That is so in either dialect: one rule, and no receiver has to guess.
    fn send_new(&mut self, now: Instant, buf: &mut Vec<u8>, len: usize) -> Option<Outgoing> {
        let len = len.min(self.send.unsent());
        if len == 0 {
            return None;
        }
        let at = buf.len();
        self.send.peek(len, buf);
        if buf.get(at..).is_some_and(looks_like_sack) {
            buf.truncate(at + 1);
        }
        let len = buf.len() - at;
        let start = self.board.nxt();
        self.note_first_in_flight(now);
        self.send.advance(len);
        let stamp = self.flow.on_sent(now, len as u64);
        self.board.push(now, u32::try_from(len).unwrap_or(u32::MAX), false, stamp);
        self.stats.bytes_sent += len as u64;
        if self.send.unsent() == 0 {
            self.due.flush = false;
            self.timers.stop(Timer::Nagle);
        }
        self.timers.stop(Timer::Persist);
        self.after_sending(now);
        Some(self.header(Flags::ACK, start))
    }

    /// Our FIN, after the last byte; toward a Go node only when all is acknowledged, since its
    /// older releases drop what is missing then.
    fn fin(&mut self, now: Instant) -> Option<Outgoing> {
        if !self.finishing || self.fin_sent() || self.send.unsent() > 0 {
            return None;
        }
        if self.is_go() && !self.board.is_empty() {
            return None;
        }
        let start = self.board.nxt();
        self.note_first_in_flight(now);
        let stamp = self.flow.on_sent(now, 1);
        self.board.push(now, 1, true, stamp);
        self.state = match self.state {
            State::CloseWait => State::LastAck,
            _ => State::FinWait1,
        };
        self.after_sending(now);
        Some(self.fin_header(start))
    }

    fn fin_header(&mut self, start: u64) -> Outgoing {
        if self.is_go() {
            let seq = Seq::from_offset(start);
            return Outgoing { flags: Flags::FIN, seq, ack: Seq(0), window: 0 };
        }
        self.header(Flags::FIN.with(Flags::ACK), start)
    }

    /// A segment of one byte that the peer has long had, so that it must answer; an empty one is
    /// answered by nobody.
    fn keepalive_probe(&mut self, buf: &mut Vec<u8>) -> Outgoing {
        self.stats.keepalive_probes += 1;
        buf.push(0);
        self.header(Flags::ACK, self.board.nxt() - 1)
    }

    fn pure_ack(&mut self, buf: &mut Vec<u8>) -> Outgoing {
        if self.has_gap() {
            self.sack_blocks().encode(buf);
        }
        self.header(Flags::ACK, self.board.nxt())
    }

    /// Whether something has arrived ahead of what is missing.
    pub(super) fn has_gap(&self) -> bool {
        self.recv.has_gap() || self.early_fin().is_some()
    }

    /// The number of a FIN that is ahead of missing data. It is reported like data, so that the
    /// sender sees at once that what it sent just before is lost; a Go node would not understand.
    fn early_fin(&self) -> Option<u64> {
        self.fin_at.filter(|_| !self.fin_received && !self.is_go())
    }

    /// The range with the latest arrival, then others in turn, so that the loss of one
    /// acknowledgement hides nothing for long; in the order of their numbers, as Go nodes do.
    fn sack_blocks(&mut self) -> SackBlocks {
        let ranges = self.recv.ranges();
        let mut chosen = Vec::with_capacity(MAX_BLOCKS);
        chosen.extend(ranges.containing(self.latest_range));
        for from in [self.sack_from, 0] {
            for range in ranges.iter_from(from) {
                if chosen.len() < MAX_BLOCKS && !chosen.contains(&range) {
                    self.sack_from = range.1;
                    chosen.push(range);
                }
                if chosen.len() == MAX_BLOCKS {
                    break;
                }
            }
        }
        if let Some(fin) = self.early_fin() {
            chosen.retain(|(_, right)| *right != fin);
            chosen.truncate(MAX_BLOCKS - 1);
            let left = ranges.containing(fin.saturating_sub(1)).map_or(fin, |(left, _)| left);
            chosen.push((left, fin + 1));
        }
        chosen.sort_unstable();
        let mut blocks = SackBlocks::default();
        for (left, right) in chosen {
            blocks.push(SackBlock { left: self.peer_number(left), right: self.peer_number(right) });
        }
        blocks
    }

    fn rst(&self) -> Outgoing {
        let seq = match self.dialect {
            Some(Dialect::Native(_)) => Seq::from_offset(self.board.nxt()),
            _ => Seq(0), // Go peer: no sequence check, zeros on the wire
        };
        Outgoing { seq, ..Outgoing::refusal() }
    }

    /// The header of a segment that acknowledges all that was received.
    fn header(&mut self, flags: Flags, start: u64) -> Outgoing {
        self.acknowledged();
        let window = match self.dialect {
            None => self.local_window.at_open(),
            Some(_) => self.local_window.announce(&self.recv),
        };
        Outgoing { flags, seq: Seq::from_offset(start), ack: self.ack_number(), window }
    }

    /// The segment being written acknowledges all that was received.
    fn acknowledged(&mut self) {
        self.due.ack = false;
        self.unacked_segments = 0;
        self.timers.stop(Timer::DelayedAck);
    }

    fn ack_number(&self) -> Seq {
        self.peer_number(self.recv.rcv_nxt())
    }

    /// An offset of the peer's as it counts on the wire.
    fn peer_number(&self, offset: u64) -> Seq {
        Seq::from_offset(u64::from(self.irs.0) + offset)
    }

    fn note_first_in_flight(&mut self, now: Instant) {
        if self.board.is_empty() {
            self.progress_at = now;
        }
    }

    /// Arms what guards data in flight.
    fn after_sending(&mut self, now: Instant) {
        if self.state == State::SynSent {
            return;
        }
        self.timers.set_if_idle(Timer::Rto, now + self.rtt.rto());
        self.timers.set_if_idle(Timer::User, self.progress_at + self.config.user_timeout);
        self.arm_tail_probe(now);
    }

    pub(super) fn arm_tail_probe(&mut self, now: Instant) {
        let closed = self.peer_window.is_closed(self.board.una());
        let timeout = self.loss.probe_timeout(&self.board, &self.rtt, self.config.delayed_ack);
        match (timeout, self.timers.get(Timer::Rto)) {
            (Some(timeout), Some(rto)) if !closed && now + timeout < rto => {
                self.timers.set(Timer::TailProbe, now + timeout);
            }
            _ => self.timers.stop(Timer::TailProbe),
        }
    }

    /// Whether our FIN has been sent, acknowledged or not.
    pub(super) fn fin_sent(&self) -> bool {
        self.state.fin_sent()
    }
}
