//! Verification of passwords against stored hashes.
//!
//! | form | begins with | bounds |
//! |---|---|---|
//! | bcrypt | `$2a$`, `$2b$`, `$2y$` | cost 4 to 14 |
//! | Argon2id (RFC 9106) | `$argon2id$` | at most 64 MiB, memory times passes at most 256 MiB, 4 lanes |
//! | APR1 (MD5) of `htpasswd` | `$apr1$` | |
//! | SHA-1 of `htpasswd` | `{SHA}` | |
//!
//! The last two are weak and accepted only because files with them exist. A verification takes up to about a second of CPU time,
//! so it runs on threads of its own ([`worker`]).

mod apr1;
pub(crate) mod worker;

use argon2::password_hash::PasswordHash;
use argon2::{Argon2, Params, PasswordVerifier};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The longest password, in bytes; no longer one matches. RFC 7617 allows any length.
const LONGEST: usize = 1024;

/// The longest stored hash, in bytes. That of Argon2id with the longest salt and output has fewer.
const LONGEST_HASH: usize = 512;

/// The highest cost of bcrypt: 2^14 rounds take about a second.
const BCRYPT_COST: u32 = 14;

/// The most memory of Argon2id, in KiB.
const ARGON2_MEMORY: u32 = 64 << 10;

/// The most memory of Argon2id times its passes, in KiB: about half a second.
const ARGON2_WORK: u64 = 256 << 10;

/// The most lanes of Argon2id. They are computed one after the other.
const ARGON2_LANES: u32 = 4;

/// A stored hash cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HashError {
    /// It has none of the known forms, or is malformed.
    Unknown,
    /// Its parameters exceed the bounds.
    TooCostly,
}

/// A stored hash whose form and bounds were checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StoredHash {
    form: Form,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bcrypt,
    Argon2id,
    Apr1,
    Sha1,
}

impl StoredHash {
    /// Checks a stored hash, which takes no time worth mentioning.
    ///
    /// # Errors
    /// It is malformed, or verifying it would cost too much.
    pub(crate) fn check(text: &str) -> Result<StoredHash, HashError> {
        if text.len() > LONGEST_HASH {
            return Err(HashError::Unknown);
        }
        let form = if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            check_bcrypt(text)?;
            Form::Bcrypt
        } else if text.starts_with("$argon2id$") {
            check_argon2(text)?;
            Form::Argon2id
        } else if text.starts_with(apr1::PREFIX) {
            apr1::parts(text).ok_or(HashError::Unknown)?;
            Form::Apr1
        } else {
            sha1(text).ok_or(HashError::Unknown)?;
            Form::Sha1
        };
        Ok(StoredHash { form, text: text.to_owned() })
    }

    /// Whether the password is the one that was hashed. Takes up to about a second.
    ///
    /// A password that is too long or contains a NUL never matches: programs in C write hashes of what is before the NUL.
    pub(crate) fn is_of(&self, password: &[u8]) -> bool {
        if password.len() > LONGEST || password.contains(&0) {
            return false;
        }
        match self.form {
            Form::Bcrypt => bcrypt::verify(password, &self.text).unwrap_or(false),
            Form::Argon2id => PasswordHash::new(&self.text)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
            Form::Apr1 => apr1::parts(&self.text).is_some_and(|(salt, expected)| {
                verify_slices_are_equal(apr1::hash(password, salt).as_bytes(), expected.as_bytes()).is_ok()
            }),
            Form::Sha1 => sha1(&self.text).is_some_and(|expected| {
                let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password);
                verify_slices_are_equal(digest.as_ref(), &expected).is_ok()
            }),
        }
    }
}

fn check_bcrypt(text: &str) -> Result<(), HashError> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| HashError::Unknown)?;
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    let is_well_formed = text.len() == 60
        && text.as_bytes()[4..6].iter().all(u8::is_ascii_digit)
        && text.as_bytes()[6] == b'$'
        && text.as_bytes()[7..].iter().all(is_base64);
    if !is_well_formed {
        return Err(HashError::Unknown);
    }
    match parts.get_cost() {
        0..4 => Err(HashError::Unknown),
        4..=BCRYPT_COST => Ok(()),
        _ => Err(HashError::TooCostly),
    }
}

fn check_argon2(text: &str) -> Result<(), HashError> {
    let hash = PasswordHash::new(text).map_err(|_| HashError::Unknown)?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(HashError::Unknown);
    }
    let parameters = Params::try_from(&hash).map_err(|_| HashError::Unknown)?;
    let work = u64::from(parameters.m_cost()) * u64::from(parameters.t_cost());
    let bounded =
        parameters.m_cost() <= ARGON2_MEMORY && work <= ARGON2_WORK && parameters.p_cost() <= ARGON2_LANES;
    if bounded { Ok(()) } else { Err(HashError::TooCostly) }
}

/// The digest of a hash in the form `{SHA}` and base64.
fn sha1(text: &str) -> Option<Vec<u8>> {
    let digest = STANDARD.decode(text.strip_prefix("{SHA}")?).ok()?;
    (digest.len() == digest::SHA1_OUTPUT_LEN).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl passwd -apr1`, `openssl dgst -sha1`, crypt(3), and the test program of the reference implementation of
    /// Argon2 (password `password`, salt `somesalt`).
    const HASHES: [(&str, &str); 7] = [
        ("myPassword", "$2y$04$abcdefghijklmnopqrstuuN2f4ZDSoR8/TAG80qUYDM9bRnmRm0Zy"),
        ("myPassword", "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/"),
        ("myPassword", "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE="),
        ("", "$apr1$abcdefgh$L.PT565ESX4Tp2bqNs7Ie."),
        ("a much longer password than sixteen bytes", "$apr1$x$eVg/QpGhpgNiDA46nGsav0"),
        ("myPassword", "$2b$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW"),
        (
            "password",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ),
    ];

    #[test]
    fn every_form_verifies_its_own_hashes_and_refuses_other_passwords() {
        for (password, text) in HASHES {
            let hash = StoredHash::check(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert!(hash.is_of(password.as_bytes()), "{text}");
            for other in
                ["mypassword", "myPassword ", "x", &"a".repeat(2000), "myPassword\0", "password\0password"]
            {
                assert!(!hash.is_of(other.as_bytes()), "{text}: {other}");
            }
        }
    }

    #[test]
    fn bcrypt_reads_the_first_72_bytes_as_every_implementation_does() {
        let long = "b".repeat(100);
        let hash = StoredHash::check(&bcrypt::hash(&long, 4).unwrap()).unwrap();
        assert!(hash.is_of(long.as_bytes()) && hash.is_of("b".repeat(72).as_bytes()));
        assert!(!hash.is_of("b".repeat(71).as_bytes()));
    }

    #[test]
    fn malformed_and_costly_hashes_are_refused_before_any_work() {
        let tail = ".".repeat(53);
        for (text, expected) in [
            ("", HashError::Unknown),
            ("plain", HashError::Unknown),
            ("rl5FQRCmhAhbs", HashError::Unknown),
            ("{SHA}", HashError::Unknown),
            ("{SHA}VBPuJHI7uixaa6LQGWx4s+5GKN", HashError::Unknown),
            ("{SSHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=", HashError::Unknown),
            ("$apr1$", HashError::Unknown),
            ("$apr1$salt", HashError::Unknown),
            ("$apr1$salt$short", HashError::Unknown),
            ("$apr1$ninebytes$HqJZimcKQFAMYayBlzkrA/", HashError::Unknown),
            ("$1$r31.....$HqJZimcKQFAMYayBlzkrA/", HashError::Unknown),
            ("$2y$", HashError::Unknown),
            ("$2y$10$short", HashError::Unknown),
            (&format!("$2x$10${tail}"), HashError::Unknown),
            (&format!("$2y$03${tail}"), HashError::Unknown),
            (&format!("$2y$+5${tail}"), HashError::Unknown),
            (&format!("$2y$15${tail}"), HashError::TooCostly),
            (&format!("$2y$99${tail}"), HashError::TooCostly),
            (&format!("$2y$10${}!", &tail[1..]), HashError::Unknown),
            ("$argon2id$v=19$m=65536,t=2,p=1", HashError::Unknown),
            ("$argon2id$v=19$m=0,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8", HashError::Unknown),
            (
                "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8",
                HashError::Unknown,
            ),
            (
                "$argon2id$v=19$m=65537,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8",
                HashError::TooCostly,
            ),
            (
                "$argon2id$v=19$m=65536,t=5,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8",
                HashError::TooCostly,
            ),
            (
                "$argon2id$v=19$m=4294967295,t=4294967295,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8",
                HashError::TooCostly,
            ),
            (
                "$argon2id$v=19$m=65536,t=2,p=5$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8",
                HashError::TooCostly,
            ),
            (&"x".repeat(1 << 20), HashError::Unknown),
        ] {
            assert_eq!(StoredHash::check(text).map(drop), Err(expected), "{text}");
        }
    }
}
