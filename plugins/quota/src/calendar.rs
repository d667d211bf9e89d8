//! Days and months of the Gregorian calendar, at a fixed distance from UTC.

use std::borrow::Cow;

use witgate_sdk::schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use witgate_sdk::serde::Deserialize;
use witgate_sdk::settings;

const DAY: u64 = 24 * 3600;

/// A distance from UTC in minutes, written as `+02:00`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(crate = "witgate_sdk::serde", try_from = "String")]
pub(crate) struct Offset(i64);

impl TryFrom<String> for Offset {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let read = || {
            let (sign, rest) = text.split_at_checked(1)?;
            let sign = match sign {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let (hours, minutes) = rest.split_once(':')?;
            let number = |digits: &str, most: i64| {
                let whole = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
                digits.parse::<i64>().ok().filter(|number| whole && *number <= most)
            };
            let minutes = number(hours, 14)? * 60 + number(minutes, 59)?;
            (minutes <= 14 * 60).then_some(Self(sign * minutes))
        };
        if text == "UTC" {
            return Ok(Self(0));
        }
        read().ok_or_else(|| {
            format!("`{text}` is not a distance from UTC: write e.g. `+02:00`, `-05:30` or `UTC`")
        })
    }
}

impl JsonSchema for Offset {
    fn schema_name() -> Cow<'static, str> {
        "Offset".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "The distance from UTC, at most 14 hours, e.g. `+02:00`, `-05:30` or `UTC`.",
            "pattern": "^([+-](0[0-9]|1[0-4]):[0-5][0-9]|UTC)$",
        })
    }
}

/// The length of a window.
#[settings]
#[derive(Clone, Copy)]
pub(crate) enum Span {
    /// From midnight to midnight.
    Day,
    /// From the first to the last day.
    Month,
}

/// The day or month that a time is in.
#[derive(Debug, PartialEq)]
pub(crate) struct Window {
    /// `2026-01-31` or `2026-01`.
    pub(crate) name: String,
    /// When it ends, in seconds since 1970, in UTC.
    pub(crate) ends: u64,
}

impl Span {
    /// The window of a time, which is in seconds since 1970, in UTC.
    pub(crate) fn window(self, now: u64, offset: Offset) -> Window {
        let there = |seconds: u64| seconds.saturating_add_signed(offset.0 * 60);
        let back = |seconds: u64| seconds.saturating_add_signed(-offset.0 * 60);
        let today = there(now) / DAY;
        let (year, month, day) = date(today);
        match self {
            Self::Day => {
                Window { name: format!("{year:04}-{month:02}-{day:02}"), ends: back((today + 1) * DAY) }
            }
            Self::Month => {
                // At most 31 days on is the next month, whose days before that are taken off again.
                let later = today - (day - 1) + 31;
                let first = later - (date(later).2 - 1);
                Window { name: format!("{year:04}-{month:02}"), ends: back(first * DAY) }
            }
        }
    }
}

/// Year, month and day of the month of a day, which is counted from 1970-01-01. The year is taken to begin in March, so that the
/// leap day is its last; 400 years have 146,097 days.
fn date(day: u64) -> (u64, u64, u64) {
    let since = day + 719_468;
    let (era, of_era) = (since / 146_097, since % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_a_thousand_years_follows_the_one_before() {
        let mut expected = (1970, 1, 1);
        for day in 0..365_243 {
            assert_eq!(date(day), expected);
            let (year, month, last) = expected;
            let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, last) {
                (12, 31) => (year + 1, 1, 1),
                (_, last) if last == length => (year, month + 1, 1),
                _ => (year, month, last + 1),
            };
        }
    }

    #[test]
    fn a_month_ends_when_the_next_begins_at_the_distance_from_utc() {
        // 2024-02-29T23:30:00Z, and the first seconds of March in UTC and two hours east of it.
        let (now, march, march_east) = (1_709_249_400, 1_709_251_200, 1_709_244_000);
        let offset = |text: &str| Offset::try_from(text.to_owned()).expect(text);
        let window = |span: Span, text: &str| span.window(now, offset(text));
        assert_eq!(window(Span::Month, "UTC"), Window { name: "2024-02".into(), ends: march });
        assert_eq!(window(Span::Day, "+00:00"), Window { name: "2024-02-29".into(), ends: march });
        let april_east = march_east + 31 * DAY;
        assert_eq!(window(Span::Month, "+02:00"), Window { name: "2024-03".into(), ends: april_east });
        assert_eq!(window(Span::Day, "+02:00"), Window { name: "2024-03-01".into(), ends: march_east + DAY });
        assert_eq!(window(Span::Day, "-05:30").name, "2024-02-29");
        assert_eq!(Span::Month.window(march - 1, offset("UTC")).ends, march);
        assert_eq!(Span::Month.window(march, offset("UTC")).ends, march + 31 * DAY);
        let december = Span::Month.window(1_735_689_599, offset("UTC"));
        assert_eq!(december, Window { name: "2024-12".into(), ends: 1_735_689_600 });
    }

    #[test]
    fn what_is_no_distance_is_refused() {
        for text in ["", "2", "+2:00", "+02", "+15:00", "+14:01", "+02:60", "Europe/Berlin", "+0é:00", "é"]
        {
            assert!(Offset::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
