//! The users of a file of `htpasswd`.

use std::collections::BTreeMap;

/// The hash that is verified for unknown users of a file without any: that of a random password.
const NOBODY: &str = "$2y$10$qUPcNwMgEbMrbyvCtwbvmeekN9Hq4vwmUevG3P15FDecblUiUladG";

/// The stored hashes, by the name of the user.
pub(crate) struct Users {
    hashes: BTreeMap<String, String>,
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
        Ok(Self { hashes })
    }

    /// The hash to verify for a name, and whether there is such a user.
    pub(crate) fn hash(&self, name: &str) -> (&str, bool) {
        self.hashes.get(name).map_or_else(|| (self.decoy(name), false), |hash| (hash, true))
    }

    /// A hash of the file for an unknown name, always the same for the same name. Hashes of one file may differ in form and
    /// cost, so that the time of a verification would tell known names from unknown ones if these had one hash in common.
    fn decoy(&self, name: &str) -> &str {
        let number =
            name.bytes().fold(0_usize, |number, byte| number.wrapping_mul(31).wrapping_add(byte.into()));
        let index = number.checked_rem(self.hashes.len()).unwrap_or_default();
        self.hashes.values().nth(index).map_or(NOBODY, String::as_str)
    }
}

/// Whether the gateway knows a form.
fn is_known(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2y$", "$argon2id$", "$apr1$", "{SHA}"].iter().any(|prefix| hash.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn unknown_names_take_the_time_of_known_ones_whatever_the_hashes_cost() {
        let users = Users::read("a:$2y$05$x\nb:$2y$12$x\nc:{SHA}x\n").expect("a file without mistakes");
        assert_eq!(users.hash("b"), ("$2y$12$x", true));
        let names: Vec<String> = (0..50).map(|number| format!("nobody-{number}")).collect();
        let decoys: BTreeSet<_> = names.iter().map(|name| users.hash(name)).collect();
        assert_eq!(decoys.len(), 3, "{decoys:?}");
        assert!(decoys.iter().all(|(_, known)| !known));
        assert!(names.iter().all(|name| users.hash(name) == users.hash(name)), "the same each time");
        assert_eq!(Users::read("").expect("an empty file").hash("a"), (NOBODY, false));
    }
}
