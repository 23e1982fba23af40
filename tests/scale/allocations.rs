//! Counts the bytes that one part of a test holds on the heap.
#![allow(unsafe_code)] // an allocator is unsafe by nature

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static IS_COUNTING: Cell<bool> = const { Cell::new(false) };
    static HELD: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.realloc(block, layout, size) }
    }
}

fn note(more: usize, less: usize) {
    // During a thread's end there is nothing to count.
    if IS_COUNTING.try_with(Cell::get).unwrap_or(false) {
        HELD.with(|held| held.set(held.get().wrapping_add(more).wrapping_sub(less)));
    }
}

/// Counts what `act` allocates and frees on this thread.
pub(crate) fn counted<T>(act: impl FnOnce() -> T) -> T {
    IS_COUNTING.set(true);
    let result = act();
    IS_COUNTING.set(false);
    result
}

/// Bytes that counted code of this thread holds.
pub(crate) fn held() -> usize {
    HELD.get()
}
