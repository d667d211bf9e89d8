//! `${VAR}`, `${VAR:-default}` and `${file:/path}` in string values.

use std::path::{Path, PathBuf};

use crate::file;
use crate::redact::Inserted;

/// Where references are resolved, and how much was resolved so far.
pub(crate) struct Surroundings<'e> {
    /// Reads an environment variable.
    variable: &'e dyn Fn(&str) -> Option<String>,
    /// The files that `${file:}` has read.
    pub(crate) files: Vec<PathBuf>,
    /// The texts that were inserted, each with its reference. Messages show the reference, because the text may be a
    /// secret.
    pub(crate) inserted: Vec<Inserted>,
    /// How many more bytes may be inserted.
    room: usize,
}

/// The most bytes that all references of a configuration may insert together. A large file could be named a
/// million times.
const ROOM: usize = 64 << 20;

impl<'e> Surroundings<'e> {
    /// Resolves references with these variables.
    pub(crate) fn new(variable: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Surroundings { variable, files: Vec::new(), inserted: Vec::new(), room: ROOM }
    }
}

/// Why a reference could not be replaced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unexpanded {
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// Replaces every reference in `text`; `$${` stands for a literal `${`. Relative files are looked up in `folder`.
/// Inserted text is not expanded again.
pub(crate) fn expand(
    text: &str,
    folder: &Path,
    surroundings: &mut Surroundings,
) -> Result<String, Vec<Unexpanded>> {
    let (mut expanded, mut wrong) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let Some((reference, after)) = after.split_once('}') else {
            wrong.push(Unexpanded {
                message: "`${` is not closed".to_owned(),
                hint: "write `${NAME}`, or `$${` for the characters themselves".to_owned(),
            });
            return Err(wrong);
        };
        match replace(reference, folder, surroundings).and_then(|value| surroundings.admit(value)) {
            Ok(value) => expanded.push_str(&value),
            Err(why) => wrong.push(why),
        }
        rest = after;
    }
    expanded.push_str(rest);
    if wrong.is_empty() { Ok(expanded) } else { Err(wrong) }
}

impl Surroundings<'_> {
    /// Counts a value against the bytes that may be inserted.
    fn admit(&mut self, value: String) -> Result<String, Unexpanded> {
        self.room = self.room.checked_sub(value.len()).ok_or_else(|| Unexpanded {
            message: "the texts inserted for references are larger than 64 MiB together".to_owned(),
            hint: "name large values less often, or let plugins fetch them".to_owned(),
        })?;
        Ok(value)
    }
}

fn replace(reference: &str, folder: &Path, surroundings: &mut Surroundings) -> Result<String, Unexpanded> {
    if let Some(path) = reference.strip_prefix("file:") {
        let path = folder.join(path);
        surroundings.files.push(path.clone());
        let text = read_file(&path)?;
        surroundings.inserted.push(Inserted::new(reference, &text));
        return Ok(text);
    }
    let (name, default) =
        reference.split_once(":-").map_or((reference, None), |(name, default)| (name, Some(default)));
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !letters || !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        return Err(Unexpanded {
            message: format!("`${{{reference}}}` is not a reference"),
            hint: "write `${NAME}`, `${NAME:-default}` or `${file:/path}`, or `$${` for the characters themselves".to_owned(),
        });
    }
    match ((surroundings.variable)(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => {
            surroundings.inserted.push(Inserted::new(reference, &value));
            Ok(value)
        }
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Unexpanded {
            message: format!("the environment variable `{name}` is not set"),
            hint: format!("set it, or give a default: `${{{name}:-default}}`"),
        }),
    }
}

/// The text of a file without the line end at its end, which editors and `echo` add.
fn read_file(path: &Path) -> Result<String, Unexpanded> {
    let mut text = file::read_text(path, file::SECRET).map_err(|error| Unexpanded {
        message: format!("cannot read `{}`: {error}", path.display()),
        hint: "the file must exist, be text, and be readable by the gateway".to_owned(),
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str, folder: &Path) -> Result<String, Vec<String>> {
        let variable = |name: &str| match name {
            "HOST" => Some("users".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        };
        let mut surroundings = Surroundings::new(&variable);
        expand(text, folder, &mut surroundings)
            .map_err(|wrong| wrong.into_iter().map(|why| why.message).collect())
    }

    #[test]
    fn variables_defaults_and_escapes() {
        let cases = [
            ("plain $5 {id}", Ok("plain $5 {id}")),
            ("http://${HOST}:80", Ok("http://users:80")),
            ("${EMPTY}", Ok("")),
            ("${EMPTY:-x}${NONE:-y}${NONE:-}", Ok("xy")),
            ("${NESTED}", Ok("${HOST}")),
            ("$${HOST} $$ $${", Ok("${HOST} $$ ${")),
            (
                "${NONE}-${NOWHERE}",
                Err(vec![
                    "the environment variable `NONE` is not set",
                    "the environment variable `NOWHERE` is not set",
                ]),
            ),
            ("${HOST", Err(vec!["`${` is not closed"])),
            ("${1}", Err(vec!["`${1}` is not a reference"])),
            ("${}", Err(vec!["`${}` is not a reference"])),
        ];
        for (text, expected) in cases {
            let expected =
                expected.map(str::to_owned).map_err(|wrong| wrong.into_iter().map(str::to_owned).collect());
            assert_eq!(expanded(text, Path::new("")), expected, "{text}");
        }
    }

    #[test]
    fn files_lose_one_line_end() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("token"), "secret\r\n").expect("written");
        assert_eq!(expanded("Bearer ${file:token}", folder.path()), Ok("Bearer secret".to_owned()));
        let wrong = expanded("${file:missing}", folder.path()).expect_err("there is no such file");
        assert!(wrong[0].starts_with("cannot read `"), "{wrong:?}");
        assert!(expanded("${file:.}", folder.path()).is_err(), "a folder is not a value");
    }

    #[test]
    fn what_is_put_in_is_bounded_altogether() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("large"), vec![b'x'; 1 << 20]).expect("written");
        let wrong = expanded(&"${file:large}".repeat(65), folder.path()).expect_err("65 MiB");
        assert_eq!(wrong, ["the texts inserted for references are larger than 64 MiB together"]);
    }
}
