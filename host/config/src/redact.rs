//! Keeps secrets out of messages: more people can read a log or a status page than may know them.

use std::borrow::Cow;

use crate::problem::{Problem, SourceMap};

/// Shorter texts are not looked for in messages. They are no good secrets, and they occur by chance.
const SHORTEST: usize = 4;

/// A text that is longer may stand in a message in part; so much of it is always there.
const LONG: usize = 48;

/// What stands in a message in place of a value.
const HIDDEN: &str = "(not shown)";

/// A text that was inserted for a reference such as `${file:/run/token}`.
#[derive(Clone)]
pub struct Inserted {
    reference: String,
    /// The text, and its lines if it has several.
    texts: Vec<String>,
}

impl Inserted {
    /// The text that was inserted for `${reference}`.
    pub(crate) fn new(reference: &str, text: &str) -> Self {
        let mut texts: Vec<String> = std::iter::once(text).chain(text.lines()).map(str::to_owned).collect();
        texts.dedup();
        // As it stands in a quoted text.
        texts.extend(texts.clone().iter().map(|text| text.escape_debug().to_string()));
        texts.retain(|text| text.len() >= SHORTEST);
        Inserted { reference: format!("${{{reference}}}"), texts }
    }
}

impl std::fmt::Debug for Inserted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.reference)
    }
}

impl SourceMap {
    /// A message with references in place of the texts that were inserted for them.
    pub fn without_inserted<'t>(&self, message: &'t str) -> Cow<'t, str> {
        let mut shown = Cow::Borrowed(message);
        for (text, reference) in self.by_length() {
            if let Some(hidden) = hide(&shown, text, reference) {
                shown = Cow::Owned(hidden);
            }
        }
        shown
    }

    /// The longest text first: a shorter one may be a part of it.
    fn by_length(&self) -> Vec<(&str, &str)> {
        let texts = self.inserted.iter().flat_map(|inserted| {
            inserted.texts.iter().map(|text| (text.as_str(), inserted.reference.as_str()))
        });
        let mut texts: Vec<_> = texts.collect();
        texts.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        texts
    }

    /// A message or hint of a problem as log and status may show it: without texts that were inserted, and without a value
    /// that is written at the place of the problem and may be a secret.
    pub fn publishable<'t>(&self, problem: &Problem, text: &'t str) -> Cow<'t, str> {
        let shown = self.without_inserted(text);
        match self.written_value(problem).filter(|value| shown.contains(value)) {
            Some(value) => Cow::Owned(shown.replace(value, HIDDEN)),
            None => shown,
        }
    }

    /// The text at the place of a problem, if it may be a secret.
    fn written_value(&self, problem: &Problem) -> Option<&str> {
        if !may_be_secret(&problem.key) {
            return None;
        }
        let span = self.place(problem)?;
        let written = self.files.get(span.file)?.1.get(span.range.clone())?;
        let value = written.trim_matches(['"', '\'']);
        // What is not in quotes may be a number that was meant to be a text, or the name of a key.
        let is_value = value.len() < written.len() || value.starts_with(|first: char| first.is_ascii_digit());
        (is_value && value.len() >= SHORTEST && !value.contains('\n')).then_some(value)
    }
}

/// A message with `instead` in place of a text, or of its beginning: messages show long values in part. `None` if the text
/// is not in it.
fn hide(message: &str, text: &str, instead: &str) -> Option<String> {
    let beginning = &text[..text.floor_char_boundary(LONG)];
    let mut hidden = String::new();
    let mut rest = message;
    while let Some(at) = rest.find(beginning) {
        hidden.push_str(&rest[..at]);
        hidden.push_str(instead);
        let same = rest[at..].chars().zip(text.chars()).take_while(|(one, other)| one == other);
        rest = &rest[at + same.map(|(one, _)| one.len_utf8()).sum::<usize>()..];
    }
    (rest.len() < message.len()).then(|| hidden + rest)
}

/// Whether the value of a key may be a secret: settings that the configuration passes on to others, and keys that are
/// named after secrets.
fn may_be_secret(key: &str) -> bool {
    let names = ["settings", "filters", "state", "token", "secret", "password", "key", "credential"];
    names.iter().any(|name| key.contains(name))
}

#[cfg(test)]
mod tests {
    use crate::{parse_str, render, render_for_log};

    const SECRET: &str = "tr0ub4dor&3\"x";

    #[test]
    fn what_was_inserted_is_in_no_message() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("secret");
        std::fs::write(&file, format!("{SECRET}\nsecond line\n")).expect("written");
        let reference = format!("${{file:{}}}", file.display());
        for wrong in [
            format!("[gateway]\ndrain_timeout = '{reference}'\n"),
            format!("[gateway]\nworkers = '{reference}'\n"),
            format!("[[routes]]\nupstream = 'pre{reference}'\n"),
            format!("[[listeners]]\nname = 'web'\naddress = '{reference}'\n"),
        ] {
            let failure = parse_str(&wrong).expect_err("not valid");
            let rendered = render(&failure.problems, &failure.sources, false);
            for part in ["tr0ub4dor", "second line"] {
                assert!(!rendered.contains(part), "{rendered}");
            }
            let problem = &failure.problems[0];
            let published = render_for_log(problem, &failure.sources);
            assert!(!published.contains("tr0ub4dor") && published.contains("witgate.toml:"), "{published}");
        }
    }

    #[test]
    fn a_long_text_is_hidden_also_where_only_its_beginning_is_shown() {
        let text: String = (0..200).map(|number| format!("{number:03}")).collect();
        let message = format!("`{}…` is wrong, and so is `{text}`", &text[..200]);
        assert_eq!(super::hide(&message, &text, "$"), Some("`$…` is wrong, and so is `$`".to_owned()));
        assert_eq!(super::hide("`000` is wrong", &text, "$"), None);
        assert_eq!(super::hide("abcabc", "abc", "$"), Some("$$".to_owned()));
    }

    #[test]
    fn log_and_status_show_a_place_and_no_line() {
        let text = "[[routes]]\nname = \"a\"\nrespond = { status = 200 }\n\
                    filters = [{ kind = \"headers\", request = { set = { authorization = \"Bearer hunter2\" } }, nothing = 1 }]\n\
                    [admin]\naddress = \"127.0.0.1:0\"\ntoken = 12345678\n";
        let failure = parse_str(text).expect_err("not valid");
        for problem in &failure.problems {
            let published = render_for_log(problem, &failure.sources);
            assert!(!published.contains("hunter2") && !published.contains("12345678"), "{published}");
            assert!(published.contains(" --> witgate.toml:"), "{published}");
        }
        assert!(
            render(&failure.problems, &failure.sources, false).contains("12345678"),
            "on a terminal, as written"
        );
    }

    #[test]
    fn a_setting_that_a_message_repeats_is_not_published() {
        let text = "[plugins.p]\n[bindings.p]\nsettings = { secret = \"hunter2\" }\n";
        let loaded = parse_str(text);
        let sources = match loaded {
            Ok(loaded) => loaded.sources,
            Err(failure) => failure.sources,
        };
        let problem = crate::Problem {
            key: "bindings.p.settings.secret".to_owned(),
            ..crate::Problem::new("`hunter2` is too short")
        };
        let published = sources.publishable(&problem, &problem.message);
        assert_eq!(published, "`(not shown)` is too short");
    }
}
