//! Receiving: segments in any order become bytes in order.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};

use super::ranges::RangeSet;
use super::ready::ReadyQueue;

/// A segment that waited behind a gap is handed on as it is from this size, else gathered.
const KEEP_WHOLE_BYTES: usize = 4096;
/// Room for segments behind a gap: one for so many bytes of buffer, so that a flood of tiny ones
/// cannot cost many times their size.
const BYTES_PER_SEGMENT: usize = 256;

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    /// It continues the stream.
    InOrder,
    /// It waits behind a gap.
    OutOfOrder,
    /// It brought nothing new.
    Duplicate,
    /// There is no room for it.
    NoRoom,
}

/// Data that was received and not read. Accepts overlaps, although Go peers do not: whoever
/// re-cuts its retransmissions is understood.
#[derive(Debug)]
pub(super) struct Assembler {
    rcv_nxt: u64,
    limit: usize,
    ready: ReadyQueue,
    /// Disjoint segments behind a gap, by start.
    waiting: BTreeMap<u64, Bytes>,
    /// What `waiting` holds, merged, for SACK.
    ranges: RangeSet,
    discarding: bool,
}

impl Assembler {
    /// Expects offset 1 first; holds at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            rcv_nxt: 1,
            limit,
            ready: ReadyQueue::default(),
            waiting: BTreeMap::new(),
            ranges: RangeSet::default(),
            discarding: false,
        }
    }

    /// Takes a segment that starts at `start`. One that exceeds the limit is dropped whole,
    /// since its sender may only be able to repeat it whole.
    pub(super) fn insert(&mut self, start: u64, payload: &[u8]) -> Inserted {
        let end = start + payload.len() as u64;
        if end <= self.rcv_nxt {
            return Inserted::Duplicate;
        }
        if end > self.limit_edge() {
            return Inserted::NoRoom;
        }
        if start > self.rcv_nxt {
            return self.insert_waiting(start, end, payload);
        }
        let known = usize::try_from(self.rcv_nxt - start).unwrap_or(usize::MAX);
        self.append(payload.get(known..).unwrap_or_default());
        if !self.waiting.is_empty() {
            self.take_waiting();
        }
        Inserted::InOrder
    }

    fn insert_waiting(&mut self, start: u64, end: u64, payload: &[u8]) -> Inserted {
        let mut from = start;
        let mut result = Inserted::Duplicate;
        while let Some((left, right)) = self.ranges.next_gap(from, end) {
            if self.waiting.len() >= (self.limit / BYTES_PER_SEGMENT).max(128) {
                return if result == Inserted::Duplicate { Inserted::NoRoom } else { result };
            }
            let (a, b) = ((left - start) as usize, (right - start) as usize);
            self.waiting
                .insert(left, Bytes::copy_from_slice(payload.get(a..b).unwrap_or_default()));
            self.ranges.insert(left, right);
            result = Inserted::OutOfOrder;
            from = right;
        }
        result
    }

    fn take_waiting(&mut self) {
        while let Some(entry) = self.waiting.first_entry() {
            let start = *entry.key();
            if start > self.rcv_nxt {
                break;
            }
            let mut data = entry.remove();
            let known = usize::try_from(self.rcv_nxt - start).unwrap_or(usize::MAX);
            if known >= data.len() {
                continue;
            }
            data.advance(known);
            if data.len() < KEEP_WHOLE_BYTES || self.discarding {
                self.append(&data);
            } else {
                self.rcv_nxt += data.len() as u64;
                self.ready.push_whole(data);
            }
        }
        self.ranges.remove_below(self.rcv_nxt);
    }

    fn append(&mut self, data: &[u8]) {
        self.rcv_nxt += data.len() as u64;
        if !self.discarding {
            self.ready.push(data);
        }
    }

    /// The peer's FIN takes a number, too.
    pub(super) fn consume_fin(&mut self) {
        self.rcv_nxt += 1;
        self.drop_waiting();
    }

    /// Copies out what is there, at most `buf.len()` bytes.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> usize {
        self.ready.read(buf)
    }

    /// Hands out at most `max` bytes without copying; empty if there is nothing.
    pub(super) fn read_chunk(&mut self, max: usize) -> Bytes {
        self.ready.read_chunk(max)
    }

    /// Whether it keeps buffers to be used again.
    pub(super) fn has_spares(&self) -> bool {
        self.ready.has_spares()
    }

    /// Lets go of buffers to be used again.
    pub(super) fn drop_spares(&mut self) {
        self.ready.drop_spares();
    }

    /// Lets go of buffers that were not needed since the last call.
    pub(super) fn shed(&mut self) {
        self.ready.shed();
    }

    /// Nobody reads any more: what comes is counted and dropped.
    pub(super) fn discard(&mut self) {
        self.discarding = true;
        self.ready = ReadyQueue::default();
    }

    /// Nothing more will come: drops what waits behind a gap, and buffers to be used again.
    pub(super) fn drop_waiting(&mut self) {
        self.drop_spares();
        self.waiting.clear();
        self.ranges.clear();
    }

    /// Takes more from now on. Never less: what was offered may be used.
    pub(super) fn grow(&mut self, limit: usize) {
        self.limit = self.limit.max(limit);
    }

    /// Bytes held at most.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// First offset that the application has not read.
    pub(super) fn consumed(&self) -> u64 {
        self.rcv_nxt - self.ready.len() as u64
    }

    /// Next offset expected.
    pub(super) fn rcv_nxt(&self) -> u64 {
        self.rcv_nxt
    }

    /// Bytes ready to be read.
    pub(super) fn ready_bytes(&self) -> usize {
        self.ready.len()
    }

    /// Bytes that can be received in order beyond `rcv_nxt`.
    pub(super) fn free(&self) -> usize {
        self.limit.saturating_sub(self.ready.len())
    }

    /// No byte at or beyond this offset is taken.
    pub(super) fn limit_edge(&self) -> u64 {
        self.rcv_nxt + self.free() as u64
    }

    pub(super) fn has_gap(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// What was received beyond the gap.
    pub(super) fn ranges(&self) -> &RangeSet {
        &self.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(recv: &mut Assembler) -> String {
        let mut buf = [0; 64];
        let n = recv.read(&mut buf);
        String::from_utf8_lossy(&buf[..n]).into_owned()
    }

    #[test]
    fn segments_in_any_order_become_bytes_in_order() {
        let mut recv = Assembler::new(1000);
        assert_eq!(recv.insert(4, b"def"), Inserted::OutOfOrder);
        assert_eq!(recv.insert(10, b"j"), Inserted::OutOfOrder);
        assert_eq!(recv.insert(4, b"def"), Inserted::Duplicate);
        assert_eq!(recv.insert(1, b"abc"), Inserted::InOrder);
        assert_eq!(recv.insert(1, b"abc"), Inserted::Duplicate);
        assert_eq!((text(&mut recv).as_str(), recv.rcv_nxt()), ("abcdef", 7));
        assert_eq!(recv.insert(7, b"ghi"), Inserted::InOrder);
        assert_eq!((text(&mut recv).as_str(), recv.has_gap()), ("ghij", false));
    }

    #[test]
    fn overlaps_are_accepted() {
        let mut recv = Assembler::new(1000);
        recv.insert(5, b"EF");
        recv.insert(9, b"I");
        assert_eq!(recv.insert(4, b"defghijk"), Inserted::OutOfOrder);
        assert_eq!(recv.insert(1, b"abcde"), Inserted::InOrder);
        assert_eq!(text(&mut recv), "abcdeFghIjk");
        assert_eq!(recv.insert(10, b"xxl"), Inserted::InOrder);
        assert_eq!(text(&mut recv), "l");
    }

    #[test]
    fn the_buffer_is_bounded_in_bytes_and_in_segments() {
        let mut recv = Assembler::new(1000);
        assert_eq!(recv.insert(1, &[0; 600]), Inserted::InOrder);
        assert_eq!(recv.insert(601, &[0; 401]), Inserted::NoRoom);
        assert_eq!(recv.insert(1001, &[0; 1]), Inserted::NoRoom);
        assert_eq!(recv.insert(601, &[0; 400]), Inserted::InOrder);
        assert_eq!(recv.free(), 0);
        assert_eq!(recv.read_chunk(100).len(), 100);
        assert_eq!((recv.free(), recv.limit_edge()), (100, 1101));

        let mut recv = Assembler::new(10_000);
        let kept = (0..1000u64).filter(|i| recv.insert(3 + 2 * i, b"x") == Inserted::OutOfOrder);
        assert_eq!(kept.count(), 128);
    }

    #[test]
    fn chunks_come_out_whole_or_cut_to_size() {
        let mut recv = Assembler::new(1 << 20);
        recv.insert(5001, &[2; 5000]);
        recv.insert(1, &[1; 5000]);
        assert_eq!(recv.read_chunk(2000), vec![1; 2000]);
        assert_eq!(recv.read_chunk(9000), vec![1; 3000]);
        assert_eq!(recv.read_chunk(9000), vec![2; 5000]);
        assert_eq!(recv.read_chunk(9000).len(), 0);
        assert_eq!(recv.ready_bytes(), 0);
    }

    #[test]
    fn discarded_data_is_counted_but_not_kept() {
        let mut recv = Assembler::new(1000);
        recv.insert(1, &[0; 900]);
        recv.discard();
        recv.insert(901, &[0; 900]);
        assert_eq!((recv.rcv_nxt(), recv.ready_bytes(), recv.free()), (1801, 0, 1000));
    }
}
