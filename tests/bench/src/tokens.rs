//! Tokens for the authentication plugin, and wrk scripts that send them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use anyhow::{Context, Result};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The HS256 secret of all verifiers.
pub(crate) const SECRET: &str = "the-secret-of-the-bench-32-bytes";

/// More tokens than a proxy with one worker serves in a second; it is an error if a run uses them up.
pub(crate) const FRESH_PER_SECOND: usize = 120_000;
/// Number of tokens in the script that repeats them.
const SEEN: usize = 5;

/// Tokens that are valid for a day.
pub(crate) struct Tokens {
    folder: PathBuf,
    key: hmac::Key,
    /// When the tokens expire, in seconds since 1970.
    expires: u64,
    /// Number of tokens signed so far; the next one has this number as its subject.
    signed: AtomicUsize,
    /// A script that sends a few tokens in turn.
    pub(crate) seen: PathBuf,
    /// One of the repeated tokens.
    pub(crate) one: String,
}

impl Tokens {
    /// Signs the repeated tokens.
    pub(crate) fn new(folder: &Path) -> Result<Tokens> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock")?;
        let mut tokens = Tokens {
            folder: folder.into(),
            key: hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()),
            expires: now.as_secs() + 86_400,
            signed: AtomicUsize::new(0),
            seen: PathBuf::new(),
            one: String::new(),
        };
        tokens.one = tokens.sign(0);
        tokens.seen = tokens.script("seen", SEEN)?;
        Ok(tokens)
    }

    /// Writes a script with new tokens for this number of seconds, so that nothing that a verifier remembers of an
    /// earlier run applies to them.
    pub(crate) fn fresh(&self, seconds: u32) -> Result<PathBuf> {
        self.script("fresh", FRESH_PER_SECOND * seconds as usize)
    }

    fn script(&self, name: &str, count: usize) -> Result<PathBuf> {
        let first = self.signed.fetch_add(count, Ordering::Relaxed);
        let (list, script) =
            (self.folder.join(format!("{name}.txt")), self.folder.join(format!("{name}.lua")));
        let mut file = std::io::BufWriter::new(std::fs::File::create(&list)?);
        for number in first..first + count {
            writeln!(file, "{}", self.sign(number))?;
        }
        file.flush()?;
        let text = format!(
            "local tokens = {{}}\nfor line in io.lines({list:?}) do tokens[#tokens + 1] = line end\n\
             local next = 0\nrequest = function()\n  next = next % #tokens + 1\n  \
             return \"GET / HTTP/1.1\\r\\nHost: bench\\r\\nAuthorization: Bearer \" .. tokens[next] .. \"\\r\\n\\r\\n\"\nend\n"
        );
        std::fs::write(&script, text)?;
        Ok(script)
    }

    fn sign(&self, number: usize) -> String {
        let head = URL_SAFE_NO_PAD.encode(b"{\"alg\":\"HS256\",\"typ\":\"JWT\"}");
        let claims = format!("{{\"sub\":\"user-{number}\",\"exp\":{},\"role\":\"reader\"}}", self.expires);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
        let tag = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_three_parts_and_its_tag_holds() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::new(folder.path()).unwrap();
        let (signed, tag) = tokens.one.rsplit_once('.').unwrap();
        hmac::verify(&tokens.key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(tag).unwrap()).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(signed.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["sub"], "user-0");
        assert_eq!(claims["exp"], tokens.expires);
    }

    #[test]
    fn fresh_tokens_are_never_those_of_a_run_before() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::new(folder.path()).unwrap();
        let mut all = std::collections::HashSet::new();
        for _ in 0..2 {
            tokens.fresh(1).unwrap();
            let list = std::fs::read_to_string(folder.path().join("fresh.txt")).unwrap();
            all.extend(list.lines().map(String::from));
        }
        assert_eq!(all.len(), 2 * FRESH_PER_SECOND);
    }
}
