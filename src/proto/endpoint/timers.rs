//! One heap of deadlines for all streams and peers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Deadlines with lazy deletion: a later deadline leaves the earlier entry in place, which then
/// fires early; since early calls of `handle_timeout` are harmless, that costs one look per
/// expiry instead of one heap operation per packet.
#[derive(Debug)]
pub(super) struct TimerHeap<K> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Ord + Copy> TimerHeap<K> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new() }
    }

    /// Makes sure that `key` fires no later than `deadline`. `armed` belongs to the owner of the
    /// key and holds its earliest entry.
    pub(super) fn arm(&mut self, key: K, armed: &mut Option<Instant>, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if armed.is_none_or(|at| deadline < at) {
            self.heap.push(Reverse((deadline, key)));
            *armed = Some(deadline);
        }
    }

    /// The earliest entry, perhaps one that is not needed any more.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the next entry due at `now`. The owner acts if its `armed` equals the returned time.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, K)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
