//! Cookies of requests (RFC 6265 section 5.4).

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// The value of a cookie. If several have this name, the first, which is that of the longest path (RFC 6265
/// section 5.4).
pub fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let fields = headers.get_all(COOKIE).iter();
    fields.flat_map(|field| crumbs(field.as_bytes())).find_map(|crumb| value_of(crumb, name))
}

/// A `Cookie` field without the cookies of this name; `None` if no others are left.
pub fn without(field: &HeaderValue, name: &str) -> Option<HeaderValue> {
    if crumbs(field.as_bytes()).all(|crumb| value_of(crumb, name).is_none()) {
        return Some(field.clone());
    }
    let kept: Vec<&[u8]> = crumbs(field.as_bytes())
        .filter(|crumb| value_of(crumb, name).is_none() && !crumb.is_empty())
        .collect();
    // Parts of a valid value are valid, so the conversion cannot fail.
    if kept.is_empty() { None } else { HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok() }
}

fn crumbs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn value_of<'a>(crumb: &'a [u8], name: &str) -> Option<&'a [u8]> {
    crumb.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("ab=1;b=2 ; empty="));
        headers.append(COOKIE, HeaderValue::from_static("c=x=y; b=3"));
        for (name, value) in [("ab", Some("1")), ("b", Some("2")), ("c", Some("x=y")), ("empty", Some(""))] {
            assert_eq!(find(&headers, name), value.map(str::as_bytes), "{name}");
        }
        assert_eq!((find(&headers, "a"), find(&headers, "B")), (None, None));
    }

    #[test]
    fn a_cookie_is_taken_out_and_the_others_stay() {
        let taken = |field: &'static str| without(&HeaderValue::from_static(field), "b");
        assert_eq!(taken("a=1; b=2; c=3").unwrap(), "a=1; c=3");
        assert_eq!(taken("b=2"), None);
        assert_eq!(taken("b=2; b=3"), None);
        assert_eq!(taken("a=1;bb=2").unwrap(), "a=1;bb=2", "untouched where there is nothing to take");
    }
}
