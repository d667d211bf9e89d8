//! APR1, the form of `htpasswd -m`: the MD5 scheme of FreeBSD's crypt(3) with `$apr1$` in place of `$1$`. A thousand rounds of
//! MD5, which take less than a millisecond. Written here because no well-kept library has it.

use md5::{Digest, Md5};

/// What a hash begins with.
pub(super) const PREFIX: &str = "$apr1$";

/// The alphabet of the encoding, six bits for each letter.
const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The most bytes of a salt.
const SALT: usize = 8;

/// Letters of an encoded digest.
const ENCODED: usize = 22;

/// Salt and encoded digest of a hash; `None` if it is malformed.
pub(super) fn parts(text: &str) -> Option<(&str, &str)> {
    let (salt, digest) = text.strip_prefix(PREFIX)?.split_once('$')?;
    let is_encoded = digest.len() == ENCODED && digest.bytes().all(|byte| LETTERS.contains(&byte));
    (!salt.is_empty() && salt.len() <= SALT && is_encoded).then_some((salt, digest))
}

/// The encoded digest of a password.
pub(super) fn hash(password: &[u8], salt: &str) -> String {
    let salt = salt.as_bytes();
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first = Md5::new().chain_update(password).chain_update(PREFIX).chain_update(salt);
    for chunk in password.chunks(inner.len()) {
        first.update(&inner[..chunk.len()]);
    }
    // One byte for each bit of the length, from the lowest: a zero for a one, the first letter for a zero.
    let mut length = password.len();
    while length > 0 {
        if length & 1 == 1 {
            first.update([0]);
        } else {
            first.update(&password[..1]);
        }
        length >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        let odd = round % 2 == 1;
        if odd {
            next.update(password);
        } else {
            next.update(digest);
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if odd {
            next.update(digest);
        } else {
            next.update(password);
        }
        digest = next.finalize();
    }
    encode(&digest)
}

/// Three bytes become four letters; which three is peculiar to the scheme.
fn encode(digest: &[u8]) -> String {
    let mut text = String::with_capacity(ENCODED);
    let mut write = |value: u32, letters: usize| {
        for place in 0..letters {
            text.push(char::from(LETTERS[(value >> (6 * place) & 0x3f) as usize]));
        }
    };
    for (high, middle, low) in [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)] {
        let value = |index: usize| u32::from(digest[index]);
        write(value(high) << 16 | value(middle) << 8 | value(low), 4);
    }
    write(u32::from(digest[11]), 2);
    text
}
