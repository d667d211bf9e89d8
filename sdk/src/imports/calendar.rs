//! Days and months of a time zone, for what begins anew with them: quotas, reports. Of version 0.2.0.
//!
//! ```
//! use witgate_sdk::calendar;
//!
//! let day = calendar::day("UTC").ok_or("no such time zone")?;
//! assert!(day.name.len() == "2026-11-30".len() && day.begins < day.ends);
//! assert!(calendar::month("Europe/Nowhere").is_none());
//! # Ok::<(), &str>(())
//! ```

use std::time::Duration;

use super::{backend, clock};
use crate::contracts::milliseconds;

pub use crate::bindings::additions::witgate::plugin0_2_0::calendar::{Period, Window};

/// The present day in a time zone (`Europe/Berlin`); `None` if there is no zone of this name.
#[must_use]
pub fn day(zone: &str) -> Option<Window> {
    at(zone, Period::Day, clock::now())
}

/// The present month in a time zone; `None` if there is no zone of this name.
#[must_use]
pub fn month(zone: &str) -> Option<Window> {
    at(zone, Period::Month, clock::now())
}

/// The day or month that holds a moment, counted since 1970-01-01T00:00:00Z. `None` if there is no zone of this name, or if
/// the moment is after the year 9999.
#[must_use]
pub fn at(zone: &str, period: Period, moment: Duration) -> Option<Window> {
    backend::calendar::window_at(zone, period, milliseconds(moment))
}

impl Window {
    /// How long it still lasts; zero if it is over.
    #[must_use]
    pub fn ends_in(&self) -> Duration {
        Duration::from_millis(self.ends).saturating_sub(clock::now())
    }
}
