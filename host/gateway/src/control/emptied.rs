//! Refuses configurations that are probably empty by mistake: a file that was truncated, or that is about to be
//! written.
//!
//! An empty file is valid TOML, and the missing keys have defaults that suit a first start: a listener on every
//! address, an admin listener, no rule that denies anything. Nobody intends that for a file that had content a
//! moment ago. An operator who does writes `[gateway] allow_empty = true` in what is left.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use witgate_config::{Problem, Problems};

use super::source::ConfigReading;

const HINT: &str = "if this is intended, set `allow_empty = true` under `[gateway]`";

/// What a configuration contained.
pub(super) struct Written {
    /// Whether it has a listener; without one there is a default.
    listeners: bool,
    /// Its files that are not empty, without those of plugins.
    files: BTreeSet<PathBuf>,
}

impl Written {
    /// Examines a configuration.
    pub(super) fn of(reading: &ConfigReading) -> Written {
        let files = reading.files.iter().filter(|file| !is_empty(reading, file)).cloned().collect();
        Written { listeners: reading.sources.keys.contains_key("listeners[0]"), files }
    }
}

/// Problems that forbid starting with a configuration. They do not apply to one that a command has made.
pub(super) fn at_start(reading: &ConfigReading) -> Problems {
    let config = &reading.config;
    if config.gateway.allow_empty || !config.routes.is_empty() || reading.sources.files.is_empty() {
        return Problems::new();
    }
    let message = "there is no route: every request would get 404";
    vec![Problem {
        key: "routes".to_owned(),
        ..Problem::new(message).with_hint(format!("write `[[routes]]`; {HINT}"))
    }]
}

/// Problems that forbid replacing a configuration that contained `before` by this one, which contains `written`.
pub(super) fn at_reload(reading: &ConfigReading, written: &Written, before: &Written) -> Problems {
    if reading.config.gateway.allow_empty {
        return Problems::new();
    }
    let emptied = before.files.difference(&written.files).filter(|file| reading.files.contains(file));
    let mut problems: Problems = emptied
        .map(|file| {
            let message =
                format!("`{}` is empty, but was not when the version in service was built", file.display());
            Problem::new(message).with_hint(format!("write it anew; {HINT}"))
        })
        .collect();
    if before.listeners && !written.listeners {
        let message =
            "no listener is configured any more: every listener would be closed, and the default one opened";
        problems.push(Problem {
            key: "listeners".to_owned(),
            ..Problem::new(message).with_hint(format!("write `[[listeners]]`; {HINT}"))
        });
    }
    problems.extend(at_start(reading));
    problems
}

/// Whether a file is empty: no bytes, or, for a file of the configuration, no key with a value.
fn is_empty(reading: &ConfigReading, file: &Path) -> bool {
    match reading.sources.files.iter().find(|(path, _)| path == file) {
        Some((_, text)) => {
            let document = toml::from_str::<toml::Table>(text.trim_start_matches('\u{feff}'));
            // A file that is not valid TOML is refused for that earlier.
            document
                .is_ok_and(|document| !document.iter().any(|(section, value)| says_something(section, value)))
        }
        None => reading.fingerprint.is_empty(file),
    }
}

/// Whether a section contains anything. A header without a key counts as little as a comment, and an empty array
/// as none; but a plugin or a binding is declared by its header alone (`[plugins.jwt]`).
fn says_something(section: &str, value: &toml::Value) -> bool {
    match value {
        toml::Value::Table(table) if ["plugins", "bindings"].contains(&section) => !table.is_empty(),
        toml::Value::Table(table) => table.values().any(|value| says_something("", value)),
        toml::Value::Array(array) => !array.is_empty(),
        _ => true,
    }
}
