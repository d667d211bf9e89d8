//! An allocator for components, behind the feature `allocator`: a freed block is kept for the next one of its size.
//!
//! A call makes a dozen small blocks and frees them all before it ends. The standard library's allocator searches for the
//! best place for each block and joins neighbours when blocks are freed. This one does neither: memory that was taken for
//! one size stays with that size, so a component keeps what its calls needed at most. Only blocks above [`LARGEST`] are given
//! back to the standard library's allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

/// The smallest size class, in bytes. Each further class is twice as large.
const SMALLEST: usize = 16;
/// The largest size class, in bytes. Larger blocks are not kept.
const LARGEST: usize = SMALLEST << (CLASSES - 1);
/// Number of size classes.
const CLASSES: usize = 8;
/// The alignment of every kept block, in bytes.
const ALIGNMENT: usize = 8;

#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

/// The free blocks by size class. Each block holds the address of the next one.
struct Allocator {
    free: [Cell<*mut Block>; CLASSES],
}

struct Block {
    next: *mut Block,
}

impl Allocator {
    const fn new() -> Self {
        Self { free: [const { Cell::new(ptr::null_mut()) }; CLASSES] }
    }
}

#[expect(unsafe_code, reason = "an allocator is a static, and those are shared between threads")]
// SAFETY: a component has one thread, and on targets with threads there is no static allocator. Each test has an
// allocator of its own.
unsafe impl Sync for Allocator {}

/// The size class of a block of this layout; `None` if such blocks are not kept.
fn class_of(layout: Layout) -> Option<usize> {
    let fits = layout.size() <= LARGEST && layout.align() <= ALIGNMENT;
    fits.then(|| (layout.size().max(SMALLEST) - 1).ilog2() as usize + 1 - SMALLEST.ilog2() as usize)
}

#[expect(unsafe_code, reason = "what allocates memory cannot be safe")]
// SAFETY: each block has at least the requested size and alignment. It is in a list only while it is free, and a
// list holds blocks of one class only, since a layout always belongs to the same class. Nothing here unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller upholds the contract of `alloc`.
            return unsafe { new(layout) };
        };
        let block = self.free[class].get();
        if block.is_null() {
            // SAFETY: the size is neither zero nor above `isize::MAX`, and the alignment is a power of two.
            return unsafe { new(Layout::from_size_align_unchecked(SMALLEST << class, ALIGNMENT)) };
        }
        // SAFETY: a list holds free blocks only, and `dealloc` wrote the address of the next one into each of
        // them.
        self.free[class].set(unsafe { (*block).next });
        block.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else {
            // SAFETY: a block of this layout was allocated by `System`.
            return unsafe { System.dealloc(block, layout) };
        };
        let block: *mut Block = block.cast();
        // SAFETY: the block is free from here on, and its size and alignment suffice for an address.
        unsafe { block.write(Block { next: self.free[class].get() }) };
        self.free[class].set(block);
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that the size is not zero and does not overflow when rounded up to the
        // alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (class_of(layout), class_of(wanted)) {
            (Some(present), Some(class)) if present == class => block,
            // SAFETY: the caller upholds the contract of `realloc`; both blocks belong to `System`.
            (None, None) => unsafe { System.realloc(block, layout, new_size) },
            _ => {
                // SAFETY: both blocks have at least the smaller of the two sizes, and they are different blocks.
                unsafe {
                    let moved = self.alloc(wanted);
                    if !moved.is_null() {
                        ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}

/// A block from the standard library's allocator. A function of its own, so that the common path needs no stack
/// space and saves no registers for it.
///
/// # Safety
/// As [`GlobalAlloc::alloc`].
#[expect(unsafe_code, reason = "what allocates memory cannot be safe")]
#[cold]
unsafe fn new(layout: Layout) -> *mut u8 {
    // SAFETY: the caller upholds the contract.
    unsafe { System.alloc(layout) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block and the byte that it was filled with.
    struct FreeBlocks<'a> {
        allocator: &'a Allocator,
        block: *mut u8,
        layout: Layout,
        filling: u8,
    }

    #[expect(unsafe_code, reason = "the allocator's interface is not safe")]
    impl<'a> FreeBlocks<'a> {
        fn new(allocator: &'a Allocator, size: usize, align: usize, filling: u8) -> Self {
            let layout = Layout::from_size_align(size, align).expect("a small layout");
            // SAFETY: the size is not zero.
            let block = unsafe { allocator.alloc(layout) };
            assert!(!block.is_null() && block.addr().is_multiple_of(align), "{layout:?} at {block:p}");
            // SAFETY: the block has this size.
            unsafe { block.write_bytes(filling, size) };
            Self { allocator, block, layout, filling }
        }

        fn resize(&mut self, size: usize) {
            self.check(size.min(self.layout.size()));
            // SAFETY: the block was allocated here with this layout, and the size is not zero.
            self.block = unsafe { self.allocator.realloc(self.block, self.layout, size) };
            self.check(size.min(self.layout.size()));
            self.layout = Layout::from_size_align(size, self.layout.align()).expect("a small layout");
            // SAFETY: the block has this size now.
            unsafe { self.block.write_bytes(self.filling, size) };
        }

        fn check(&self, bytes: usize) {
            // SAFETY: this many bytes were written.
            let content = unsafe { std::slice::from_raw_parts(self.block, bytes) };
            assert!(content.iter().all(|byte| *byte == self.filling), "another block lies over this one");
        }
    }

    #[expect(unsafe_code, reason = "the allocator's interface is not safe")]
    impl Drop for FreeBlocks<'_> {
        fn drop(&mut self) {
            self.check(self.layout.size());
            // SAFETY: the block was allocated here with this layout.
            unsafe { self.allocator.dealloc(self.block, self.layout) };
        }
    }

    #[test]
    fn blocks_of_all_sizes_and_alignments_never_overlap() {
        let allocator = Allocator::new();
        let mut held: Vec<FreeBlocks<'_>> = Vec::new();
        let mut seed = 1_u64;
        for round in 0..20_000_u32 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = (seed >> 33) as usize;
            let (size, align) = (1 + random % 2500, 1 << ((random >> 12) % 7));
            match random % 3 {
                0 if !held.is_empty() => drop(held.swap_remove(random % held.len())),
                1 if !held.is_empty() => {
                    let index = random % held.len();
                    held[index].resize(size);
                }
                _ => held.push(FreeBlocks::new(&allocator, size, align, round as u8)),
            }
        }
    }

    #[test]
    fn a_freed_block_is_the_next_of_its_size() {
        let allocator = Allocator::new();
        let first = FreeBlocks::new(&allocator, 33, 8, 1);
        let place = first.block;
        drop(first);
        let smaller = FreeBlocks::new(&allocator, 32, 8, 2);
        assert_ne!(smaller.block, place, "it has another size");
        let mut second = FreeBlocks::new(&allocator, 64, 1, 3);
        assert_eq!(second.block, place);
        second.resize(40);
        assert_eq!(second.block, place, "it has room");
    }
}
