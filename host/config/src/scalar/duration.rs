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
            ("1.5s", Err("`1` has no unit")),
            ("-5s", Err("a number is missing before `-5s`")),
            ("5 s", Err("`5` has no unit")),
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
    fn off_is_no_limit() {
        assert_eq!(DurationOrOff::read("off"), Ok(DurationOrOff(None)));
        assert!(Duration::read("off").is_err());
    }
}
