//! Durations: `"250ms"`, `"5s"`, `"1m30s"`, `"2h"`, `"7d"`.

use super::Scalar;

/// A duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duration(pub std::time::Duration);

impl Scalar for Duration {
    const FORMAT: &'static str = "witgate-duration";
    const WHAT: &'static str = "a duration such as \"250ms\", \"5s\" or \"1m30s\"";
    const UNIT: Option<&'static str> = Some("s");

    fn read(text: &str) -> Result<Self, String> {
        read(text).map(Self)
    }

    fn meant(text: &str) -> Option<String> {
        meant(text)
    }
}

/// A duration, or `"off"` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DurationOrOff(pub(crate) Option<std::time::Duration>);

impl Scalar for DurationOrOff {
    const FORMAT: &'static str = "witgate-duration-or-off";
    const WHAT: &'static str = "a duration such as \"5s\" or \"1m30s\", or \"off\"";
    const UNIT: Option<&'static str> = Some("s");

    fn read(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self(None)) } else { read(text).map(|duration| Self(Some(duration))) }
    }

    fn meant(text: &str) -> Option<String> {
        meant(text)
    }
}

/// The longest duration that is accepted. It keeps sums with the clock from overflowing, and is longer than any
/// useful value.
const LONGEST_DAYS: u64 = 3650;

/// Units in nanoseconds, in the order in which they must be written.
const UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// Other names of the units.
const OTHER_NAMES: &[(&str, &[&str])] = &[
    ("d", &["day", "days"]),
    ("h", &["hr", "hrs", "hour", "hours"]),
    ("m", &["min", "mins", "minute", "minutes"]),
    ("s", &["sec", "secs", "second", "seconds"]),
    ("ms", &["msec", "msecs", "milli", "millis", "millisecond", "milliseconds"]),
    ("us", &["µs", "μs", "usec", "usecs", "micro", "micros", "microsecond", "microseconds"]),
];

/// The right form of a duration that is written with blanks, with other names of units, in capitals, or with a
/// decimal fraction.
fn meant(text: &str) -> Option<String> {
    let text = text.to_lowercase().replace([' ', '\t', ',', '_'], "");
    let (mut rest, mut nanoseconds) = (text.as_str(), 0_u64);
    while !rest.is_empty() {
        let number =
            rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').filter(|end| *end > 0)?;
        let name = rest[number..].find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len() - number);
        let (written, name) = (&rest[..number], &rest[number..number + name]);
        let unit = OTHER_NAMES.iter().find(|(unit, names)| *unit == name || names.contains(&name))?.0;
        let scale = UNITS.iter().find(|(known, _)| *known == unit)?.1;
        nanoseconds = nanoseconds.checked_add(scaled(written, scale)?)?;
        rest = &rest[number + name.len()..];
    }
    let mut meant = String::new();
    let mut left = nanoseconds;
    for (unit, scale) in UNITS {
        if left >= *scale {
            meant.push_str(&format!("{}{unit}", left / scale));
            left %= scale;
        }
    }
    // What is below a microsecond has no unit, and a zero says nothing.
    (left == 0 && read(&meant).is_ok()).then_some(meant)
}

/// A decimal number, such as `1.5`, in nanoseconds of a unit.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = u32::try_from(fraction.len()).ok()?;
    let parts = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()?.checked_mul(scale)? };
    let parts = parts.checked_div(10_u64.checked_pow(digits)?)?;
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(parts)
}

fn read(text: &str) -> Result<std::time::Duration, String> {
    let too_long = || format!("it is longer than {LONGEST_DAYS} days");
    let (mut rest, mut units, mut total) = (text, UNITS, 0u64);
    if text == "0" {
        return Ok(std::time::Duration::ZERO);
    }
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        if digits == 0 {
            return Err(format!("a number is missing before `{rest}`"));
        }
        let Some(position) = units.iter().position(|(name, _)| *name == unit) else {
            return Err(match unit {
                "" if rest[digits..].starts_with(' ') => {
                    format!("a space separates `{number}` from what follows")
                }
                "" if rest[digits..].starts_with('.') => "its numbers must be whole".to_owned(),
                "" => format!("`{number}` has no unit"),
                known if UNITS.iter().any(|(name, _)| *name == known) => {
                    "its units go from the longest to the shortest, each once".to_owned()
                }
                _ => format!("`{unit}` is not one of the units d, h, m, s, ms, us"),
            });
        };
        let amount = number.parse::<u64>().ok().and_then(|number| number.checked_mul(units[position].1));
        total = amount.and_then(|amount| total.checked_add(amount)).ok_or_else(too_long)?;
        units = &units[position + 1..];
        rest = &rest[digits + letters..];
    }
    if total > LONGEST_DAYS * UNITS[0].1 {
        Err(too_long())
    } else {
        Ok(std::time::Duration::from_nanos(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_units_in_order() {
        let cases = [
            ("5s", Ok(5_000)),
            ("250ms", Ok(250)),
            ("1m30s", Ok(90_000)),
            ("1h1ms", Ok(3_600_001)),
            ("2d", Ok(172_800_000)),
            ("0s", Ok(0)),
            ("0", Ok(0)),
            ("", Err("it is empty")),
            ("5", Err("`5` has no unit")),
            ("s", Err("a number is missing before `s`")),
            ("1.5s", Err("its numbers must be whole")),
            ("-5s", Err("a number is missing before `-5s`")),
            ("5 s", Err("a space separates `5` from what follows")),
            ("30 seconds", Err("a space separates `30` from what follows")),
            ("30seconds", Err("`seconds` is not one of the units d, h, m, s, ms, us")),
            ("1m 30", Err("a number is missing before ` 30`")),
            ("5sec", Err("`sec` is not one of the units d, h, m, s, ms, us")),
            ("30s1m", Err("its units go from the longest to the shortest, each once")),
            ("5s5s", Err("its units go from the longest to the shortest, each once")),
            ("99999999999999999999s", Err("it is longer than 3650 days")),
            ("4000d", Err("it is longer than 3650 days")),
        ];
        for (text, expected) in cases {
            let read = Duration::read(text).map(|duration| duration.0.as_millis());
            assert_eq!(read, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_was_meant_is_said_in_the_right_form() {
        for (text, expected) in [
            ("30 seconds", Some("30s")),
            ("30seconds", Some("30s")),
            ("1 Hour, 30 minutes", Some("1h30m")),
            ("1.5s", Some("1s500ms")),
            ("0.25 sec", Some("250ms")),
            ("500 µs", Some("500us")),
            ("5S", Some("5s")),
            ("2 days", Some("2d")),
            ("10_000 ms", Some("10s")),
            ("1m 30s", Some("1m30s")),
            ("30s1m", Some("1m30s")),
            ("soon", None),
            ("5 apples", None),
            ("1.2.3s", None),
            ("5", None),
            ("0 seconds", None),
            ("0.0000001s", None),
            ("99999999999999 days", None),
            ("-5s", None),
            ("", None),
        ] {
            assert_eq!(meant(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn off_is_no_limit() {
        assert_eq!(DurationOrOff::read("off"), Ok(DurationOrOff(None)));
        assert!(Duration::read("off").is_err());
    }
}
