//! Signatures of Stripe: `t=TIME,v1=SIGNATURE`, with one or several signatures of `TIME.BODY`.

use std::time::Duration;

use witgate_sdk::clock;
use witgate_sdk::crypto::{self, Hash};

use crate::encoding::Encoding;

/// The most signatures that are checked in one header; Stripe sends two while a secret is rotated.
const SIGNATURES: usize = 5;

/// Whether the header holds a signature of the body by one of the secrets, whose time is near enough.
pub(crate) fn is_signed(value: &str, body: &[u8], secrets: &[String], tolerance: Duration) -> bool {
    let parts = || value.split(',').filter_map(|part| part.trim().split_once('='));
    let mut times = parts().filter(|(name, _)| *name == "t").map(|(_, time)| time);
    let (Some(time), None) = (times.next(), times.next()) else { return false };
    let Ok(seconds) = time.parse::<u64>() else { return false };
    if clock::unix_seconds().abs_diff(seconds) > tolerance.as_secs() {
        return false;
    }
    let signed = [time.as_bytes(), b".", body].concat();
    let tags: Vec<String> = secrets
        .iter()
        .map(|secret| Encoding::Hex.encode(&crypto::hmac(Hash::Sha256, secret, &signed)))
        .collect();
    let signatures = parts().filter(|(name, _)| *name == "v1").take(SIGNATURES);
    let fitting = signatures.map(|(_, signature)| {
        let signature = signature.to_ascii_lowercase();
        tags.iter().filter(|tag| crypto::equal(tag, &signature)).count()
    });
    fitting.sum::<usize>() > 0
}
