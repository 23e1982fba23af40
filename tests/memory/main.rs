//! What the protocol costs in memory, counted byte by byte.

mod bulk;
mod heap;
mod idle;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;
