//! Fetched keys in the store. All instances use the keys that one of them has fetched, and the store holds which
//! call may fetch next (has the turn).
//!
//! There are four entries for each place that keys are fetched from, so that bindings share keys only if they
//! fetch from the same place:
//!
//! | entry | holds |
//! |---|---|
//! | `keys` | time of the fetch in milliseconds since 1970 (8 bytes, big-endian), then the set |
//! | `stamp` | the same time alone, which is cheap to read |
//! | `turn` | exists as long as no other call may fetch; its value says why |
//! | `first` | number of calls that fetched in parallel because there were no keys at all |

use std::cell::Cell;
use std::time::Duration;

use witgate_sdk::log;
use witgate_sdk::store::{self, Error};

/// A fetch has begun. It may still be in progress, or its client may have disconnected before its end.
const BEGUN: &[u8] = b"begun";
/// A fetch has succeeded.
const ENDED: &[u8] = b"ended";
/// A fetch has failed, and there are no keys.
const FAILED: &[u8] = b"failed";
/// The keys were fetched, but the store has no room for them.
const NO_ROOM: &[u8] = b"no room";

/// How long a fetch in progress keeps the turn while there are no keys. It is limited, because a fetch whose
/// client disconnects does not release the turn. One second is the default wall time of a call (`budget.wall`).
const LEASE: Duration = Duration::from_secs(1);

/// Number of calls that may fetch in parallel while there are no keys at all. A call cannot wait for the fetch of
/// another call, so after a start further calls are refused.
const BESIDE: i64 = 32;

/// Whether the call may fetch.
#[derive(Debug, PartialEq)]
pub(crate) enum Turn {
    /// The call may fetch.
    Mine,
    /// Another call fetches, or the interval is not over.
    NotMine,
    /// The store cannot be used, so each instance decides by itself.
    Alone,
}

/// The entries for keys from one place.
pub(crate) struct Shared {
    space: String,
    keys: String,
    stamp: String,
    turn: String,
    first: String,
    /// The shortest time between two fetches.
    interval: Duration,
    /// How long the store keeps the keys.
    lifetime: Duration,
    /// Whether the log says already that the store cannot be used.
    is_told: Cell<bool>,
}

impl Shared {
    /// `place` identifies where the keys are fetched from.
    pub(crate) fn new(space: String, place: &str, interval: Duration, lifetime: Duration) -> Self {
        let entry = |kind: &str| format!("{kind} {place}");
        Self {
            space,
            keys: entry("keys"),
            stamp: entry("stamp"),
            turn: entry("turn"),
            first: entry("first"),
            interval,
            lifetime,
            is_told: Cell::new(false),
        }
    }

    fn space(&self) -> store::Space<'_> {
        store::space(&self.space)
    }

    /// The text of keys that are newer than the caller's, and when they were fetched.
    ///
    /// # Errors
    /// The store cannot be used; a line is written to the log.
    pub(crate) fn newer(&self, own: Option<Duration>) -> Result<Option<(Vec<u8>, Duration)>, Error> {
        let look = || {
            let stamp = self.space().get(&self.stamp)?;
            if stamp.as_deref().and_then(time).is_none_or(|stamp| own.is_some_and(|own| own >= stamp)) {
                return Ok(None);
            }
            Ok(self.space().get(&self.keys)?.and_then(|mut entry| {
                let fetched = time(entry.get(..8)?)?;
                Some((entry.split_off(8), fetched))
            }))
        };
        look().inspect_err(|error| self.tell(*error))
    }

    /// Requests the turn to fetch. It is taken before the fetch begins, so that a client that disconnects does not
    /// release it early. `is_served`: there are keys to use meanwhile.
    pub(crate) fn turn(&self, is_served: bool) -> Turn {
        let time = if is_served { self.interval } else { self.interval.min(LEASE) };
        match self.space().compare_and_swap(&self.turn, None, Some(BEGUN), Some(time)) {
            Ok(true) => return Turn::Mine,
            Ok(false) => {}
            Err(error) => {
                self.tell(error);
                return Turn::Alone;
            }
        }
        let is_beside = || {
            let count = self.space().increment(&self.first, 1, Some(self.lifetime));
            count.is_ok_and(|count| count <= BESIDE)
        };
        match self.space().get(&self.turn) {
            Ok(Some(why)) if why == NO_ROOM => Turn::Alone,
            Ok(Some(why)) if why == BEGUN && !is_served && is_beside() => Turn::Mine,
            _ => Turn::NotMine,
        }
    }

    /// Shares keys with all instances. `was_served`: the turn is held for the whole interval already.
    pub(crate) fn publish(&self, text: &[u8], fetched: Duration, was_served: bool) {
        let stamp = milliseconds(fetched).to_be_bytes();
        // A fetch that began earlier but ended later does not replace newer keys.
        let is_newest =
            |known: Option<Vec<u8>>| known.as_deref().and_then(time).is_none_or(|known| known < fetched);
        let put = || {
            if !is_newest(self.space().get(&self.stamp)?) {
                return Ok(());
            }
            self.space().set(&self.keys, [&stamp, text].concat(), Some(self.lifetime))?;
            self.space().set(&self.stamp, stamp, Some(self.lifetime))
        };
        match put() {
            Ok(()) if was_served => {}
            Ok(()) => self.settle(ENDED),
            Err(error) => {
                self.tell(error);
                self.settle(NO_ROOM);
            }
        }
    }

    /// A fetch has failed while there were no keys. The turn is held for an interval, so that other calls do not
    /// repeat the fetch at once.
    pub(crate) fn failed(&self) {
        // If several fetches fail, the first of them begins the interval.
        if !matches!(self.space().get(&self.turn), Ok(Some(why)) if why == FAILED) {
            self.settle(FAILED);
        }
    }

    fn settle(&self, why: &[u8]) {
        // If the store fails, the turn ends with its lease.
        let _ = self.space().set(&self.turn, why, Some(self.interval));
    }

    /// Logs the error once for each instance. Without the store, an instance cannot know what another one has
    /// logged.
    fn tell(&self, error: Error) {
        if self.is_told.replace(true) {
            return;
        }
        let space = &self.space;
        let cost = "each instance fetches for itself, and while the identity server is slow or away, new instances have no keys and \
                    turn good tokens away with 503";
        if matches!(error, Error::Denied) {
            log::warn(format_args!(
                "the store space `{space}` is not granted, so keys are not shared: {cost}. Add \"{space}\" to `store` in the \
                 `grants` of this binding"
            ));
        } else {
            log::warn(format_args!("the store failed ({error}), so keys are not shared: {cost}"));
        }
    }
}

/// Reads a time in milliseconds since 1970 from 8 bytes.
fn time(bytes: &[u8]) -> Option<Duration> {
    Some(Duration::from_millis(u64::from_be_bytes(bytes.try_into().ok()?)))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
