//! What a core keeps for its next use: the last that came back is the first that is taken, since that is still in the
//! processor's caches, where an allocator hands places out in turn.

use std::cell::RefCell;
use std::thread::LocalKey;

/// Things that a core keeps: as many as there are often requests under way on it.
pub(crate) const MOST: usize = 64;

/// What a core keeps of one kind.
pub(crate) type FreeList<T> = RefCell<Vec<T>>;

/// The one that came back last, if it fits.
pub(crate) fn take<T>(kept: &'static LocalKey<FreeList<T>>, fits: impl FnOnce(&mut T) -> bool) -> Option<T> {
    // A thread that ends keeps nothing any more.
    kept.try_with(|kept| kept.borrow_mut().pop_if(fits)).ok().flatten()
}

/// Keeps it, if there is room.
pub(crate) fn give_back<T>(kept: &'static LocalKey<FreeList<T>>, value: T) {
    let _ = kept.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < MOST {
            kept.push(value);
        }
    });
}
