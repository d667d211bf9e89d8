//! Keys in the store: what one instance has fetched serves all of them, and each learns from it whose turn it is to fetch.
//!
//! There are four entries for each place that keys come from, so that bindings which fetch elsewhere never share keys:
//!
//! | entry | holds |
//! |---|---|
//! | `keys` | milliseconds since 1970 when they were fetched (8 bytes, big-endian), and the set |
//! | `stamp` | the same milliseconds alone, which is cheap to look at |
//! | `turn` | until when nobody else fetches, by its time to live; its value says why |
//! | `first` | how many calls have fetched beside another one because there was no key at all |

use std::cell::Cell;
use std::time::Duration;

use witgate_sdk::log;
use witgate_sdk::store::{self, Error};

/// A fetch is under way, or was, and its caller may have left before its end.
const BEGUN: &[u8] = b"begun";
/// A fetch has ended.
const ENDED: &[u8] = b"ended";
/// A fetch has failed, and there are no keys.
const FAILED: &[u8] = b"failed";
/// The keys were fetched, but the store has no room for them.
const NO_ROOM: &[u8] = b"no room";

/// For how long a fetch that is under way while there are no keys keeps others from their turn: if its caller leaves, nobody
/// says that it is over. As long as a call may take unless the binding says otherwise (`budget.wall`).
const LEASE: Duration = Duration::from_secs(1);

/// How many calls may fetch beside another one while there are no keys at all. A call cannot wait for the fetch of another
/// one, so at a start those that find none would be turned away; more than these are.
const BESIDE: i64 = 32;

/// Whose turn it is to fetch.
#[derive(Debug, PartialEq)]
pub(crate) enum Turn {
    /// The caller's.
    Mine,
    /// Another one's, or nobody's before the interval is over.
    NotMine,
    /// Each instance's own to decide: the store does not help.
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
    /// How long keys are of use to anybody.
    lifetime: Duration,
    /// Whether the log has been told that the store cannot be used.
    is_told: Cell<bool>,
}

impl Shared {
    /// `place` says where the keys come from.
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

    /// The text of keys that are newer than those of the caller, and when they were fetched.
    ///
    /// # Errors
    /// The store cannot be used; the log is told.
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

    /// Asks for the turn to fetch. Whoever has it holds it from before the fetch on, so that it is not free again because a
    /// client leaves. `is_served`: there are keys to serve with meanwhile.
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

    /// Gives keys to all. `was_served`: the turn is held for the whole interval already.
    pub(crate) fn publish(&self, text: &[u8], fetched: Duration, was_served: bool) {
        let stamp = milliseconds(fetched).to_be_bytes();
        // A slower fetch that began earlier does not replace what a later one brought.
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

    /// A fetch has failed while there were no keys: others need not find out for themselves at once.
    pub(crate) fn failed(&self) {
        // The first of several that fail together begins the interval.
        if !matches!(self.space().get(&self.turn), Ok(Some(why)) if why == FAILED) {
            self.settle(FAILED);
        }
    }

    fn settle(&self, why: &[u8]) {
        // If the store fails, the turn is over with its lease.
        let _ = self.space().set(&self.turn, why, Some(self.interval));
    }

    /// Once for each instance: without the store there is nothing by which one could know what another has said.
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

/// Time that is told as milliseconds since 1970, in 8 bytes.
fn time(bytes: &[u8]) -> Option<Duration> {
    Some(Duration::from_millis(u64::from_be_bytes(bytes.try_into().ok()?)))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
