//! The allocator: mimalloc, asked as C programs ask it.
//!
//! The usual binding tells it the alignment of each block, though nearly all want one that every block has. Told an
//! alignment, it hands out what is at hand in pages that there are already, and makes no page for blocks whose size is no
//! power of two: those of 48 bytes, one of which each request takes, were cut out of larger ones, by a detour of a hundred
//! instructions.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

use libmimalloc_sys as mimalloc;

/// The alignment that every block has: that of a word, of which the smallest blocks are made.
const NATURAL: usize = align_of::<usize>();

/// See the module.
pub(crate) struct Allocator;

#[expect(unsafe_code, reason = "a function of C that the binding has only with more of its own")]
// SAFETY: that is how `mimalloc.h` declares it.
unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Gives memory back to the kernel that the calling thread has freed, and all that is free and nobody has used of late.
///
/// Left to itself, the allocator does that only while the thread goes on to ask for memory, which the control thread does
/// not do once a configuration is in service: what building it took (4.6 MiB with four plugins) would stay.
pub(crate) fn give_back() {
    #[expect(unsafe_code, reason = "a function of C")]
    // SAFETY: it may be called at any time, by any thread.
    unsafe {
        mi_collect(true);
    }
}

#[expect(unsafe_code, reason = "what allocates memory cannot be safe")]
// SAFETY: the functions give blocks of at least the size and alignment asked for, or null, and leave what is in them as it
// is; none of them unwinds. A block is freed and grown in the same way whichever of them made it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size may be asked for, and a layout's alignment is a power of two.
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
        // SAFETY: the caller hands back a block that it got here.
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
