//! SPIFFE identities (the specification "The SPIFFE Identity and Verifiable Identity Document") and patterns of callers.

use super::Scalar;

/// The longest SPIFFE id in bytes (section 2.3 of the specification).
const LONGEST_ID: usize = 2048;
/// The longest name of a trust domain in bytes (section 2.3).
const LONGEST_DOMAIN: usize = 255;

/// The parts of a SPIFFE id: the trust domain and the path, which is empty or begins with `/`.
///
/// # Errors
/// Why the text is no SPIFFE id, as the end of a sentence.
pub fn parts_of_spiffe_id(text: &str) -> Result<(&str, &str), String> {
    let Some(rest) = text.strip_prefix("spiffe://") else {
        return Err(format!("`{text}` does not begin with `spiffe://`"));
    };
    if text.len() > LONGEST_ID {
        return Err(format!("it is longer than {LONGEST_ID} bytes"));
    }
    let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    check_domain(domain)?;
    for segment in path.split('/').skip(1) {
        let letters =
            segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        if segment.is_empty() || matches!(segment, "." | "..") || !letters {
            return Err(format!(
                "`{segment}` is no segment of a SPIFFE id: letters, digits, `-`, `.` and `_`, and neither `.` nor `..`"
            ));
        }
    }
    Ok((domain, path))
}

fn check_domain(domain: &str) -> Result<(), String> {
    let letters = domain.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'));
    if domain.is_empty() || domain.len() > LONGEST_DOMAIN || !letters {
        return Err(format!(
            "`{domain}` is no trust domain: 1 to {LONGEST_DOMAIN} lower-case letters, digits, `-`, `.` and `_`"
        ));
    }
    Ok(())
}

/// The name of a trust domain: `"prod.example"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustDomain(pub String);

impl Scalar for TrustDomain {
    const FORMAT: &'static str = "witgate-trust-domain";
    const WHAT: &'static str = "the name of a SPIFFE trust domain such as \"prod.example\"";

    fn read(text: &str) -> Result<Self, String> {
        check_domain(text).map(|()| Self(text.to_owned()))
    }

    fn meant(text: &str) -> Option<String> {
        let lower = text.strip_prefix("spiffe://").unwrap_or(text).to_ascii_lowercase();
        check_domain(&lower).is_ok().then_some(lower)
    }
}

/// SPIFFE ids: one (`"spiffe://prod.example/billing"`), or all below a path or in a trust domain (`"…/*"`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpiffePattern {
    /// The id, or what all ids begin with, with the slash at its end.
    id: String,
    /// Whether all ids that begin so are meant.
    prefix: bool,
}

impl SpiffePattern {
    /// Whether the pattern means this id.
    pub fn matches(&self, id: &str) -> bool {
        if self.prefix { id.len() > self.id.len() && id.starts_with(&self.id) } else { id == self.id }
    }
}

impl Scalar for SpiffePattern {
    const FORMAT: &'static str = "witgate-spiffe-pattern";
    const WHAT: &'static str = "a SPIFFE id such as \"spiffe://prod.example/billing\", or all below one: \"spiffe://prod.example/*\"";

    fn read(text: &str) -> Result<Self, String> {
        let below = text.strip_suffix("/*");
        parts_of_spiffe_id(below.unwrap_or(text))?;
        let id = below.map_or_else(|| text.to_owned(), |above| format!("{above}/"));
        Ok(Self { id, prefix: below.is_some() })
    }
}

/// Callers, in `allow` and `deny`: those with a SPIFFE id in their verified certificate, or those with a subject, whoever
/// established it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerPattern {
    /// Every caller whose identity is known: `"*"`.
    Known,
    /// SPIFFE ids that a verified client certificate contains.
    Spiffe(SpiffePattern),
    /// A subject.
    Subject(String),
}

impl Scalar for CallerPattern {
    const FORMAT: &'static str = "witgate-caller";
    const WHAT: &'static str = "a SPIFFE id (\"spiffe://prod.example/billing\", \"spiffe://prod.example/*\"), a subject, or \"*\" for every known caller";

    fn read(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Known);
        }
        if text.starts_with("spiffe:") {
            return SpiffePattern::read(text).map(Self::Spiffe);
        }
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        if text.contains('*') {
            return Err("`*` stands alone, or at the end of a SPIFFE id after a slash".to_owned());
        }
        Ok(Self::Subject(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids_are_checked() {
        let cases = [
            ("spiffe://prod.example/billing", Some(("prod.example", "/billing"))),
            ("spiffe://prod.example", Some(("prod.example", ""))),
            ("spiffe://a_b-1/ns/Default/sa/web", Some(("a_b-1", "/ns/Default/sa/web"))),
            ("spiffe://prod.example/", None),
            ("spiffe://prod.example//a", None),
            ("spiffe://prod.example/a/", None),
            ("spiffe://prod.example/a/../b", None),
            ("spiffe://prod.example/a%20b", None),
            ("spiffe://Prod.example/a", None),
            ("spiffe://prod.example:443/a", None),
            ("spiffe://user@prod.example/a", None),
            ("spiffe://prod.example/a?b", None),
            ("spiffe://prod.example/a#b", None),
            ("SPIFFE://prod.example/a", None),
            ("spiffe:///a", None),
            ("https://prod.example/a", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parts_of_spiffe_id(text).ok(), expected, "{text}");
        }
        assert!(parts_of_spiffe_id(&format!("spiffe://d/{}", "a".repeat(2048))).is_err());
        assert!(parts_of_spiffe_id(&format!("spiffe://{}/a", "d".repeat(256))).is_err());
    }

    #[test]
    fn a_pattern_means_one_id_or_all_below_it() {
        let matches = |pattern: &str, id: &str| SpiffePattern::read(pattern).expect("a pattern").matches(id);
        assert!(matches("spiffe://d/a", "spiffe://d/a"));
        assert!(!matches("spiffe://d/a", "spiffe://d/a/b"));
        assert!(matches("spiffe://d/a/*", "spiffe://d/a/b/c"));
        assert!(matches("spiffe://d/*", "spiffe://d/a"));
        for other in ["spiffe://d/a", "spiffe://d/ab", "spiffe://d/a/", "spiffe://e/a/b"] {
            assert!(!matches("spiffe://d/a/*", other), "{other}");
        }
        for wrong in ["spiffe://d*", "spiffe://*/a", "spiffe://d/a*", "spiffe://d/*/a", "d/a"] {
            assert!(SpiffePattern::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_caller_is_a_spiffe_id_a_subject_or_anybody_who_is_known() {
        assert_eq!(CallerPattern::read("*"), Ok(CallerPattern::Known));
        assert_eq!(CallerPattern::read("alice"), Ok(CallerPattern::Subject("alice".to_owned())));
        assert!(matches!(CallerPattern::read("spiffe://d/*"), Ok(CallerPattern::Spiffe(_))));
        for wrong in ["", "ali*", "spiffe://", "spiffe:d/a"] {
            assert!(CallerPattern::read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(TrustDomain::meant("spiffe://Prod.Example"), Some("prod.example".to_owned()));
    }
}
