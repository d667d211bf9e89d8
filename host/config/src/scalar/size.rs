//! Amounts of bytes: `4096`, `"64KB"`, `"1MiB"`.

use super::Scalar;

/// An amount of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    /// The size of something in memory.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

impl Scalar for Size {
    const FORMAT: &'static str = "witgate-size";
    const WHAT: &'static str = "a size such as \"64KB\", \"1MiB\" or a number of bytes";
    const INTEGER: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if digits == 0 {
            return Err("it does not begin with a number".to_owned());
        }
        let unit = unit.trim_start();
        if unit.starts_with(['.', ',']) {
            return Err("its number must be whole".to_owned());
        }
        let scale = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, scale)| scale);
        let scale =
            scale.ok_or_else(|| format!("`{unit}` is not one of the units B, KB, MB, GB, KiB, MiB, GiB"))?;
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*scale));
        // TOML's integers end here too, and sums of two sizes must not overflow.
        bytes.filter(|bytes| *bytes <= i64::MAX as u64).map(Self).ok_or_else(|| "it is too large".to_owned())
    }

    fn meant(text: &str) -> Option<String> {
        let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, name) = text.split_at(end);
        let name = name.trim().to_lowercase();
        let unit = OTHER_NAMES.iter().find(|(_, names)| names.contains(&&*name));
        let unit = unit.map(|(unit, _)| *unit).or_else(|| {
            UNITS
                .iter()
                .map(|(unit, _)| *unit)
                .find(|unit| !unit.is_empty() && unit.eq_ignore_ascii_case(&name))
        })?;
        in_unit(number, unit)
    }
}

/// Other names of the units. A letter alone means powers of 1024, as in the configurations of other servers.
const OTHER_NAMES: &[(&str, &[&str])] = &[
    ("B", &["byte", "bytes"]),
    ("KB", &["kilobyte", "kilobytes"]),
    ("MB", &["megabyte", "megabytes"]),
    ("GB", &["gigabyte", "gigabytes"]),
    ("KiB", &["k", "ki", "kibibyte", "kibibytes"]),
    ("MiB", &["m", "mi", "mebibyte", "mebibytes"]),
    ("GiB", &["g", "gi", "gibibyte", "gibibytes"]),
];

/// The number, which may have a decimal fraction, as a whole number of this unit or of the next smaller one.
fn in_unit(number: &str, unit: &str) -> Option<String> {
    if number.parse::<u64>().is_ok() {
        return Some(format!("{number}{unit}"));
    }
    let (smaller, factor) = match unit {
        "GiB" => ("MiB", 1024),
        "MiB" => ("KiB", 1024),
        "KiB" => ("B", 1024),
        "GB" => ("MB", 1000),
        "MB" => ("KB", 1000),
        "KB" => ("B", 1000),
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.')?;
    let parts = fraction.parse::<u64>().ok()?.checked_mul(factor)?;
    let tenth = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let amount = whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(parts.div_ceil(tenth))?;
    Some(format!("{amount}{smaller}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_decimal_and_binary_units() {
        let cases = [
            ("0", Ok(0)),
            ("4096", Ok(4096)),
            ("64KB", Ok(64_000)),
            ("64 kib", Ok(65_536)),
            ("1MiB", Ok(1_048_576)),
            ("2GB", Ok(2_000_000_000)),
            ("MiB", Err("it does not begin with a number")),
            ("-1", Err("it does not begin with a number")),
            ("1.5MiB", Err("its number must be whole")),
            ("5 megabytes", Err("`megabytes` is not one of the units B, KB, MB, GB, KiB, MiB, GiB")),
            ("99999999999GiB", Err("it is too large")),
        ];
        for (text, expected) in cases {
            assert_eq!(Size::read(text).map(|size| size.0), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_was_meant_is_said_in_the_right_form() {
        for (text, expected) in [
            ("5 megabytes", Some("5MB")),
            ("64k", Some("64KiB")),
            ("64Mi", Some("64MiB")),
            ("1.5MiB", Some("1536KiB")),
            ("0.5 gb", Some("500MB")),
            ("2 Bytes", Some("2B")),
            ("MiB", None),
            ("1.5B", None),
            ("1.2.3MiB", None),
            ("5 apples", None),
            ("-1", None),
            ("4096", None),
        ] {
            assert_eq!(Size::meant(text).as_deref(), expected, "{text}");
        }
    }
}
