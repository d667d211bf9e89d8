//! Header maps that a core reuses from one message to the next, which saves two allocations for each map.

use crate::core_local::MAPS;
use http::HeaderMap;

/// The most maps that a core keeps: about as many as it often has requests in flight.
const MOST: usize = 64;

/// The largest capacity, in fields, of a map that is kept.
const FIELDS: usize = 64;

/// An empty map with room for `fields` fields.
pub fn take(fields: usize) -> HeaderMap {
    // While a thread ends, its maps may already be gone.
    match MAPS.try_with(|maps| maps.borrow_mut().pop()) {
        Ok(Some(mut map)) => {
            map.reserve(fields);
            map
        }
        _ => HeaderMap::with_capacity(fields),
    }
}

/// Keeps a map for reuse. Its contents are dropped.
pub fn give_back(mut map: HeaderMap) {
    if !(1..=FIELDS).contains(&map.capacity()) {
        return;
    }
    map.clear();
    let _ = MAPS.try_with(|maps| {
        let mut maps = maps.borrow_mut();
        if maps.len() < MOST {
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
        for _ in 0..2 * MOST {
            give_back(HeaderMap::with_capacity(4));
        }
        assert_eq!(kept(), MOST);
        let before = take(1);
        give_back(HeaderMap::with_capacity(10 * FIELDS));
        give_back(HeaderMap::new());
        assert_eq!(kept(), MOST - 1);
        drop(before);
    }
}
