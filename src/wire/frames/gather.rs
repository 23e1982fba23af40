//! Byte counts out of chunks: what all frame decoders stand on.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// First allocation for a piece that spans chunks; small pieces need no second.
const FIRST_ALLOCATION: usize = 4096;

/// Received chunks, taken out in pieces of the wanted length.
#[derive(Debug, Default)]
pub(super) struct Gather {
    chunks: VecDeque<Bytes>,
    /// Beginning of a piece that did not end with its chunk.
    partial: Vec<u8>,
}

impl Gather {
    /// Adds a received chunk.
    pub(super) fn feed(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next `len` bytes, or `None` until they are there. A caller that got `None` must ask
    /// for the same length again. Not copied if they lie within one chunk.
    pub(super) fn take(&mut self, len: usize) -> Option<Bytes> {
        if self.partial.is_empty() {
            if len == 0 {
                return Some(Bytes::new());
            }
            let whole = self.chunks.front_mut().filter(|chunk| chunk.len() >= len);
            if let Some(chunk) = whole {
                let piece = chunk.split_to(len);
                self.drop_empty_front();
                return Some(piece);
            }
        }
        while let Some(chunk) = self.chunks.front_mut() {
            let missing = len.saturating_sub(self.partial.len());
            let head = chunk.split_to(missing.min(chunk.len()));
            self.append(&head, len);
            self.drop_empty_front();
            if self.partial.len() >= len {
                return Some(Bytes::from(std::mem::take(&mut self.partial)));
            }
        }
        None
    }

    /// The next `N` bytes as an array; the same rule as [`Self::take`].
    pub(super) fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    /// Throws away up to `len` bytes and says how many.
    pub(super) fn skip(&mut self, len: usize) -> usize {
        let mut skipped = 0;
        while let Some(chunk) = self.chunks.front_mut() {
            let step = chunk.len().min(len - skipped);
            chunk.advance(step);
            skipped += step;
            self.drop_empty_front();
            if skipped == len {
                break;
            }
        }
        skipped
    }

    /// Bytes held.
    pub(super) fn buffered(&self) -> usize {
        self.partial.len() + self.chunks.iter().map(Bytes::len).sum::<usize>()
    }

    /// Grows by doubling, but never past `len`, the end of the piece, so that a large one ends
    /// without waste.
    fn append(&mut self, bytes: &[u8], len: usize) {
        let needed = self.partial.len() + bytes.len();
        if needed > self.partial.capacity() {
            let target = needed.max(self.partial.len() * 2).max(FIRST_ALLOCATION).min(len);
            self.partial.reserve_exact(target - self.partial.len());
        }
        self.partial.extend_from_slice(bytes);
    }

    fn drop_empty_front(&mut self) {
        if self.chunks.front().is_some_and(Bytes::is_empty) {
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_within_one_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"abcdef");
        let mut gather = Gather::default();
        gather.feed(chunk.clone());
        assert_eq!(gather.take(2).unwrap(), "ab");
        assert_eq!(gather.take(4).unwrap().as_ptr(), chunk.slice(2..).as_ptr());
        assert_eq!(gather.take(1), None);
        assert_eq!(gather.buffered(), 0);
    }

    #[test]
    fn a_piece_over_several_chunks_waits_for_the_last() {
        let mut gather = Gather::default();
        gather.feed(Bytes::from_static(b"ab"));
        assert_eq!(gather.take(5), None);
        gather.feed(Bytes::from_static(b"c"));
        assert_eq!(gather.take(5), None);
        assert_eq!(gather.buffered(), 3);
        gather.feed(Bytes::from_static(b"defg"));
        assert_eq!(gather.take(5).unwrap(), "abcde");
        assert_eq!(gather.take(2).unwrap(), "fg");
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        let mut gather = Gather::default();
        gather.feed(Bytes::from_static(b"x"));
        assert_eq!(gather.take(1 << 30), None);
        assert!(gather.partial.capacity() <= FIRST_ALLOCATION);
    }

    #[test]
    fn skipping_stops_at_what_is_there() {
        let mut gather = Gather::default();
        gather.feed(Bytes::from_static(b"abc"));
        gather.feed(Bytes::from_static(b"def"));
        assert_eq!(gather.skip(4), 4);
        assert_eq!(gather.skip(4), 2);
        assert_eq!(gather.skip(4), 0);
    }
}
