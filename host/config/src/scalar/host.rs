//! Host names, and the patterns by which routes match them.

use std::net::IpAddr;

use super::Scalar;

/// A host that a route matches: exact, or with `*` for its first label. In lower case, without port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPattern(pub(crate) String);

impl Scalar for HostPattern {
    const FORMAT: &'static str = "witgate-host";
    const WHAT: &'static str = "a host such as \"api.example.com\" or \"*.example.com\"";

    fn read(text: &str) -> Result<Self, String> {
        let host = text.to_ascii_lowercase();
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if bracketed
            .unwrap_or(&host)
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_ipv6() == bracketed.is_some())
        {
            return Ok(Self(host));
        }
        if host.starts_with(['~', '^']) {
            return Err("regular expressions are not supported: `*` stands for the first label".to_owned());
        }
        if host.contains("://") || host.contains('/') {
            return Err("it is a URL; only its host goes here".to_owned());
        }
        if host.contains(':') {
            return Err("a host is matched without its port".to_owned());
        }
        let name = host.strip_prefix("*.").unwrap_or(&host);
        if name.contains('*') {
            return Err("`*` stands only for the whole first label".to_owned());
        }
        check_name(name)?;
        Ok(Self(host))
    }
}

/// One host: a name or an IP address (IPv6 without brackets), in lower case, without port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostName(pub(crate) String);

impl Scalar for HostName {
    const FORMAT: &'static str = "witgate-host-name";
    const WHAT: &'static str = "a host name such as \"gateway.internal\"";

    fn read(text: &str) -> Result<Self, String> {
        if text.parse::<IpAddr>().is_err() {
            check_name(text)?;
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// Checks a host name (RFC 1123 section 2.1). Underscores are accepted too, because container networks use them.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if !letters {
        return Err(format!("`{name}` is not a host name: letters, digits, hyphens and dots"));
    }
    let labels = name.strip_suffix('.').unwrap_or(name).split('.');
    for label in labels {
        if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
            return Err(format!(
                "`{name}` is not a host name: a label has 1 to 63 characters and no hyphen at its ends"
            ));
        }
    }
    if name.len() > 254 { Err("a host name has at most 253 characters".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_exact_or_wild_in_front() {
        let cases = [
            ("API.example.com", Ok("api.example.com")),
            ("*.example.com", Ok("*.example.com")),
            ("10.0.0.1", Ok("10.0.0.1")),
            ("[::1]", Ok("[::1]")),
            ("localhost", Ok("localhost")),
            ("a.example:8080", Err("a host is matched without its port")),
            ("https://a.example", Err("it is a URL; only its host goes here")),
            ("a.*.example", Err("`*` stands only for the whole first label")),
            ("*", Err("`*` stands only for the whole first label")),
            ("~^www\\.", Err("regular expressions are not supported: `*` stands for the first label")),
            ("", Err("the host is missing")),
            (
                "a..b",
                Err("`a..b` is not a host name: a label has 1 to 63 characters and no hyphen at its ends"),
            ),
            (
                "b\u{fc}cher.example",
                Err("`b\u{fc}cher.example` is not a host name: letters, digits, hyphens and dots"),
            ),
        ];
        for (text, expected) in cases {
            let read = HostPattern::read(text).map(|pattern| pattern.0);
            assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_host_name_is_one_host() {
        assert_eq!(HostName::read("Gateway.Internal"), Ok(HostName("gateway.internal".to_owned())));
        assert_eq!(HostName::read("::1"), Ok(HostName("::1".to_owned())));
        for wrong in ["", "*.internal", "gateway:9900", "http://gateway", "[::1]"] {
            assert!(HostName::read(wrong).is_err(), "{wrong}");
        }
    }
}
