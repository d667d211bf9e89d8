//! The wait before a request is sent again.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use witgate_config::model::Backoff;

/// The wait before retry number `number`, counted from 1. It has full jitter: it is anything between 0 and a bound
/// that doubles with each retry, so that requests that failed together are not sent again together. `random` is
/// between 0 and 1.
pub(crate) fn wait(backoff: &Backoff, number: u32, random: f64) -> Duration {
    let doubled = 1u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX);
    backoff.base.saturating_mul(doubled).min(backoff.max).mul_f64(random.clamp(0.0, 1.0))
}

/// The wait that a response asks for by `Retry-After` (RFC 9110 section 10.2.3), in seconds or as a date. `None`
/// for any other value.
pub(crate) fn asked_for(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_millis(25), max: Duration::from_millis(250) };

    #[test]
    fn the_bound_doubles_up_to_the_longest() {
        let bounds = [1, 2, 3, 4, 5, 40, u32::MAX].map(|number| wait(&BACKOFF, number, 1.0).as_millis());
        assert_eq!(bounds, [25, 50, 100, 200, 250, 250, 250]);
        assert_eq!(wait(&BACKOFF, 3, 0.0), Duration::ZERO);
        assert_eq!(wait(&BACKOFF, 3, 0.25), Duration::from_millis(25));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let cases = [
            ("2", Some(2)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ];
        for (value, seconds) in cases {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            assert_eq!(asked_for(&headers, now), seconds.map(Duration::from_secs), "{value:?}");
        }
        assert_eq!(asked_for(&HeaderMap::new(), now), None);
    }
}
