//! Receiving: segments in any order become bytes in order.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};

use super::ranges::RangeSet;

/// In-order data is gathered in chunks of about this size.
const CHUNK_BYTES: usize = 64 * 1024;
/// A segment that waited behind a gap is handed on as it is from this size, else gathered.
const KEEP_WHOLE_BYTES: usize = 4096;
/// One that arrives in order is a chunk of its own from this size: few of them make a chunk.
const OWN_CHUNK_BYTES: usize = 16 * 1024;
/// Room for chunks that an idle stream keeps.
const IDLE_CHUNKS: usize = 4;
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
    ready: VecDeque<Bytes>,
    /// The end of the in-order data, still growing.
    tail: BytesMut,
    /// Bytes that came since everything was last read, and what that makes of the next `tail`:
    /// it should be as large as it will get, so that it need not grow.
    gathered: usize,
    next_tail: usize,
    ready_bytes: usize,
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
            ready: VecDeque::new(),
            tail: BytesMut::new(),
            gathered: 0,
            next_tail: 0,
            ready_bytes: 0,
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
                self.ready_bytes += data.len();
                self.cut_tail();
                self.ready.push_back(data);
            }
        }
        self.ranges.remove_below(self.rcv_nxt);
    }

    fn append(&mut self, data: &[u8]) {
        self.rcv_nxt += data.len() as u64;
        if self.discarding {
            return;
        }
        self.ready_bytes += data.len();
        if data.len() >= OWN_CHUNK_BYTES {
            self.cut_tail();
            self.ready.push_back(Bytes::copy_from_slice(data));
            return;
        }
        self.gathered += data.len();
        if self.tail.len() + data.len() > CHUNK_BYTES {
            self.cut_tail();
        }
        if self.tail.is_empty() && self.tail.capacity() < data.len() {
            self.tail = BytesMut::with_capacity(self.next_tail.max(data.len()));
        }
        self.tail.extend_from_slice(data);
    }

    fn cut_tail(&mut self) {
        if !self.tail.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// Everything has been read: an idle stream keeps no buffer.
    fn rest(&mut self) {
        self.tail = BytesMut::new();
        if self.ready.capacity() > IDLE_CHUNKS {
            self.ready = VecDeque::new();
        }
        let usual = self.gathered.max(self.next_tail / 2);
        self.next_tail = usual.checked_next_power_of_two().unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        self.gathered = 0;
    }

    /// The peer's FIN takes a number, too.
    pub(super) fn consume_fin(&mut self) {
        self.rcv_nxt += 1;
        self.drop_waiting();
    }

    /// Copies out what is there, at most `buf.len()` bytes.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..)
            && !rest.is_empty()
        {
            let n = if let Some(front) = self.ready.front_mut() {
                let n = front.len().min(rest.len());
                front.copy_to_slice(&mut rest[..n]);
                if front.is_empty() {
                    self.ready.pop_front();
                }
                n
            } else {
                let n = self.tail.len().min(rest.len());
                self.tail.copy_to_slice(&mut rest[..n]);
                n
            };
            if n == 0 {
                break;
            }
            done += n;
        }
        self.ready_bytes -= done;
        if done > 0 && self.ready_bytes == 0 {
            self.rest();
        }
        done
    }

    /// Hands out at most `max` bytes without copying; empty if there is nothing.
    pub(super) fn read_chunk(&mut self, max: usize) -> Bytes {
        let chunk = match self.ready.front_mut() {
            Some(front) if front.len() > max => front.split_to(max),
            Some(_) => self.ready.pop_front().unwrap_or_default(),
            None if self.tail.len() > max => self.tail.split_to(max).freeze(),
            None => std::mem::take(&mut self.tail).freeze(),
        };
        self.ready_bytes -= chunk.len();
        if !chunk.is_empty() && self.ready_bytes == 0 {
            self.rest();
        }
        chunk
    }

    /// Nobody reads any more: what comes is counted and dropped.
    pub(super) fn discard(&mut self) {
        self.discarding = true;
        self.ready = VecDeque::new();
        self.tail = BytesMut::new();
        self.ready_bytes = 0;
    }

    /// Drops what waits behind a gap.
    pub(super) fn drop_waiting(&mut self) {
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
        self.rcv_nxt - self.ready_bytes as u64
    }

    /// Next offset expected.
    pub(super) fn rcv_nxt(&self) -> u64 {
        self.rcv_nxt
    }

    /// Bytes ready to be read.
    pub(super) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Bytes that can be received in order beyond `rcv_nxt`.
    pub(super) fn free(&self) -> usize {
        self.limit.saturating_sub(self.ready_bytes)
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
