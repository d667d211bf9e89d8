//! The users of a file of `htpasswd`.

use std::collections::BTreeMap;

/// The hash that is verified for unknown users of a file without any: that of a random password.
const NOBODY: &str = "$2y$10$qUPcNwMgEbMrbyvCtwbvmeekN9Hq4vwmUevG3P15FDecblUiUladG";

/// The stored hashes, by the name of the user.
pub(crate) struct Users {
    hashes: BTreeMap<String, String>,
    /// The hash that is verified for unknown users, so that it takes as long as for a known one.
    decoy: String,
}

impl Users {
    /// Reads a file: lines of `name:hash`, empty lines, and comments that begin with `#`.
    ///
    /// # Errors
    /// Which line is malformed, and why. No hash is shown.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut hashes = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let problem = |what: &str| format!("line {} of the file {what}", index + 1);
            // Other programs write more fields behind the hash.
            let mut fields = line.split(':');
            let (Some(name), Some(hash)) = (fields.next(), fields.next()) else {
                return Err(problem("has no colon between name and hash"));
            };
            if name.is_empty() {
                return Err(problem("has no name"));
            }
            if !is_known(hash) {
                return Err(problem("has a hash of an unknown form: use `htpasswd -B`, or Argon2id"));
            }
            if hashes.insert(name.to_owned(), hash.to_owned()).is_some() {
                return Err(problem("repeats a name"));
            }
        }
        let decoy = hashes.values().next().map_or(NOBODY, String::as_str).to_owned();
        Ok(Self { hashes, decoy })
    }

    /// The hash to verify for a name, and whether there is such a user.
    pub(crate) fn hash(&self, name: &str) -> (&str, bool) {
        self.hashes.get(name).map_or((&self.decoy, false), |hash| (hash, true))
    }
}

/// Whether the gateway knows a form.
fn is_known(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2y$", "$argon2id$", "$apr1$", "{SHA}"].iter().any(|prefix| hash.starts_with(prefix))
}
