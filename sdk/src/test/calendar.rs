//! Mock of the interface `calendar`: time zones whose clocks never change.

use super::gateway::with_state;
use crate::bindings::additions::witgate::plugin0_2_0::calendar::{Period, Window};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

pub(crate) fn window_at(zone: &str, period: Period, moment: u64) -> Option<Window> {
    let ahead = with_state(|state| state.zones.get(zone).copied())?;
    let ahead = i64::from(ahead) * 60_000;
    let day = i64::try_from(moment).ok()?.checked_add(ahead)?.div_euclid(DAY);
    let (year, month, date) = civil(day);
    if year > 9999 {
        return None;
    }
    let (first, next, name) = match period {
        Period::Day => (day, day + 1, format!("{year:04}-{month:02}-{date:02}")),
        Period::Month => {
            let first = day - (date - 1);
            let next = (28..=31).map(|days| first + days).find(|day| civil(*day).1 != month)?;
            (first, next, format!("{year:04}-{month:02}"))
        }
    };
    let begins = |day: i64| u64::try_from(day * DAY - ahead).unwrap_or(0);
    Some(Window { name, begins: begins(first), ends: begins(next) })
}

/// Year, month and day of the month of a day since 1970-01-01, which is not before it: years are counted from March, so that the
/// leap day is their last.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_the_mock_are_those_of_the_calendar() {
        let of = |period, moment| window_at("UTC", period, moment).unwrap();
        let leap = of(Period::Month, 1_709_164_800_000);
        assert_eq!((&*leap.name, leap.begins, leap.ends), ("2024-02", 1_706_745_600_000, 1_709_251_200_000));
        assert_eq!(of(Period::Day, 0).name, "1970-01-01");
        assert_eq!(of(Period::Day, 1_735_689_599_999).name, "2024-12-31");
        assert_eq!(of(Period::Month, 1_735_689_600_000).name, "2025-01");
        assert!(window_at("Europe/Berlin", Period::Day, 0).is_none(), "the test has not named it");
    }
}
