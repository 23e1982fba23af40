//! What has arrived in order and waits for the application.
//!
//! Bytes are copied once, into chunks that never grow, and from there into the reader's buffer,
//! or handed out with their chunk. Chunks that were read out are used again: a stream at full
//! speed would otherwise make the allocator return memory to the kernel and fetch it back, page
//! by page, which takes longer than copying. Those that are not used for a while are let go.

use std::collections::VecDeque;

use bytes::Bytes;

/// Size of chunks, once there is much to gather.
const CHUNK_BYTES: usize = 64 * 1024;
/// Room for chunks that an idle stream keeps.
const IDLE_CHUNKS: usize = 4;
/// Full chunks kept to be used again: a megabyte, what is read in a turn at full speed.
const MAX_SPARES: usize = 16;

#[derive(Debug)]
enum Chunk {
    /// May be appended to, up to its capacity; read up to `from`.
    Own {
        data: Vec<u8>,
        from: usize,
    },
    Shared(Bytes),
}

/// A queue of bytes.
#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    chunks: VecDeque<Chunk>,
    len: usize,
    /// Bytes that came since everything was last read, and what that makes of the next first
    /// chunk: it should be as large as it will get.
    gathered: usize,
    next_size: usize,
    spares: Vec<Vec<u8>>,
    /// Least number of spares since the last [`shed`](Self::shed): so many were not needed.
    unused: usize,
}

impl ReadyQueue {
    /// Bytes in the queue.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Copies `data` to the end.
    pub(super) fn push(&mut self, mut data: &[u8]) {
        self.len += data.len();
        self.gathered = self.gathered.saturating_add(data.len());
        while !data.is_empty() {
            if let Some(Chunk::Own { data: last, .. }) = self.chunks.back_mut() {
                let room = last.capacity() - last.len();
                let (head, rest) = data.split_at(room.min(data.len()));
                last.extend_from_slice(head);
                data = rest;
            }
            if !data.is_empty() {
                let chunk = self.new_chunk(data.len());
                self.chunks.push_back(Chunk::Own { data: chunk, from: 0 });
            }
        }
    }

    fn new_chunk(&mut self, len: usize) -> Vec<u8> {
        // What a small chunk did not hold goes on in one twice its size.
        let last = match self.chunks.back() {
            Some(Chunk::Own { data, .. }) => data.capacity().saturating_mul(2),
            _ => self.next_size,
        };
        let size = last.max(len).min(CHUNK_BYTES);
        if size < CHUNK_BYTES {
            return Vec::with_capacity(size);
        }
        let chunk = self.spares.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES));
        self.unused = self.unused.min(self.spares.len());
        chunk
    }

    /// Appends `data` without copying it.
    pub(super) fn push_whole(&mut self, data: Bytes) {
        self.len += data.len();
        self.chunks.push_back(Chunk::Shared(data));
    }

    /// Copies out what is there, at most `buf.len()` bytes.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty())
            && let Some(front) = self.chunks.front_mut()
        {
            let bytes = match front {
                Chunk::Own { data, from } => data.get(*from..).unwrap_or_default(),
                Chunk::Shared(data) => data,
            };
            let n = bytes.len().min(rest.len());
            let is_read_out = n == bytes.len();
            rest[..n].copy_from_slice(&bytes[..n]);
            done += n;
            if is_read_out {
                self.drop_front();
                continue;
            }
            match front {
                Chunk::Own { from, .. } => *from += n,
                Chunk::Shared(data) => drop(data.split_to(n)),
            }
        }
        self.taken(done);
        done
    }

    fn drop_front(&mut self) {
        if let Some(Chunk::Own { mut data, .. }) = self.chunks.pop_front()
            && data.capacity() == CHUNK_BYTES
            && self.spares.len() < MAX_SPARES
        {
            data.clear();
            self.spares.push(data);
        }
    }

    /// Hands out at most `max` bytes without copying; empty if there is nothing.
    pub(super) fn read_chunk(&mut self, max: usize) -> Bytes {
        let mut chunk = match self.chunks.pop_front() {
            None => return Bytes::new(),
            Some(Chunk::Shared(data)) => data,
            Some(Chunk::Own { data, from }) => Bytes::from(data).split_off(from),
        };
        if chunk.len() > max {
            let rest = chunk.split_off(max);
            self.chunks.push_front(Chunk::Shared(rest));
        }
        self.taken(chunk.len());
        chunk
    }

    /// So many bytes were read. An idle stream keeps no more than its spares, and those not long.
    fn taken(&mut self, bytes: usize) {
        self.len -= bytes;
        if bytes == 0 || self.len > 0 {
            return;
        }
        if self.chunks.capacity() > IDLE_CHUNKS {
            self.chunks = VecDeque::new();
        }
        let usual = self.gathered.max(self.next_size / 2).min(CHUNK_BYTES);
        self.next_size = usual.next_power_of_two();
        self.gathered = 0;
    }

    /// Whether it keeps chunks to be used again.
    pub(super) fn has_spares(&self) -> bool {
        !self.spares.is_empty()
    }

    /// Lets go of all spares.
    pub(super) fn drop_spares(&mut self) {
        self.spares = Vec::new();
        self.unused = 0;
    }

    /// Lets go of the spares that were not needed since the last call.
    pub(super) fn shed(&mut self) {
        self.spares.truncate(self.spares.len() - self.unused.min(self.spares.len()));
        self.unused = self.spares.len();
        if self.spares.is_empty() {
            self.spares = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    #[test]
    fn bytes_come_out_as_they_went_in_however_they_are_read() {
        let data = bytes(1_000_000);
        for (piece, max) in [(100, 7000), (60_000, 100_000), (1152, 300), (200_000, 65_536)] {
            let (mut queue, mut got, mut buf) = (ReadyQueue::default(), Vec::new(), vec![0; max]);
            for (i, piece) in data.chunks(piece).enumerate() {
                match i % 5 {
                    4 => queue.push_whole(Bytes::copy_from_slice(piece)),
                    _ => queue.push(piece),
                }
                if i % 3 == 0 {
                    let n = queue.read(&mut buf);
                    got.extend_from_slice(&buf[..n]);
                    got.extend_from_slice(&queue.read_chunk(max));
                }
            }
            while queue.len() > 0 {
                got.extend_from_slice(&queue.read_chunk(max));
            }
            assert!(got == data, "pieces of {piece}, read by {max}");
            assert_eq!(queue.read_chunk(1).len() + queue.read(&mut buf), 0);
        }
    }

    #[test]
    fn chunks_are_used_again_and_let_go_when_they_are_not() {
        let (mut queue, mut buf) = (ReadyQueue::default(), vec![0; 300_000]);
        for _ in 0..3 {
            queue.push(&bytes(250_000));
            assert_eq!(queue.read(&mut buf), 250_000);
            assert_eq!(queue.spares.len(), 4);
            queue.shed();
            assert!(queue.has_spares(), "they were needed");
        }
        queue.shed();
        assert!(!queue.has_spares());
    }

    #[test]
    fn small_messages_have_small_chunks() {
        let (mut queue, mut buf) = (ReadyQueue::default(), [0; 100]);
        for _ in 0..10 {
            queue.push(&[1; 50]);
            let Some(Chunk::Own { data, .. }) = queue.chunks.front() else { panic!() };
            assert!(data.capacity() < 200);
            queue.read(&mut buf);
        }
        assert!(!queue.has_spares());
    }
}
