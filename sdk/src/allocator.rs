//! The allocator of components: a block that was freed waits for the next one of its size.
//!
//! A call makes a dozen small blocks and frees them all before it ends, over and over the same. The standard library's
//! allocator looks for the best place for each, and joins neighbours when they are freed: a quarter of the instructions of
//! a call of the plugin `jwt`. Here both are a few instructions. What a size has once taken stays with that size, so a
//! component keeps what its calls needed at most; only blocks above [`LARGEST`] go back.
//!
//! A crate that brings an allocator of its own turns this one off: `default-features = false`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

/// The smallest blocks, in bytes; those of each following size are twice as large.
const SMALLEST: usize = 16;
/// The largest blocks that are kept.
const LARGEST: usize = SMALLEST << (CLASSES - 1);
/// Sizes there are of blocks that are kept.
const CLASSES: usize = 8;
/// The alignment that every block has.
const ALIGNMENT: usize = 8;

#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

/// The blocks that wait, by size class: each holds the address of the next.
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
// SAFETY: a component has one thread; for targets with several there is no static. A test has one of its own.
unsafe impl Sync for Allocator {}

/// The size class of a block of this layout; none: it is not kept.
fn class_of(layout: Layout) -> Option<usize> {
    let fits = layout.size() <= LARGEST && layout.align() <= ALIGNMENT;
    fits.then(|| (layout.size().max(SMALLEST) - 1).ilog2() as usize + 1 - SMALLEST.ilog2() as usize)
}

#[expect(unsafe_code, reason = "what allocates memory cannot be safe")]
// SAFETY: a block is at least as large and as aligned as was asked for. It is in a list only while it is free, and a list
// holds blocks of one class only, since a layout always gives the same one. Nothing here unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's.
            return unsafe { new(layout) };
        };
        let block = self.free[class].get();
        if block.is_null() {
            // SAFETY: the size is neither zero nor too large for an address, the alignment a power of two.
            return unsafe { new(Layout::from_size_align_unchecked(SMALLEST << class, ALIGNMENT)) };
        }
        // SAFETY: what is in the list is a free block, whose address was put there by `dealloc`.
        self.free[class].set(unsafe { (*block).next });
        block.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else {
            // SAFETY: it came from there, as its layout says.
            return unsafe { System.dealloc(block, layout) };
        };
        let block: *mut Block = block.cast();
        // SAFETY: the block is free from here on, and large and aligned enough for an address.
        unsafe { block.write(Block { next: self.free[class].get() }) };
        self.free[class].set(block);
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's: the size is not zero, and does not overflow when rounded up to the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (class_of(layout), class_of(wanted)) {
            (Some(present), Some(class)) if present == class => block,
            // SAFETY: the caller's; neither is a block that is kept.
            (None, None) => unsafe { System.realloc(block, layout, new_size) },
            _ => {
                // SAFETY: both blocks are as large as the shorter of the two, and they are not the same.
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

/// A block of the standard library's allocator. Apart, so that what is done each time needs no room for it on the stack
/// and saves no registers.
///
/// # Safety
/// As [`GlobalAlloc::alloc`].
#[expect(unsafe_code, reason = "what allocates memory cannot be safe")]
#[cold]
unsafe fn new(layout: Layout) -> *mut u8 {
    // SAFETY: the caller's.
    unsafe { System.alloc(layout) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block that knows what was written into it.
    struct Held<'a> {
        allocator: &'a Allocator,
        block: *mut u8,
        layout: Layout,
        filling: u8,
    }

    #[expect(unsafe_code, reason = "the allocator's interface is not safe")]
    impl<'a> Held<'a> {
        fn new(allocator: &'a Allocator, size: usize, align: usize, filling: u8) -> Self {
            let layout = Layout::from_size_align(size, align).expect("a small layout");
            // SAFETY: the size is not zero.
            let block = unsafe { allocator.alloc(layout) };
            assert!(!block.is_null() && block.addr().is_multiple_of(align), "{layout:?} at {block:p}");
            // SAFETY: the block is that large.
            unsafe { block.write_bytes(filling, size) };
            Self { allocator, block, layout, filling }
        }

        fn resize(&mut self, size: usize) {
            self.check(size.min(self.layout.size()));
            // SAFETY: the block came from there with this layout, and the size is not zero.
            self.block = unsafe { self.allocator.realloc(self.block, self.layout, size) };
            self.check(size.min(self.layout.size()));
            self.layout = Layout::from_size_align(size, self.layout.align()).expect("a small layout");
            // SAFETY: the block is that large now.
            unsafe { self.block.write_bytes(self.filling, size) };
        }

        fn check(&self, bytes: usize) {
            // SAFETY: that many were written.
            let content = unsafe { std::slice::from_raw_parts(self.block, bytes) };
            assert!(content.iter().all(|byte| *byte == self.filling), "another block lies over this one");
        }
    }

    #[expect(unsafe_code, reason = "the allocator's interface is not safe")]
    impl Drop for Held<'_> {
        fn drop(&mut self) {
            self.check(self.layout.size());
            // SAFETY: the block came from there with this layout.
            unsafe { self.allocator.dealloc(self.block, self.layout) };
        }
    }

    #[test]
    fn blocks_of_all_sizes_and_alignments_never_overlap() {
        let allocator = Allocator::new();
        let mut held: Vec<Held<'_>> = Vec::new();
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
                _ => held.push(Held::new(&allocator, size, align, round as u8)),
            }
        }
    }

    #[test]
    fn a_freed_block_is_the_next_of_its_size() {
        let allocator = Allocator::new();
        let first = Held::new(&allocator, 33, 8, 1);
        let place = first.block;
        drop(first);
        let smaller = Held::new(&allocator, 32, 8, 2);
        assert_ne!(smaller.block, place, "it has another size");
        let mut second = Held::new(&allocator, 64, 1, 3);
        assert_eq!(second.block, place);
        second.resize(40);
        assert_eq!(second.block, place, "it has room");
    }
}
