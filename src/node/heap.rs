//! Memory that is freed and wanted again a moment later.
//!
//! A transfer frees as much memory as it takes, a segment's worth at a time. By default the GNU
//! allocator returns freed memory to the system as soon as 128 KiB of it are together, and takes
//! it back page by page: two of five pages that a fast stream carried cost a page fault, a
//! quarter of all its processor time.

use std::hint::black_box;
use std::sync::Once;

/// The allocator keeps up to twice this.
const KEPT: usize = 4 << 20;

/// Tells the allocator to keep some freed memory. It learns that from a large piece that is freed
/// (`M_MMAP_THRESHOLD` in `mallopt(3)`), so no call that only one allocator knows is needed; what
/// the environment says about it goes before.
pub(super) fn keep_freed_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(black_box(Vec::<u8>::with_capacity(KEPT))));
}
