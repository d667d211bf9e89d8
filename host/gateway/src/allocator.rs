//! The global allocator: mimalloc, called through its C interface.
//!
//! The usual Rust binding always passes the alignment, which makes mimalloc avoid its fast path even for
//! alignments that every block has. Here the alignment is passed only if it exceeds [`NATURAL`].

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

use libmimalloc_sys as mimalloc;

/// The alignment that every block has: that of a machine word.
const NATURAL: usize = align_of::<usize>();

/// The global allocator; see the module.
pub(crate) struct Allocator;

#[expect(
    unsafe_code,
    reason = "declares a C function that the binding crate offers only with a feature that is not needed otherwise"
)]
// SAFETY: this is the declaration in `mimalloc.h`.
unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Returns memory to the kernel: what the calling thread has freed, and all unused memory.
///
/// mimalloc does this by itself only while the thread goes on to allocate. The control thread does not once a
/// configuration is in service, and would keep the memory that building it took.
pub(crate) fn give_back() {
    #[expect(unsafe_code, reason = "calls a C function")]
    // SAFETY: any thread may call it at any time.
    unsafe {
        mi_collect(true);
    }
}

#[expect(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait")]
// SAFETY: the functions return null or a block of at least the requested size and alignment, keep its contents,
// and do not unwind. Blocks of all of them may be freed and resized in the same way.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size is allowed, and a layout's alignment is a power of two.
        unsafe {
            match layout.align() {
                ..=NATURAL => mimalloc::mi_malloc(layout.size()),
                align => mimalloc::mi_malloc_aligned(layout.size(), align),
            }
        }
        .cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            match layout.align() {
                ..=NATURAL => mimalloc::mi_zalloc(layout.size()),
                align => mimalloc::mi_zalloc_aligned(layout.size(), align),
            }
        }
        .cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller passes a block that this allocator returned.
        unsafe { mimalloc::mi_free(block.cast::<c_void>()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            match layout.align() {
                ..=NATURAL => mimalloc::mi_realloc(block.cast(), size),
                align => mimalloc::mi_realloc_aligned(block.cast(), size, align),
            }
        }
        .cast()
    }
}
