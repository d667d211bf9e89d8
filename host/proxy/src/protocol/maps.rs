//! Header maps that a core reuses from one message to the next, which saves two allocations for each.

use http::HeaderMap;

use crate::kept::{self, FreeList};

/// The largest capacity, in fields, of a map that is kept.
const FIELDS: usize = 64;

thread_local! {
    static MAPS: FreeList<HeaderMap> = const { FreeList::new(Vec::new()) };
}

/// An empty map with room for `fields` fields.
pub(crate) fn take(fields: usize) -> HeaderMap {
    match kept::take(&MAPS, |_| true) {
        Some(mut map) => {
            map.reserve(fields);
            map
        }
        None => HeaderMap::with_capacity(fields),
    }
}

/// Keeps a map for reuse. Its contents are dropped.
pub(crate) fn give_back(mut map: HeaderMap) {
    if !(1..=FIELDS).contains(&map.capacity()) {
        return;
    }
    map.clear();
    kept::give_back(&MAPS, map);
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
        for _ in 0..2 * kept::MOST {
            give_back(HeaderMap::with_capacity(4));
        }
        assert_eq!(kept(), kept::MOST);
        let before = take(1);
        give_back(HeaderMap::with_capacity(10 * FIELDS));
        give_back(HeaderMap::new());
        assert_eq!(kept(), kept::MOST - 1);
        drop(before);
    }
}
