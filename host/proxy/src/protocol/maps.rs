//! Header maps that a core keeps from one message to the next.
//!
//! A map is two blocks of memory, and allocators hand out last what came back last: asked for anew, each message's fields
//! would be written to memory that the processor's caches had let go of.

use std::cell::RefCell;

use http::HeaderMap;

/// Maps that a core keeps: one for each of the requests that are often under way on it, and for the answer at hand.
const KEPT: usize = 64;

/// Fields that a map has room for and is still worth keeping.
const FIELDS: usize = 64;

thread_local! {
    static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map with room for so many fields.
pub(crate) fn take(fields: usize) -> HeaderMap {
    match MAPS.try_with(|maps| maps.borrow_mut().pop()) {
        Ok(Some(mut map)) => {
            map.reserve(fields);
            map
        }
        _ => HeaderMap::with_capacity(fields),
    }
}

/// Gives back a map that is no longer needed. What it holds is dropped.
pub(crate) fn give_back(mut map: HeaderMap) {
    if !(1..=FIELDS).contains(&map.capacity()) {
        return;
    }
    map.clear();
    // A thread that ends keeps nothing any more.
    let _ = MAPS.try_with(|maps| {
        let mut maps = maps.borrow_mut();
        if maps.len() < KEPT {
            maps.push(map);
        }
    });
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{COOKIE, HOST};

    use super::*;

    fn kept() -> usize {
        MAPS.with_borrow(Vec::len)
    }

    #[test]
    fn a_map_that_is_handed_out_again_holds_nothing_of_the_message_before() {
        let mut map = take(3);
        map.insert(HOST, HeaderValue::from_static("a"));
        map.append(COOKIE, HeaderValue::from_static("secret=1"));
        map.append(COOKIE, HeaderValue::from_static("secret=2"));
        give_back(map);
        assert_eq!(kept(), 1);
        let again = take(20);
        assert_eq!(kept(), 0);
        assert!(again.is_empty() && again.get(COOKIE).is_none() && again.keys().next().is_none());
        assert!(again.capacity() >= 20);
    }

    #[test]
    fn neither_many_maps_nor_large_ones_are_kept() {
        for _ in 0..2 * KEPT {
            give_back(HeaderMap::with_capacity(4));
        }
        assert_eq!(kept(), KEPT);
        let before = take(1);
        give_back(HeaderMap::with_capacity(10 * FIELDS));
        give_back(HeaderMap::new());
        assert_eq!(kept(), KEPT - 1);
        drop(before);
    }
}
