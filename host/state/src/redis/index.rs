//! Listing the keys of a plugin.
//!
//! The names of values are HMACs, from which no key can be computed. So the server has, for each plugin, an index: a
//! hash from the names of values to their spaces and keys. These are sealed (AES-256-GCM) under a key that is derived
//! from the fleet's secret, with the name of the value as associated data. Who reads the server learns no key, and an
//! entry that was moved to another name is not believed.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use redis::{FromRedisValue, Value};
use witgate_config::model::Secret;

/// Entries that one page reads; the server may return somewhat more.
pub(super) const ENTRIES: usize = 100;

/// The most entries of a page that are believed.
const MOST: usize = 4 * ENTRIES + 1024;

/// The longest entry of an index that is read: space and key have at most 1 KiB together.
const LONGEST: usize = 2 << 10;

/// The keys that seal the entries of indexes, one for each secret of the fleet.
pub(super) struct Seals {
    keys: Vec<RandomizedNonceKey>,
}

/// 32 bytes of a derived key.
struct KeyBytes;

impl hkdf::KeyType for KeyBytes {
    fn len(&self) -> usize {
        32
    }
}

impl Seals {
    /// Derives the keys.
    pub(super) fn derive(secrets: &[Secret]) -> Seals {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"witgate");
        let derive = |secret: &Secret| {
            let mut bytes = [0; 32];
            let pseudorandom = salt.extract(secret.bytes());
            let expanded = pseudorandom.expand(&[b"state store index"], KeyBytes);
            let filled = expanded.and_then(|expanded| expanded.fill(&mut bytes));
            filled.expect("RFC 5869 allows 255 times the length of the hash, and this is once");
            RandomizedNonceKey::new(&AES_256_GCM, &bytes).expect("a key of AES-256 has 32 bytes")
        };
        Seals { keys: secrets.iter().map(derive).collect() }
    }

    /// The entry of a value with this name, sealed under the first secret.
    pub(super) fn seal(&self, name: &str, space: &str, key: &str) -> Vec<u8> {
        let mut text = (space.len() as u64).to_le_bytes().to_vec();
        text.extend_from_slice(space.as_bytes());
        text.extend_from_slice(key.as_bytes());
        let Some(first) = self.keys.first() else { return Vec::new() };
        match first.seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut text) {
            Ok(nonce) => [&nonce.as_ref()[..], &text].concat(),
            // Without an entry the value is not listed.
            Err(_) => Vec::new(),
        }
    }

    /// The space and the key of an entry; `None` if it was not sealed under this secret for this name.
    pub(super) fn open(&self, secret: usize, name: &str, mut sealed: Vec<u8>) -> Option<(String, String)> {
        if sealed.len() > LONGEST {
            return None;
        }
        let (nonce, text) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.keys.get(secret)?.open_in_place(nonce, Aad::from(name.as_bytes()), text).ok()?;
        let (length, rest) = text.split_first_chunk()?;
        let (space, key) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Some((text(space)?, text(key)?))
    }
}

/// The position in a listing: in the index of which secret, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) secret: usize,
    pub(super) cursor: u64,
}

impl Position {
    /// Reads a position that was handed out before; `None` if the text is no position.
    pub(super) fn read(text: Option<&str>) -> Option<Position> {
        let Some(text) = text else { return Some(Position { secret: 0, cursor: 0 }) };
        let (secret, cursor) = text.split_once('.')?;
        Some(Position { secret: secret.parse().ok()?, cursor: cursor.parse().ok()? })
    }

    /// Where the next page begins; `None` after the last.
    pub(super) fn next(self, cursor: u64, secrets: usize) -> Option<String> {
        let next = match cursor {
            0 => Position { secret: self.secret + 1, cursor: 0 },
            cursor => Position { cursor, ..self },
        };
        (next.secret < secrets).then(|| format!("{}.{}", next.secret, next.cursor))
    }
}

/// The next cursor, and names with sealed entries.
pub(super) type IndexPage = (u64, Vec<(String, Vec<u8>)>);

/// A page of an index as the script returns it: the next cursor, and names with sealed entries. `None` if it does not
/// have that form.
pub(super) fn parse(answer: Value) -> Option<IndexPage> {
    let mut parts = Vec::<Vec<u8>>::from_redis_value(answer).ok()?.into_iter();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    if parts.next()? != b"page" || parts.len() > 1 + 2 * MOST {
        return None;
    }
    let cursor = text(parts.next()?)?.parse().ok()?;
    let mut entries = Vec::with_capacity(parts.len() / 2);
    while let Some(name) = parts.next() {
        entries.push((text(name)?, parts.next()?));
    }
    Some((cursor, entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seals(secrets: &[&str]) -> Seals {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(secret.as_bytes())).collect();
        Seals::derive(&secrets)
    }

    #[test]
    fn an_entry_is_opened_only_as_it_was_sealed() {
        let both = seals(&["new", "old"]);
        let sealed = both.seal("name", "ab", "c");
        assert!(!String::from_utf8_lossy(&sealed).contains("ab"));
        assert_eq!(both.open(0, "name", sealed.clone()), Some(("ab".to_owned(), "c".to_owned())));
        assert_eq!(seals(&["new"]).open(0, "other", sealed.clone()), None, "it stands at another name");
        assert_eq!(both.open(1, "name", sealed.clone()), None, "that is another secret");
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(both.open(0, "name", changed), None);
        for short in 0..sealed.len() {
            assert_eq!(both.open(0, "name", sealed[..short].to_vec()), None);
        }
    }

    #[test]
    fn a_position_is_read_as_it_was_told() {
        let begin = Position::read(None).expect("the beginning");
        assert_eq!(begin.next(7, 2).as_deref(), Some("0.7"));
        assert_eq!(begin.next(0, 2).as_deref(), Some("1.0"));
        assert_eq!(begin.next(0, 1), None);
        assert_eq!(Position::read(Some("1.7")), Some(Position { secret: 1, cursor: 7 }));
        for bad in ["", "1", "1.", "a.1", "1.2.3"] {
            assert_eq!(Position::read(Some(bad)), None, "{bad}");
        }
    }

    #[test]
    fn a_page_of_another_form_is_not_believed() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let page = |parts: &[&str]| parse(Value::Array(parts.iter().map(|part| text(part)).collect()));
        assert_eq!(page(&["page", "7", "n", "s"]), Some((7, vec![("n".to_owned(), b"s".to_vec())])));
        for bad in [&[][..], &["page"], &["ok", "7"], &["page", "x"], &["page", "0", "n"]] {
            assert_eq!(page(bad), None, "{bad:?}");
        }
    }
}
