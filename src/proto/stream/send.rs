//! Bytes to send: written, not yet acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::wire::sack::{MAX_ENCODED_LEN, looks_like_sack};

/// Small writes are gathered, and large ones cut, into chunks of at most this size.
const CHUNK_BYTES: usize = 64 * 1024;
/// Room for chunks that an idle stream keeps.
const IDLE_CHUNKS: usize = 4;

/// A queue of chunks with absolute offsets. It knows bytes only; which of them make a segment is
/// kept by the [`Scoreboard`](super::scoreboard::Scoreboard).
#[derive(Debug)]
pub(super) struct SendBuffer {
    chunks: VecDeque<Chunk>,
    /// Index of the chunk that holds `nxt`.
    cursor: usize,
    /// Offset of the first byte never sent.
    nxt: u64,
    /// Offset after the last byte written.
    end: u64,
    /// Everything below is acknowledged.
    una: u64,
    limit: usize,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Copied(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Copied(data) => data,
            Data::Shared(data) => data,
        }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes().len() as u64
    }
}

impl SendBuffer {
    /// The first byte has offset 1; at most `limit` bytes wait at a time.
    pub(super) fn new(limit: usize) -> Self {
        Self { chunks: VecDeque::new(), cursor: 0, nxt: 1, end: 1, una: 1, limit }
    }

    /// Copies as much of `data` as there is room for.
    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        let taken = data.len().min(self.room());
        let mut rest = data.get(..taken).unwrap_or_default();
        if let Some(Chunk { data: Data::Copied(last), .. }) = self.chunks.back_mut() {
            let (head, tail) =
                rest.split_at(rest.len().min(CHUNK_BYTES.saturating_sub(last.len())));
            last.extend_from_slice(head);
            self.end += head.len() as u64;
            rest = tail;
        }
        for piece in rest.chunks(CHUNK_BYTES) {
            self.push(Data::Copied(piece.to_vec()), piece.len());
        }
        taken
    }

    /// Takes `data` without copying it, unless there is no room at all. The limit may be exceeded
    /// by this one chunk.
    pub(super) fn write_bytes(&mut self, data: Bytes) -> bool {
        if self.room() == 0 {
            return false;
        }
        let len = data.len();
        if len > 0 {
            self.push(Data::Shared(data), len);
        }
        true
    }

    fn push(&mut self, data: Data, len: usize) {
        self.chunks.push_back(Chunk { start: self.end, data });
        self.end += len as u64;
    }

    /// Appends the next `len` unsent bytes to `out` without counting them as sent.
    pub(super) fn peek(&self, len: usize, out: &mut Vec<u8>) {
        self.copy(self.cursor, self.nxt, len, out);
    }

    /// The next `len` bytes count as sent.
    pub(super) fn advance(&mut self, len: usize) {
        self.nxt += len as u64;
        while self.chunks.get(self.cursor).is_some_and(|chunk| chunk.end() <= self.nxt)
            && self.cursor + 1 < self.chunks.len()
        {
            self.cursor += 1;
        }
    }

    /// Appends `len` bytes from `start`, which were sent before, to `out`.
    pub(super) fn copy_sent(&self, start: u64, len: usize, out: &mut Vec<u8>) {
        let chunk = self.chunks.partition_point(|chunk| chunk.end() <= start);
        self.copy(chunk, start, len, out);
    }

    /// How many of `len` bytes from `start`, which were sent before, make a segment: only the
    /// first if the peer would take them for SACK blocks.
    pub(super) fn piece_len(&self, start: u64, len: u32) -> u32 {
        let mut head = Vec::new();
        let look = usize::try_from(len).unwrap_or(usize::MAX).min(MAX_ENCODED_LEN);
        self.copy_sent(start, look, &mut head);
        if looks_like_sack(&head) { 1 } else { len }
    }

    fn copy(&self, chunk: usize, mut start: u64, mut len: usize, out: &mut Vec<u8>) {
        for chunk in self.chunks.range(chunk.min(self.chunks.len())..) {
            let from = usize::try_from(start.saturating_sub(chunk.start)).unwrap_or(usize::MAX);
            let data = chunk.bytes().get(from..).unwrap_or_default();
            let data = data.get(..len).unwrap_or(data);
            out.extend_from_slice(data);
            start += data.len() as u64;
            len -= data.len();
            if len == 0 {
                break;
            }
        }
    }

    /// Bytes below `una` are acknowledged; those below `keep_from` will not be sent again.
    pub(super) fn release(&mut self, una: u64, keep_from: u64) {
        self.una = una.min(self.end);
        // The last chunk stays while it may grow; an idle stream keeps nothing.
        while let Some(front) = self.chunks.front()
            && front.end() <= keep_from
        {
            self.chunks.pop_front();
            self.cursor = self.cursor.saturating_sub(1);
        }
        if self.chunks.is_empty() && self.chunks.capacity() > IDLE_CHUNKS {
            self.chunks = VecDeque::new();
        }
    }

    /// Nothing will be sent any more.
    pub(super) fn clear(&mut self) {
        self.chunks = VecDeque::new();
        self.cursor = 0;
        self.una = self.end;
        self.nxt = self.end;
    }

    /// Bytes that can be written now.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.buffered())
    }

    /// Doubles the limit, up to `most`; whether it has grown.
    pub(super) fn grow(&mut self, most: usize) -> bool {
        let before = self.limit;
        self.limit = self.limit.max(most.min(self.limit.saturating_mul(2)));
        self.limit > before
    }

    /// Bytes that are not acknowledged.
    pub(super) fn buffered(&self) -> usize {
        (self.end - self.una) as usize
    }

    /// Bytes that were never sent.
    pub(super) fn unsent(&self) -> usize {
        (self.end - self.nxt) as usize
    }

    /// Whether less than half of the limit is in use.
    pub(super) fn is_below_half(&self) -> bool {
        self.buffered() < self.limit / 2
    }

    /// Offset after the last byte acknowledged.
    pub(super) fn una(&self) -> u64 {
        self.una
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(send: &mut SendBuffer, len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        send.peek(len, &mut out);
        send.advance(len);
        out
    }

    #[test]
    fn small_writes_are_gathered_and_sent_bytes_can_be_had_again() {
        let mut send = SendBuffer::new(1000);
        assert_eq!((send.write(b"hello "), send.write(b"world")), (6, 5));
        assert_eq!(take(&mut send, 8), b"hello wo");
        assert_eq!((send.unsent(), send.buffered()), (3, 11));
        let mut again = Vec::new();
        send.copy_sent(3, 4, &mut again);
        assert_eq!(again, b"llo ");
        send.release(9, 9);
        assert_eq!(send.write(b"!"), 1);
        assert_eq!((take(&mut send, 4).as_slice(), send.buffered()), (&b"rld!"[..], 4));
        send.release(13, 13);
        assert_eq!((send.buffered(), send.chunks.len(), send.write(b"x")), (0, 0, 1));
        assert_eq!(take(&mut send, 1), b"x");
    }

    #[test]
    fn segments_may_span_chunks_of_both_kinds() {
        let mut send = SendBuffer::new(10_000_000);
        let data: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        assert_eq!(send.write(&data[..150_000]), 150_000);
        assert!(send.write_bytes(Bytes::copy_from_slice(&data[150_000..190_000])));
        assert_eq!(send.write(&data[190_000..]), 10_000);
        let mut sent = Vec::new();
        while send.unsent() > 0 {
            let len = send.unsent().min(1152);
            sent.extend(take(&mut send, len));
            let una = 1 + sent.len() as u64;
            if sent.len() > 100_000 {
                send.release(una - 50_000, una - 50_000);
                let mut again = Vec::new();
                send.copy_sent(una - 50_000, 50_000, &mut again);
                assert_eq!(again, sent[sent.len() - 50_000..]);
            }
        }
        assert!(sent == data);
    }

    #[test]
    fn the_limit_holds_but_for_one_shared_chunk() {
        let mut send = SendBuffer::new(10);
        assert_eq!(send.write(b"123456789"), 9);
        assert!(send.write_bytes(Bytes::from_static(b"abcdef")));
        assert!(!send.write_bytes(Bytes::from_static(b"x")));
        assert_eq!((send.write(b"x"), send.buffered()), (0, 15));
    }
}
