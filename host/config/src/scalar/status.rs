//! Statuses of responses: `200`, `"200-299"`.

use super::Scalar;

/// One status, or an inclusive range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StatusRange(pub(crate) u16, pub(crate) u16);

impl Scalar for StatusRange {
    const FORMAT: &'static str = "witgate-status-range";
    const WHAT: &'static str = "a status such as 204, or a range such as \"200-299\"";
    const INTEGER: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (status(first)?, status(last)?);
        if first > last { Err("its end is before its beginning".to_owned()) } else { Ok(Self(first, last)) }
    }
}

fn status(text: &str) -> Result<u16, String> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && (100..600).contains(number));
    number.ok_or_else(|| format!("`{text}` is no status from 100 to 599"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_range_of_one() {
        assert_eq!(StatusRange::read("204"), Ok(StatusRange(204, 204)));
        assert_eq!(StatusRange::read("200-299"), Ok(StatusRange(200, 299)));
        for wrong in ["", "99", "600", "2xx", "0200", "+20", "299-200", "200-", "-200", "200-299-300"] {
            assert!(StatusRange::read(wrong).is_err(), "{wrong}");
        }
    }
}
