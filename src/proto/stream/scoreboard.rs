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

mod recut;

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::macroflow::Stamp;
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
    /// Number of its last transmission; orders transmissions of equal time.
    pub(super) tx: u64,
    /// What had been delivered on the path when it was last sent.
    pub(super) stamp: Stamp,
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
    /// Bytes newly known to have arrived, in order or not.
    pub(super) bytes: u64,
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
            lost_bytes: 0,
        }
    }

    /// Records a new segment of `len` bytes, or FIN.
    pub(super) fn push(&mut self, now: Instant, len: u32, fin: bool, stamp: Stamp) {
        let segment = SentSegment {
            start: self.nxt,
            len,
            fin,
            last_sent: now,
            retransmits: 0,
            sacked: false,
            lost: false,
            tx: self.next_tx,
            stamp,
        };
        self.log.push_back((segment.tx, segment.start));
        self.next_tx += 1;
        self.nxt = segment.end();
        self.in_flight += u64::from(len);
        self.segments.push_back(segment);
    }

    /// Records that the segment at `start` is sent again, and returns it.
    pub(super) fn retransmit(
        &mut self,
        now: Instant,
        start: u64,
        stamp: Stamp,
    ) -> Option<SentSegment> {
        let index = self.index_of(start)?;
        let segment = self.segments.get_mut(index)?;
        if segment.lost {
            segment.lost = false;
            self.lost.remove(&start);
            self.in_flight += u64::from(segment.len);
        }
        segment.last_sent = now;
        segment.retransmits = segment.retransmits.saturating_add(1);
        segment.tx = self.next_tx;
        segment.stamp = stamp;
        self.next_tx += 1;
        self.log.push_back((segment.tx, start));
        Some(segment.clone())
    }

    /// Everything below `offset` is acknowledged.
    pub(super) fn ack(&mut self, offset: u64, delivery: &mut Delivery) {
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
                self.deliver(&segment, before, delivery);
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
    pub(super) fn sack(&mut self, left: u64, right: u64, delivery: &mut Delivery) {
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
                self.deliver(&segment, before, delivery);
                index += 1;
            }
            from = end.max(covered);
        }
    }

    fn deliver(&mut self, segment: &SentSegment, before: u64, d: &mut Delivery) {
        d.any = true;
        d.bytes += u64::from(segment.len);
        if segment.retransmits == 0 {
            d.reordered |= segment.end() < before;
            d.sent_once = d.sent_once.max(Some(segment.last_sent));
        }
        if d.newest.as_ref().is_none_or(|newest| newest.tx < segment.tx) {
            d.newest = Some(segment.clone());
        }
        self.highest_delivered = self.highest_delivered.max(segment.end());
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
        (0..segments).for_each(|_| board.push(now, 10, false, Stamp::first(now)));
        (board, now)
    }

    #[test]
    fn pipe_counts_neither_delivered_nor_lost_segments() {
        let (mut board, now) = board(5);
        let mut d = Delivery::default();
        assert_eq!(board.in_flight(), 50);
        board.sack(21, 41, &mut d);
        assert_eq!((board.in_flight(), board.sacked_segments()), (30, 2));
        board.sack(21, 41, &mut d);
        assert_eq!((board.in_flight(), board.sacked_segments()), (30, 2));
        board.mark_lost(1);
        board.mark_lost(21);
        assert_eq!((board.in_flight(), board.first_lost()), (20, Some(1)));
        let again = board.retransmit(now, 1, Stamp::first(now)).unwrap();
        assert_eq!((again.len, again.retransmits, board.in_flight()), (10, 1, 30));
        board.ack(41, &mut d);
        assert_eq!((board.in_flight(), board.len(), board.una(), d.acked), (10, 1, 41, 40));
    }

    #[test]
    fn sack_blocks_outside_the_flight_or_inside_a_segment_mark_nothing() {
        let (mut board, _) = board(3);
        let mut d = Delivery::default();
        board.sack(12, 20, &mut d);
        board.sack(31, 99, &mut d);
        board.sack(25, 15, &mut d);
        assert!(!d.any && board.in_flight() == 30);
        board.sack(5, 25, &mut d);
        assert_eq!((board.sacked_segments(), board.in_flight()), (1, 20));
        board.sack(0, 99, &mut d);
        assert_eq!((board.sacked_segments(), board.in_flight()), (3, 0));
    }

    #[test]
    fn a_partial_acknowledgement_keeps_the_segment_whole() {
        let (mut board, _) = board(2);
        board.ack(6, &mut Delivery::default());
        assert_eq!((board.una(), board.head().unwrap().start, board.len()), (6, 1, 2));
    }

    #[test]
    fn the_oldest_transmission_skips_what_was_sent_again_or_arrived() {
        let (mut board, now) = board(4);
        let mut d = Delivery::default();
        board.ack(11, &mut d);
        board.mark_lost(11);
        board.retransmit(now, 11, Stamp::first(now));
        board.sack(21, 31, &mut d);
        assert_eq!(board.oldest_transmission().unwrap().start, 31);
        board.mark_lost(31);
        assert_eq!(board.oldest_transmission().unwrap().start, 11);
        board.mark_all_lost();
        assert!(board.oldest_transmission().is_none());
        assert_eq!(board.in_flight(), 0);
    }

    #[test]
    fn late_arrival_of_a_segment_sent_once_is_reordering() {
        let (mut board, _) = board(3);
        let mut d = Delivery::default();
        board.sack(11, 31, &mut d);
        assert!(!d.reordered);
        board.ack(31, &mut d);
        assert!(d.reordered);
    }

    #[test]
    fn a_peer_that_drops_what_it_reported_is_served_again() {
        let (mut board, _) = board(3);
        let mut d = Delivery::default();
        board.sack(1, 21, &mut d);
        board.forget_sacks();
        board.mark_all_lost();
        assert_eq!((board.first_lost(), board.sacked_segments()), (Some(1), 0));
    }
}
