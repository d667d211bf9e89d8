//! What is purged, and the purges of late, which concern responses that were asked for before and stored after them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::entry::Entry;
use crate::url::Url;

/// The most purges that are remembered. A response that was asked for before the first of them is not stored.
const REMEMBERED: usize = 1024;

/// Which responses are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Url(Url),
    Prefix(Url),
    Tag(String),
    All,
}

impl Selector {
    /// The responses of one URL, whoever they are for.
    ///
    /// # Errors
    /// The text is no URL.
    pub fn url(text: &str) -> Result<Selector, String> {
        read(text).map(|url| Selector(Kind::Url(url)))
    }

    /// The responses whose URL begins with this one.
    ///
    /// # Errors
    /// The text is no URL.
    pub fn prefix(text: &str) -> Result<Selector, String> {
        read(text).map(|url| Selector(Kind::Prefix(url)))
    }

    /// The responses with this word in `Surrogate-Key`, or this element in `Cache-Tag`.
    ///
    /// # Errors
    /// The text is empty.
    pub fn tag(text: &str) -> Result<Selector, String> {
        match text.trim() {
            "" => Err("a tag is not empty".to_owned()),
            tag => Ok(Selector(Kind::Tag(tag.to_owned()))),
        }
    }

    /// All responses.
    pub fn all() -> Selector {
        Selector(Kind::All)
    }

    /// Whether it means this response.
    pub(crate) fn means(&self, entry: &Entry) -> bool {
        match &self.0 {
            Kind::Url(url) => *entry.url == *url,
            Kind::Prefix(url) => entry.url.begins_with(url),
            Kind::Tag(tag) => entry.tags.binary_search(tag).is_ok(),
            Kind::All => true,
        }
    }
}

fn read(text: &str) -> Result<Url, String> {
    Url::read(text).ok_or_else(|| format!("`{text}` is no URL such as `https://shop.example/images/`"))
}

/// Numbers purges and invalidations, and remembers the latest purges.
#[derive(Debug, Default)]
pub(crate) struct Purges {
    number: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    purges: VecDeque<(u64, Arc<Selector>, bool)>,
    /// The number of the last purge that is not remembered any more.
    forgotten: u64,
}

impl Purges {
    /// The number of the last purge or invalidation.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The number of a new one.
    pub(crate) fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Remembers a purge.
    pub(crate) fn add(&self, selector: Selector, soft: bool) -> Arc<Selector> {
        let selector = Arc::new(selector);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.next();
        recent.purges.push_back((number, Arc::clone(&selector), soft));
        if recent.purges.len() > REMEMBERED
            && let Some((number, ..)) = recent.purges.pop_front()
        {
            recent.forgotten = number;
        }
        selector
    }

    /// Whether a purge has concerned a response since it was asked for, so that it must not be stored.
    pub(crate) fn concern(&self, entry: &Entry) -> bool {
        if entry.asked == self.number() {
            return false;
        }
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        entry.asked < recent.forgotten
            || recent.purges.iter().rev().take_while(|(number, ..)| *number > entry.asked).any(
                |(_, selector, soft)| {
                    let means = selector.means(entry);
                    if means && *soft {
                        entry.make_stale();
                    }
                    means && !*soft
                },
            )
    }
}
