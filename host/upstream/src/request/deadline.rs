//! Deadlines that come with a request and are forwarded with it.
//!
//! A client may say how long it will wait: by `grpc-timeout` in a gRPC request, or by the upstream's
//! `deadline_header` in milliseconds. It can only shorten the deadline of the route. The endpoint is told the time
//! left when the request is sent.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::grpc;

static GRPC_TIMEOUT: HeaderName = grpc::GRPC_TIMEOUT;

/// The units of `grpc-timeout` in nanoseconds, the finest first ("TimeoutUnit" of gRPC over HTTP/2).
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// The most digits of `TimeoutValue`.
const DIGITS: usize = 8;

/// The time left, in the form that is sent to the endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Allowance<'a> {
    pub(crate) deadline: Instant,
    pub(crate) grpc: bool,
    /// Whether the caller has set the deadline, and not the gateway.
    pub(crate) by_caller: bool,
    pub(crate) header: Option<&'a HeaderName>,
}

/// Whether the request to the upstream is gRPC. A stage may have made it so.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    grpc::is_grpc(headers)
}

/// How long the client says it will wait.
///
/// # Errors
/// `BadRequest` if the value is invalid, because a guess could be worse for the client than the refusal.
pub(crate) fn asked_for(
    headers: &HeaderMap,
    grpc: bool,
    header: Option<&HeaderName>,
) -> Result<Option<Duration>, Fault> {
    let malformed = |name: &HeaderName| {
        Fault::new(FaultKind::BadRequest).detail(format!("`{name}` is no time limit")).unsent()
    };
    let by_grpc = match grpc.then(|| headers.get(&GRPC_TIMEOUT)).flatten() {
        Some(value) => Some(parse_grpc(value.as_bytes()).ok_or_else(|| malformed(&GRPC_TIMEOUT))?),
        None => None,
    };
    let by_header = match header.and_then(|name| Some((name, headers.get(name)?))) {
        Some((name, value)) => Some(parse_millis(value.as_bytes()).ok_or_else(|| malformed(name))?),
        None => None,
    };
    Ok(by_grpc.into_iter().chain(by_header).min())
}

impl Allowance<'_> {
    /// The headers that tell the endpoint the time left, in place of those of the client.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&HeaderName, HeaderValue)> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let grpc = || Some((&GRPC_TIMEOUT, HeaderValue::from_str(&format_grpc(left)).ok()?));
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let by_grpc = if self.grpc { grpc() } else { None };
        by_grpc.into_iter().chain(self.header.map(|name| (name, HeaderValue::from(millis))))
    }

    /// Whether the gateway sets this header itself.
    pub(crate) fn is_own(&self, name: &HeaderName) -> bool {
        (self.grpc && *name == GRPC_TIMEOUT) || self.header == Some(name)
    }
}

/// Accepts one to eight digits and a unit, and nothing else.
fn parse_grpc(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let (_, nanos) = UNITS.iter().find(|(name, _)| name == unit)?;
    let amount = parse_digits(digits, DIGITS)?;
    // 10^8 hours are more nanoseconds than 64 bits can hold, hence the saturating multiplication.
    Some(Duration::from_nanos(*nanos).saturating_mul(u32::try_from(amount).ok()?))
}

fn parse_millis(value: &[u8]) -> Option<Duration> {
    parse_digits(value, 12).map(Duration::from_millis)
}

fn parse_digits(digits: &[u8], most: usize) -> Option<u64> {
    let good = (1..=most).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    good.then(|| digits.iter().fold(0, |amount, digit| amount * 10 + u64::from(digit - b'0')))
}

/// In the finest unit for which eight digits suffice, rounded down, so that the endpoint never gets more time than
/// there is.
fn format_grpc(left: Duration) -> String {
    let nanos = left.as_nanos();
    let most = 10u128.pow(DIGITS as u32) - 1;
    let fitting = UNITS.iter().find(|(_, unit)| nanos / u128::from(*unit) <= most);
    let (name, unit) = fitting.unwrap_or(&UNITS[UNITS.len() - 1]);
    format!("{}{}", (nanos / u128::from(*unit)).min(most), char::from(*name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<Duration> {
        parse_grpc(text.as_bytes())
    }

    #[test]
    fn grpc_timeouts_are_read_strictly() {
        let cases = [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("0u", Some(Duration::ZERO)),
            ("00000001n", Some(Duration::from_nanos(1))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("1h", None),
            (" 1S", None),
            ("1S ", None),
            ("+1S", None),
            ("-1S", None),
            ("1.5S", None),
            ("1mS", None),
            ("100000000n", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_shortest_of_what_the_client_says_counts_and_nonsense_is_refused() {
        let name = HeaderName::from_static("x-timeout");
        let hear = |grpc: &'static str, own: &'static str, is_grpc: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(&GRPC_TIMEOUT, HeaderValue::from_static(grpc));
            headers.insert(name.clone(), HeaderValue::from_static(own));
            asked_for(&headers, is_grpc, Some(&name)).map_err(|fault| fault.kind)
        };
        let millis = |millis| Ok(Some(Duration::from_millis(millis)));
        assert_eq!(hear("1S", "50", true), millis(50));
        assert_eq!(hear("10m", "50", true), millis(10));
        assert_eq!(hear("10m", "50", false), millis(50), "only gRPC has that header");
        assert_eq!(hear("ten", "50", true), Err(FaultKind::BadRequest));
        assert_eq!(hear("1S", "5s", true), Err(FaultKind::BadRequest));
        assert_eq!(asked_for(&HeaderMap::new(), true, Some(&name)).unwrap(), None);
    }

    proptest! {
        #[test]
        fn what_is_told_is_what_is_left_but_never_more(nanos in 0u64..) {
            let left = Duration::from_nanos(nanos);
            let told = format_grpc(left);
            let read = parse(&told).unwrap();
            prop_assert!(read <= left, "{told} is more than {left:?}");
            // Eight digits: a coarser unit is only taken when the finer one has no room.
            prop_assert!(left - read <= left / 1000, "{told} loses too much of {left:?}");
        }

        #[test]
        fn what_parses_is_told_again_without_loss(amount in 0u32..100_000_000, unit in 0usize..6) {
            let text = format!("{amount}{}", char::from(UNITS[unit].0));
            let read = parse(&text).unwrap();
            prop_assert_eq!(parse(&format_grpc(read)).unwrap(), read);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let _ = parse_grpc(&bytes);
        }
    }
}
