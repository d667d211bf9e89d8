//! Memory for the futures that serve requests. Each core keeps freed blocks for the next request, because the
//! futures are too large for the allocator's fast path.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::pin::Pin;
use std::ptr::NonNull;

use crate::kept::{self, FreeList};

thread_local! {
    static FREE: FreeList<Place> = const { FreeList::new(Vec::new()) };
}

/// A block of memory of one layout.
struct Place {
    at: NonNull<u8>,
    layout: Layout,
}

impl Place {
    /// A kept block of this layout, or else a new one. The layout's size must not be zero.
    #[expect(unsafe_code, reason = "memory that is reused for other values needs raw pointers")]
    fn take(layout: Layout) -> Place {
        kept::take(&FREE, |place| place.layout == layout).unwrap_or_else(|| {
            // SAFETY: the size is not zero.
            let at = NonNull::new(unsafe { alloc(layout) });
            Place { at: at.unwrap_or_else(|| handle_alloc_error(layout)), layout }
        })
    }
}

impl Drop for Place {
    #[expect(unsafe_code, reason = "see `take`")]
    fn drop(&mut self) {
        // SAFETY: the block was allocated with this layout, and only this value owns it.
        unsafe { dealloc(self.at.as_ptr(), self.layout) }
    }
}

/// A value that stays where it was constructed until it is dropped.
pub(super) struct Placed<T> {
    value: NonNull<T>,
    place: Option<Place>,
}

impl<T> Placed<T> {
    /// Constructs a value in its block.
    #[inline(always)]
    #[expect(unsafe_code, reason = "see `Place::take`")]
    pub(super) fn new(make: impl FnOnce() -> T) -> Self {
        const { assert!(size_of::<T>() > 0) };
        let place = Place::take(Layout::new::<T>());
        let value = place.at.cast::<T>();
        // SAFETY: the block has the value's layout, and nothing else uses it.
        unsafe { value.write(make()) };
        Placed { value, place: Some(place) }
    }

    /// The value, which never moves.
    #[expect(unsafe_code, reason = "see `Place::take`")]
    pub(super) fn as_mut(&mut self) -> Pin<&mut T> {
        // SAFETY: the value lives until `self` is dropped, `self` is borrowed for as long as the value is, and the
        // value is dropped in place before its block is reused.
        unsafe { Pin::new_unchecked(self.value.as_mut()) }
    }
}

impl<T> Drop for Placed<T> {
    #[expect(unsafe_code, reason = "see `Place::take`")]
    fn drop(&mut self) {
        let place = self.place.take();
        // SAFETY: `new` constructed the value, and it is not used again. If the drop panics, the block is leaked.
        unsafe { self.value.drop_in_place() };
        if let Some(place) = place {
            kept::give_back(&FREE, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use super::*;

    fn address<T: Unpin>(placed: &mut Placed<T>) -> usize {
        std::ptr::from_mut(placed.as_mut().get_mut()).addr()
    }

    #[test]
    fn the_last_place_that_came_back_is_the_next() {
        let [mut first, mut second] = [1_u64, 2].map(|number| Placed::new(|| [number; 50]));
        let (one, two) = (address(&mut first), address(&mut second));
        assert_eq!((first.as_mut()[49], second.as_mut()[0]), (1, 2));
        drop(second);
        drop(first);
        let mut again = Placed::new(|| [3_u64; 50]);
        assert_eq!(address(&mut again), one);
        let mut other = Placed::new(|| [4_u8; 400]);
        assert_ne!(address(&mut other), two, "a layout of its own");
        assert_eq!(address(&mut Placed::new(|| [5_u64; 50])), two);
        assert_eq!((again.as_mut()[0], other.as_mut()[0]), (3, 4));
    }

    #[test]
    fn a_place_fits_what_is_in_it() {
        #[repr(align(256))]
        struct Aligned(u8);
        let mut all: Vec<_> =
            (0..2 * kept::MOST as u8).map(|number| Placed::new(|| Aligned(number))).collect();
        for (number, placed) in all.iter_mut().enumerate() {
            assert_eq!(address(placed) % 256, 0);
            assert_eq!(usize::from(placed.as_mut().0), number);
        }
        drop(all);
        assert_eq!(FREE.with_borrow(Vec::len), kept::MOST);
    }

    #[test]
    fn what_is_in_it_is_dropped_once() {
        let counted = Rc::new(());
        let placed = Placed::new(|| counted.clone());
        assert_eq!(Rc::strong_count(&counted), 2);
        drop(placed);
        assert_eq!(Rc::strong_count(&counted), 1);
    }

    #[test]
    fn a_panic_on_either_end_loses_nothing_else() {
        struct Panics([u32; 7]);
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("{:?}", self.0);
            }
        }
        let made = catch_unwind(|| Placed::<[u32; 7]>::new(|| panic!("on purpose")));
        assert!(made.is_err());
        let placed = Placed::new(|| Panics([7; 7]));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(placed))).is_err());
        assert_eq!(Placed::new(|| [8_u32; 7]).as_mut()[6], 8);
    }
}
