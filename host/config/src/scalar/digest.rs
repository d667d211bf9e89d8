//! Digests that pin a file.

use super::Scalar;

/// The SHA-256 of a file, written as `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl Scalar for Digest {
    const FORMAT: &'static str = "witgate-digest";
    const WHAT: &'static str = "a digest, \"sha256:\" and 64 hexadecimal digits";

    fn read(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").ok_or("it does not begin with `sha256:`")?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err("what follows is not 64 hexadecimal digits".to_owned());
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = pair
                .iter()
                .fold(0, |byte, digit| byte << 4 | char::from(*digit).to_digit(16).unwrap_or(0) as u8);
        }
        Ok(Self(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sixty_four_digits() {
        let text = format!("sha256:{}", "0aF1".repeat(16));
        assert_eq!(Digest::read(&text), Ok(Digest([0x0a, 0xf1].repeat(16).try_into().expect("32 bytes"))));
        assert!(Digest::read(&text[..70]).is_err());
        assert!(Digest::read(&text.replace('F', "g")).is_err());
        assert!(Digest::read("md5:00").is_err());
    }
}
