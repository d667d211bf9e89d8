//! Free lists of a core: values that are kept for reuse, last in, first out, because the last one is still in the
//! processor's caches.

use std::cell::RefCell;
use std::thread::LocalKey;

/// The most values of one list.
pub(crate) const MOST: usize = 64;

/// The free list of one type on one core.
pub(crate) type FreeList<T> = RefCell<Vec<T>>;

/// Takes the value that came back last, if it fits.
pub(crate) fn take<T>(kept: &'static LocalKey<FreeList<T>>, fits: impl FnOnce(&mut T) -> bool) -> Option<T> {
    // Fails only while the thread ends; then nothing is kept.
    kept.try_with(|kept| kept.borrow_mut().pop_if(fits)).ok().flatten()
}

/// Keeps a value if there is room.
pub(crate) fn give_back<T>(kept: &'static LocalKey<FreeList<T>>, value: T) {
    let _ = kept.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < MOST {
            kept.push(value);
        }
    });
}
