//! An allocator that counts what is alive, for each thread and owner: tests run side by side, and
//! the two ends of a stream are to be told apart.

#![allow(unsafe_code)] // there is no other way to be an allocator

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Whose memory it is: everything else, or one of two ends.
pub(crate) const OWNERS: usize = 3;

thread_local! {
    static OWNER: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<[isize; OWNERS]> = const { Cell::new([0; OWNERS]) };
    static PEAK: Cell<[isize; OWNERS]> = const { Cell::new([0; OWNERS]) };
}

/// Counts, and leaves the work to the system's allocator.
pub(crate) struct Counting;

fn count(bytes: isize) {
    let owner = OWNER.get();
    let (mut live, mut peak) = (LIVE.get(), PEAK.get());
    live[owner] += bytes;
    peak[owner] = peak[owner].max(live[owner]);
    LIVE.set(live);
    PEAK.set(peak);
}

/// What glibc takes for an allocation: its size and a header, in steps of 16.
fn cost(size: usize) -> isize {
    isize::try_from((size + 8).next_multiple_of(16).max(32)).unwrap_or(isize::MAX)
}

// SAFETY: every call is passed on as it is; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(cost(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(cost(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-cost(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(cost(size) - cost(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Counts what `f` allocates and frees for `owner`.
pub(crate) fn owned<T>(owner: usize, f: impl FnOnce() -> T) -> T {
    let before = OWNER.replace(owner);
    let result = f();
    OWNER.set(before);
    result
}

/// Bytes that `owner` holds.
pub(crate) fn live(owner: usize) -> isize {
    LIVE.get()[owner]
}

/// Most bytes that all held, each at its own time, since the last call.
pub(crate) fn take_peak() -> isize {
    PEAK.replace(LIVE.get()).iter().sum()
}
