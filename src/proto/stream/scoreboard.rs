//! What was sent and is not acknowledged, segment by segment (RFC 6675's scoreboard).
//!
//! Segments are atoms: a Go node drops a retransmission that does not start exactly at the byte it
//! expects, so boundaries don't change once a segment was sent. Only toward our own nodes, and
//! only when the path has become too small for them, segments are cut again ([`recut`]): a piece
//! never crosses a boundary that was ever sent, so whatever SACK reports still is whole segments.
//! Every counter that a packet needs is kept up to date, so nothing that happens for each packet
//! scans the flight: it may hold 50,000 segments.
//!
//! [`recut`]: Scoreboard::recut

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::congestion::RateSample;
use super::ranges::RangeSet;

/// Room for segments that an idle stream keeps: requests and answers need not allocate.
const IDLE_SEGMENTS: usize = 4;

/// One transmitted segment. A FIN is a segment of one number.
#[derive(Debug, Clone)]
pub(super) struct SentSegment {
    pub(super) start: u64,
    pub(super) len: u32,
    pub(super) fin: bool,
    pub(super) last_sent: Instant,
    pub(super) retransmits: u16,
    pub(super) sacked: bool,
    pub(super) lost: bool,
    /// There was less to send than the path would have taken when it was last sent.
    is_app_limited: bool,
    /// Microseconds in which the data was sent that was in flight when it was last sent.
    send_elapsed: u32,
    /// Number of its last transmission; orders transmissions of equal time.
    pub(super) tx: u64,
    /// Bytes delivered on the stream when it was last sent, and when that was.
    delivered: u64,
    delivered_at: Instant,
}

impl SentSegment {
    pub(super) fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }

    /// Believed to be in the network: neither delivered nor lost.
    fn is_in_flight(&self) -> bool {
        !self.sacked && !self.lost
    }
}

/// What one acknowledgement delivered.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Bytes acknowledged in order.
    pub(super) acked: u64,
    /// Whether any segment is newly known to have arrived.
    pub(super) any: bool,
    /// Of these, the one transmitted last.
    pub(super) newest: Option<SentSegment>,
    /// When the last sent of those that were sent only once left (Karn's rule).
    pub(super) sent_once: Option<Instant>,
    /// A segment sent once arrived after one that was sent later (RFC 8985 s6.2 step 3).
    pub(super) reordered: bool,
    /// Our FIN is acknowledged.
    pub(super) fin: bool,
}

/// Segments between `una` and `nxt`.
#[derive(Debug)]
pub(super) struct Scoreboard {
    una: u64,
    nxt: u64,
    segments: VecDeque<SentSegment>,
    sacked: RangeSet,
    sacked_segments: usize,
    sacked_bytes: u64,
    lost: BTreeSet<u64>,
    in_flight: u64,
    /// Transmissions in order, (tx, start); those that are superseded stay until they are met.
    log: VecDeque<(u64, u64)>,
    next_tx: u64,
    /// Highest offset known to have arrived (RACK.fack).
    highest_delivered: u64,
    delivered: u64,
    delivered_at: Option<Instant>,
    /// When the newest segment that has arrived was sent: the flight being measured begins here.
    first_sent: Option<Instant>,
    /// What is delivered up to here tells how much there was to send, not what the path takes.
    app_limited_until: u64,
    /// Bytes found lost so far, timeouts not included.
    lost_bytes: u64,
}

impl Scoreboard {
    /// Starts after our SYN, which has number 0.
    pub(super) fn new() -> Self {
        Self {
            una: 1,
            nxt: 1,
            segments: VecDeque::new(),
            sacked: RangeSet::default(),
            sacked_segments: 0,
            sacked_bytes: 0,
            lost: BTreeSet::new(),
            in_flight: 0,
            log: VecDeque::new(),
            next_tx: 0,
            highest_delivered: 1,
            delivered: 0,
            delivered_at: None,
            first_sent: None,
            app_limited_until: 0,
            lost_bytes: 0,
        }
    }

    /// Records a new segment of `len` bytes, or FIN.
    pub(super) fn push(&mut self, now: Instant, len: u32, fin: bool) {
        let send_elapsed = self.begin_flight(now);
        let segment = SentSegment {
            start: self.nxt,
            len,
            fin,
            last_sent: now,
            retransmits: 0,
            sacked: false,
            lost: false,
            is_app_limited: self.app_limited_until > 0,
            send_elapsed,
            tx: self.next_tx,
            delivered: self.delivered,
            delivered_at: self.delivered_at.unwrap_or(now),
        };
        self.log.push_back((segment.tx, segment.start));
        self.next_tx += 1;
        self.nxt = segment.end();
        self.in_flight += u64::from(len);
        self.segments.push_back(segment);
    }

    /// For the delivery rate: a flight starts anew if nothing is in the network. Returns how long
    /// the present one has been sent.
    fn begin_flight(&mut self, now: Instant) -> u32 {
        if self.in_flight == 0 {
            self.delivered_at = Some(now);
            self.first_sent = Some(now);
        }
        let elapsed = self.first_sent.map(|first| now.saturating_duration_since(first));
        u32::try_from(elapsed.unwrap_or_default().as_micros()).unwrap_or(u32::MAX)
    }

    /// The path would take more than there is to send.
    pub(super) fn mark_app_limited(&mut self) {
        self.app_limited_until = (self.delivered + self.in_flight).max(1);
    }

    /// Records that the segment at `start` is sent again, and returns it.
    pub(super) fn retransmit(&mut self, now: Instant, start: u64) -> Option<SentSegment> {
        let index = self.index_of(start)?;
        let send_elapsed = self.begin_flight(now);
        let segment = self.segments.get_mut(index)?;
        if segment.lost {
            segment.lost = false;
            self.lost.remove(&start);
            self.in_flight += u64::from(segment.len);
        }
        segment.last_sent = now;
        segment.retransmits = segment.retransmits.saturating_add(1);
        segment.is_app_limited = self.app_limited_until > 0;
        segment.send_elapsed = send_elapsed;
        segment.tx = self.next_tx;
        segment.delivered = self.delivered;
        segment.delivered_at = self.delivered_at.unwrap_or(now);
        self.next_tx += 1;
        self.log.push_back((segment.tx, start));
        Some(segment.clone())
    }

    /// Everything below `offset` is acknowledged.
    pub(super) fn ack(&mut self, now: Instant, offset: u64, delivery: &mut Delivery) {
        let offset = offset.min(self.nxt);
        if offset <= self.una {
            return;
        }
        let before = self.highest_delivered;
        while let Some(segment) = self.segments.pop_front_if(|segment| segment.end() <= offset) {
            let len = u64::from(segment.len);
            if segment.is_in_flight() {
                self.in_flight -= len;
            }
            if segment.lost {
                self.lost.remove(&segment.start);
            }
            delivery.fin |= segment.fin;
            if segment.sacked {
                self.sacked_segments -= 1;
                self.sacked_bytes -= len;
            } else {
                self.deliver(now, &segment, before, delivery);
            }
        }
        delivery.acked += offset - self.una;
        self.una = offset;
        self.sacked.remove_below(offset);
        if self.segments.is_empty() {
            self.rest();
        }
    }

    /// Nothing is outstanding: an idle stream keeps little.
    fn rest(&mut self) {
        self.log.clear();
        if self.segments.capacity() > IDLE_SEGMENTS {
            self.segments = VecDeque::new();
        }
        if self.log.capacity() > IDLE_SEGMENTS {
            self.log = VecDeque::new();
        }
    }

    /// The peer holds `left..right`, out of order. Only whole segments count.
    pub(super) fn sack(&mut self, now: Instant, left: u64, right: u64, delivery: &mut Delivery) {
        let (mut from, right) = (left.max(self.una), right.min(self.nxt));
        let before = self.highest_delivered;
        while let Some((start, end)) = self.sacked.next_gap(from, right) {
            let mut index = self.segments.partition_point(|segment| segment.start < start);
            let mut covered = start;
            while let Some(segment) = self.segments.get_mut(index)
                && segment.end() <= end
            {
                let len = u64::from(segment.len);
                if segment.is_in_flight() {
                    self.in_flight -= len;
                }
                if segment.lost {
                    segment.lost = false;
                    self.lost.remove(&segment.start);
                }
                segment.sacked = true;
                self.sacked_segments += 1;
                self.sacked_bytes += len;
                if index == 0 || covered != segment.start {
                    covered = segment.start;
                }
                let segment = segment.clone();
                self.sacked.insert(segment.start, segment.end());
                self.deliver(now, &segment, before, delivery);
                index += 1;
            }
            from = end.max(covered);
        }
    }

    fn deliver(&mut self, now: Instant, segment: &SentSegment, before: u64, d: &mut Delivery) {
        d.any = true;
        self.delivered += u64::from(segment.len);
        self.delivered_at = Some(now);
        if segment.retransmits == 0 {
            d.reordered |= segment.end() < before;
            d.sent_once = d.sent_once.max(Some(segment.last_sent));
        }
        if d.newest.as_ref().is_none_or(|newest| newest.tx < segment.tx) {
            d.newest = Some(segment.clone());
            self.first_sent = Some(segment.last_sent);
        }
        self.highest_delivered = self.highest_delivered.max(segment.end());
    }

    /// The delivery rate over the flight of `segment`, which has just been delivered.
    pub(super) fn rate_sample(&mut self, now: Instant, segment: &SentSegment) -> RateSample {
        if self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let send_elapsed = Duration::from_micros(segment.send_elapsed.into());
        RateSample {
            delivered: self.delivered - segment.delivered,
            interval: now.saturating_duration_since(segment.delivered_at).max(send_elapsed),
            prior_delivered: segment.delivered,
            is_app_limited: segment.is_app_limited,
        }
    }

    /// The oldest transmission still in the network.
    pub(super) fn oldest_transmission(&mut self) -> Option<&SentSegment> {
        while let Some(&(tx, start)) = self.log.front() {
            let index = (start >= self.una).then(|| self.index_of(start)).flatten();
            let current = index.and_then(|index| self.segments.get(index));
            if current.is_some_and(|segment| segment.tx == tx && segment.is_in_flight()) {
                return index.and_then(|index| self.segments.get(index));
            }
            self.log.pop_front();
        }
        None
    }

    /// The segment at `start` is lost; it will be sent again.
    pub(super) fn mark_lost(&mut self, start: u64) {
        if let Some(index) = self.index_of(start)
            && let Some(segment) = self.segments.get_mut(index)
            && segment.is_in_flight()
        {
            segment.lost = true;
            self.in_flight -= u64::from(segment.len);
            self.lost_bytes += u64::from(segment.len);
            self.lost.insert(start);
        }
    }

    /// Nothing was lost after all: what counts as lost is in flight again, as it was sent.
    pub(super) fn forget_losses(&mut self) {
        for start in std::mem::take(&mut self.lost) {
            if let Some(index) = self.index_of(start)
                && let Some(segment) = self.segments.get_mut(index)
            {
                segment.lost = false;
                self.in_flight += u64::from(segment.len);
            }
        }
        let in_flight = self.segments.iter().filter(|segment| segment.is_in_flight());
        let mut log: Vec<_> = in_flight.map(|segment| (segment.tx, segment.start)).collect();
        log.sort_unstable();
        self.log = log.into();
    }

    /// Everything that is not delivered is lost.
    pub(super) fn mark_all_lost(&mut self) {
        for segment in self.segments.iter_mut().filter(|segment| segment.is_in_flight()) {
            segment.lost = true;
            self.lost.insert(segment.start);
        }
        self.in_flight = 0;
        self.log.clear();
    }

    /// Cuts what is too large for segments of `max` bytes, since the path does not carry it any
    /// more: pieces take its place, lost, to be sent again. `cut` says how much of a number of
    /// bytes from an offset makes the next piece, all of them if it likes. Returns whether there
    /// were any such segments.
    pub(super) fn recut(&mut self, max: u32, mut cut: impl FnMut(u64, u32) -> u32) -> bool {
        let is_too_large = |segment: &SentSegment| segment.len > max && !segment.sacked;
        let Some(first) = self.segments.iter().position(is_too_large) else { return false };
        for segment in self.segments.split_off(first) {
            if !is_too_large(&segment) {
                self.segments.push_back(segment);
                continue;
            }
            if segment.lost {
                self.lost.remove(&segment.start);
            } else {
                self.in_flight -= u64::from(segment.len);
            }
            let end = segment.end();
            // What is acknowledged of it was delivered.
            let mut start = segment.start.max(self.una);
            self.delivered += start - segment.start;
            while start < end {
                let most = u32::try_from(end - start).unwrap_or(u32::MAX).min(max);
                let len = cut(start, most).clamp(1, most);
                self.lost.insert(start);
                self.segments.push_back(SentSegment { start, len, lost: true, ..segment.clone() });
                start += u64::from(len);
            }
        }
        true
    }

    /// Forgets all SACK marks: the peer has dropped what it had reported (RFC 2018 s8).
    pub(super) fn forget_sacks(&mut self) {
        for segment in self.segments.iter_mut().filter(|segment| segment.sacked) {
            segment.sacked = false;
            self.in_flight += u64::from(segment.len);
        }
        self.sacked.clear();
        self.sacked_segments = 0;
        self.sacked_bytes = 0;
    }

    /// Forgets everything: the stream is over.
    pub(super) fn clear(&mut self) {
        let (una, nxt, next_tx) = (self.una, self.nxt, self.next_tx);
        *self = Self { una, nxt, next_tx, ..Self::new() };
    }

    fn index_of(&self, start: u64) -> Option<usize> {
        let index = self.segments.partition_point(|segment| segment.start < start);
        (self.segments.get(index)?.start == start).then_some(index)
    }

    /// How many unacknowledged segments precede the one at `start`.
    pub(super) fn segments_before(&self, start: u64) -> usize {
        self.segments.partition_point(|segment| segment.start < start)
    }

    /// Start of the first lost segment.
    pub(super) fn first_lost(&self) -> Option<u64> {
        self.lost.first().copied()
    }

    /// The segment at `start`.
    pub(super) fn get(&self, start: u64) -> Option<&SentSegment> {
        self.segments.get(self.index_of(start)?)
    }

    /// The first unacknowledged segment.
    pub(super) fn head(&self) -> Option<&SentSegment> {
        self.segments.front()
    }

    /// The last segment that was sent.
    pub(super) fn last(&self) -> Option<&SentSegment> {
        self.segments.back()
    }

    /// SND.UNA as an offset.
    pub(super) fn una(&self) -> u64 {
        self.una
    }

    /// SND.NXT as an offset.
    pub(super) fn nxt(&self) -> u64 {
        self.nxt
    }

    /// Number of unacknowledged segments, delivered out of order or not.
    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes believed to be in the network (RFC 6675's pipe).
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Bytes sent and not known to be delivered, lost or not (RFC 5681's FlightSize, with SACK).
    pub(super) fn flight_size(&self) -> u64 {
        (self.nxt - self.una).saturating_sub(self.sacked_bytes)
    }

    pub(super) fn sacked_segments(&self) -> usize {
        self.sacked_segments
    }

    /// All bytes delivered so far, in order or not.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// All bytes found lost so far, timeouts not included.
    pub(super) fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(segments: u32) -> (Scoreboard, Instant) {
        let now = Instant::now();
        let mut board = Scoreboard::new();
        (0..segments).for_each(|_| board.push(now, 10, false));
        (board, now)
    }

    #[test]
    fn pipe_counts_neither_delivered_nor_lost_segments() {
        let (mut board, now) = board(5);
        let mut d = Delivery::default();
        assert_eq!(board.in_flight(), 50);
        board.sack(now, 21, 41, &mut d);
        assert_eq!((board.in_flight(), board.sacked_segments()), (30, 2));
        board.sack(now, 21, 41, &mut d);
        assert_eq!((board.in_flight(), board.sacked_segments()), (30, 2));
        board.mark_lost(1);
        board.mark_lost(21);
        assert_eq!((board.in_flight(), board.first_lost()), (20, Some(1)));
        let again = board.retransmit(now, 1).unwrap();
        assert_eq!((again.len, again.retransmits, board.in_flight()), (10, 1, 30));
        board.ack(now, 41, &mut d);
        assert_eq!((board.in_flight(), board.len(), board.una(), d.acked), (10, 1, 41, 40));
    }

    #[test]
    fn sack_blocks_outside_the_flight_or_inside_a_segment_mark_nothing() {
        let (mut board, now) = board(3);
        let mut d = Delivery::default();
        board.sack(now, 12, 20, &mut d);
        board.sack(now, 31, 99, &mut d);
        board.sack(now, 25, 15, &mut d);
        assert!(!d.any && board.in_flight() == 30);
        board.sack(now, 5, 25, &mut d);
        assert_eq!((board.sacked_segments(), board.in_flight()), (1, 20));
        board.sack(now, 0, 99, &mut d);
        assert_eq!((board.sacked_segments(), board.in_flight()), (3, 0));
    }

    #[test]
    fn a_partial_acknowledgement_keeps_the_segment_whole() {
        let (mut board, now) = board(2);
        board.ack(now, 6, &mut Delivery::default());
        assert_eq!((board.una(), board.head().unwrap().start, board.len()), (6, 1, 2));
    }

    #[test]
    fn the_oldest_transmission_skips_what_was_sent_again_or_arrived() {
        let (mut board, now) = board(4);
        let mut d = Delivery::default();
        board.ack(now, 11, &mut d);
        board.mark_lost(11);
        board.retransmit(now, 11);
        board.sack(now, 21, 31, &mut d);
        assert_eq!(board.oldest_transmission().unwrap().start, 31);
        board.mark_lost(31);
        assert_eq!(board.oldest_transmission().unwrap().start, 11);
        board.mark_all_lost();
        assert!(board.oldest_transmission().is_none());
        assert_eq!(board.in_flight(), 0);
    }

    #[test]
    fn late_arrival_of_a_segment_sent_once_is_reordering() {
        let (mut board, now) = board(3);
        let mut d = Delivery::default();
        board.sack(now, 11, 31, &mut d);
        assert!(!d.reordered);
        board.ack(now, 31, &mut d);
        assert!(d.reordered);
    }

    fn all(board: &Scoreboard) -> Vec<(u64, u32, bool)> {
        board.segments.iter().map(|s| (s.start, s.len, s.lost)).collect()
    }

    #[test]
    fn what_is_too_large_is_cut_into_lost_pieces_but_not_what_has_arrived() {
        let (mut board, now) = board(3);
        let mut d = Delivery::default();
        board.push(now, 3, false);
        board.sack(now, 11, 21, &mut d);
        board.ack(now, 4, &mut d);
        assert!(board.recut(4, |_, len| len));
        let pieces = [(4, 4, true), (8, 3, true), (11, 10, false)];
        let rest = [(21, 4, true), (25, 4, true), (29, 2, true), (31, 3, false)];
        assert_eq!(all(&board), [&pieces[..], &rest[..]].concat());
        assert_eq!((board.in_flight(), board.first_lost(), board.lost.len()), (3, Some(4), 5));
        assert!(!board.recut(4, |_, len| len), "once");

        board.retransmit(now, 4);
        board.sack(now, 4, 8, &mut d);
        board.sack(now, 21, 31, &mut d); // the whole segment had arrived
        assert_eq!((board.in_flight(), board.first_lost()), (3, Some(8)));
        board.ack(now, 34, &mut d);
        assert!(board.is_empty() && board.lost.is_empty() && board.in_flight() == 0);
        assert_eq!(board.delivered, 33);
    }

    #[test]
    fn pieces_are_cut_where_the_caller_wants_and_again_inside() {
        let (mut board, _) = board(1);
        board.recut(5, |start, len| if start == 6 { 1 } else { len });
        assert_eq!(all(&board), [(1, 5, true), (6, 1, true), (7, 4, true)]);
        board.recut(2, |_, len| len);
        let starts: Vec<u64> = board.segments.iter().map(|s| s.start).collect();
        assert_eq!(starts, [1, 3, 5, 6, 7, 9]);
        assert_eq!((board.lost.len(), board.in_flight()), (6, 0));
    }

    #[test]
    fn a_peer_that_drops_what_it_reported_is_served_again() {
        let (mut board, now) = board(3);
        let mut d = Delivery::default();
        board.sack(now, 1, 21, &mut d);
        board.forget_sacks();
        board.mark_all_lost();
        assert_eq!((board.first_lost(), board.sacked_segments()), (Some(1), 0));
    }
}
