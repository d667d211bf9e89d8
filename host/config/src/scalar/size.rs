//! Amounts of bytes: `4096`, `"64KB"`, `"1MiB"`.

use super::Scalar;

/// An amount of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    /// The size of something in memory.
    pub(crate) fn in_memory(self) -> usize {
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
        let scale = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, scale)| scale);
        let scale =
            scale.ok_or_else(|| format!("`{unit}` is not one of the units B, KB, MB, GB, KiB, MiB, GiB"))?;
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*scale));
        // TOML's integers end here too, and sums of two sizes must not overflow.
        bytes.filter(|bytes| *bytes <= i64::MAX as u64).map(Self).ok_or_else(|| "it is too large".to_owned())
    }
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
            ("1.5MiB", Err("`.5MiB` is not one of the units B, KB, MB, GB, KiB, MiB, GiB")),
            ("99999999999GiB", Err("it is too large")),
        ];
        for (text, expected) in cases {
            assert_eq!(Size::read(text).map(|size| size.0), expected.map_err(str::to_owned), "{text}");
        }
    }
}
