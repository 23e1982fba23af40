//! Datagrams on their way into a connection: bounded, and the newest is dropped when it is full,
//! as a router's queue would.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// Bytes that may wait: a quarter of a second at 32 Mbit/s.
const MAX_BYTES: usize = 1 << 20;
/// Datagrams that may wait, as small ones cost more than their bytes.
const MAX_FRAMES: usize = 4_096;
/// What a datagram takes besides its bytes.
const OVERHEAD: usize = 64;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct FrameQueue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
    dropped: u64,
}

impl FrameQueue {
    /// Adds a copy of the datagrams of a run, each of `segment_size` bytes but the last; returns
    /// how many found no room.
    pub fn push(&self, contents: &[u8], segment_size: usize) -> u64 {
        let mut waiting = self.lock();
        let before = waiting.dropped;
        for datagram in contents.chunks(segment_size.max(1)) {
            let cost = datagram.len() + OVERHEAD;
            if waiting.bytes + cost > MAX_BYTES || waiting.frames.len() >= MAX_FRAMES {
                waiting.dropped += 1;
                continue;
            }
            waiting.bytes += cost;
            waiting.frames.push_back(Bytes::copy_from_slice(datagram));
        }
        let dropped = waiting.dropped - before;
        drop(waiting);
        self.filled.notify_one();
        dropped
    }

    /// Takes everything that waits; waits until there is something. For one task only.
    pub async fn take(&self) -> VecDeque<Bytes> {
        loop {
            let frames = self.try_take();
            if !frames.is_empty() {
                return frames;
            }
            self.filled.notified().await;
        }
    }

    fn try_take(&self) -> VecDeque<Bytes> {
        let mut waiting = self.lock();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.frames)
    }

    /// Forgets what waits: a connection was lost, and with it the use of old datagrams.
    pub fn clear(&self) {
        let mut waiting = self.lock();
        waiting.frames.clear();
        waiting.bytes = 0;
    }

    /// Datagrams that found no room so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_and_counted() {
        let queue = FrameQueue::default();
        assert_eq!(queue.push(&[1; 2_500], 1_000), 0);
        let sizes: Vec<usize> = queue.take().await.iter().map(Bytes::len).collect();
        assert_eq!(sizes, [1_000, 1_000, 500]);
        let large = vec![2; 60_000];
        let dropped: u64 = (0..40).map(|_| queue.push(&large, large.len())).sum();
        assert_eq!((dropped, queue.take().await.len()), (23, 17));
        assert_eq!(queue.dropped(), 23);
        (0..5_000).for_each(|_| _ = queue.push(b"x", 1));
        assert_eq!(queue.take().await.len(), MAX_FRAMES);
    }
}
