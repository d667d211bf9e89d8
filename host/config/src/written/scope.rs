//! What the conversion to the model needs besides the section itself: the declared names, the positions of values,
//! and the collected problems.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::Section;
use crate::pointer::{child, segments, within};
use crate::problem::{Problems, SourceMap};
use crate::schema::{Finding, nearest};
use crate::settings::Settings;

/// The scope of a document.
pub(crate) struct Scope<'d> {
    /// The document.
    pub(crate) document: &'d Settings,
    /// Certificates, keys and CA files that are named.
    pub(crate) files: Vec<PathBuf>,
    sources: &'d SourceMap,
    broken: Vec<String>,
    /// Whether the current section lacks keys because of mistakes in them.
    partial: bool,
    implicit: BTreeSet<String>,
    problems: Problems,
}

impl<'d> Scope<'d> {
    /// The scope of a document for which `findings` are known; values with findings are not converted.
    pub(crate) fn new(document: &'d Settings, sources: &'d SourceMap, findings: &[Finding]) -> Self {
        let broken = findings.iter().map(|finding| finding.pointer.clone()).collect();
        let (files, implicit, problems) = (Vec::new(), BTreeSet::new(), Vec::new());
        Self { document, files, sources, broken, partial: false, implicit, problems }
    }

    /// All reported problems, and the named files.
    pub(crate) fn into_problems(self) -> (Problems, Vec<PathBuf>) {
        (self.problems, self.files)
    }

    /// Reports a mistake in the value at a pointer.
    pub(crate) fn report(&mut self, at: &str, message: impl Into<String>, hint: Option<String>) {
        self.report_finding(Finding { hint, ..Finding::at(at, message) });
    }

    /// Reports a key that should not be there.
    pub(crate) fn report_key(&mut self, at: &str, message: impl Into<String>, hint: Option<String>) {
        self.report_finding(Finding { hint, ..Finding::at_key(at, message) });
    }

    fn report_finding(&mut self, finding: Finding) {
        if !self.partial {
            self.problems.push(self.document.place(finding));
        }
    }

    /// Reports a mistake that also concerns another position, with a label for the latter.
    pub(crate) fn report_with(&mut self, at: &str, message: impl Into<String>, other: &str, label: &str) {
        let other = self
            .document
            .nearest_span(other)
            .map(|span| format!("{label} at {}", self.sources.position(span)));
        self.report(at, message, other);
    }

    /// Whether a key was written.
    pub(crate) fn is_written(&self, at: &str) -> bool {
        self.document.get(at).is_some()
    }

    /// Converts the table at a pointer; `None` if there is a mistake in it.
    ///
    /// If a mistake is already known, the rest is only checked for names that do not exist: whether keys fit
    /// together cannot be known while some are missing.
    pub(crate) fn section<S: Section>(&mut self, at: &str) -> Option<S::Meant> {
        let mut value = self.document.get(at).cloned().unwrap_or_else(|| Value::Object(Map::new()));
        let broken: Vec<&String> = self.broken.iter().filter(|broken| within(broken, at)).collect();
        if broken.is_empty() {
            return match self.document.convert::<S>(value, at) {
                Ok(written) => written.meant(at, self),
                Err(finding) => {
                    self.report_finding(finding);
                    None
                }
            };
        }
        broken.into_iter().for_each(|broken| prune(&mut value, &broken[at.len()..]));
        if let Ok(written) = self.document.convert::<S>(value, at) {
            self.partial = true;
            written.meant(at, self);
            self.partial = false;
        }
        None
    }

    /// Converts the tables of a list, with their pointers; those with mistakes are left out.
    pub(crate) fn list<S: Section>(&mut self, key: &str) -> Vec<(String, S::Meant)> {
        let length = self.document.value.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        let places = (0..length).map(|index| format!("/{key}/{index}"));
        places.filter_map(|at| self.section::<S>(&at).map(|meant| (at, meant))).collect()
    }

    /// Converts the tables of a table, by name; those with mistakes are left out.
    pub(crate) fn table<S: Section>(&mut self, key: &str) -> BTreeMap<String, S::Meant> {
        let names: Vec<String> = self.names(key).map(str::to_owned).collect();
        let meant = names.into_iter().filter_map(|name| {
            let at = child(&format!("/{key}"), &name);
            self.section::<S>(&at).map(|meant| (name, meant))
        });
        meant.collect()
    }

    /// The names declared in a table of tables, valid or not.
    pub(crate) fn names(&self, key: &str) -> impl Iterator<Item = &'d str> + use<'d> {
        self.document
            .value
            .get(key)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
    }

    /// Whether a mistake is known already.
    pub(crate) fn has_findings(&self) -> bool {
        !self.broken.is_empty() || !self.problems.is_empty()
    }

    /// Checks that an upstream of this name is declared and takes requests.
    pub(crate) fn check_upstream(&mut self, at: &str, name: &str) {
        self.check_upstream_for(at, name, false);
    }

    /// Checks that an upstream of this name is declared, and that it takes connections (`tcp`) or requests.
    pub(crate) fn check_upstream_for(&mut self, at: &str, name: &str, tcp: bool) {
        let protocol = child(&child("/upstreams", name), "protocol");
        let is_tcp = self.document.get(&protocol).and_then(Value::as_str) == Some("tcp");
        if tcp != is_tcp && self.document.get(&child("/upstreams", name)).is_some() {
            let (what, hint) = match tcp {
                true => ("connections", "give the upstream `protocol = \"tcp\"`"),
                false => ("requests", "`protocol = \"tcp\"` is for upstreams of connections: leave it out"),
            };
            self.report(at, format!("upstream `{name}` does not take {what}"), Some(hint.to_owned()));
        }
        let known: Vec<&str> = self.names("upstreams").collect();
        // If the table itself is broken, for example a list, that is already reported.
        if self.broken.iter().any(|broken| broken == "/upstreams") {
            return;
        }
        self.check_name(at, "upstream", name, &known, format!("declare it: [upstreams.{name}]"));
    }

    /// Checks that a plugin of this name is declared.
    pub(crate) fn check_plugin(&mut self, at: &str, name: &str) {
        let known: Vec<&str> = self.names("plugins").collect();
        self.check_name(at, "plugin", name, &known, format!("declare it: [plugins.{name}]"));
    }

    /// Checks that a state of that name is declared.
    pub(crate) fn check_state(&mut self, at: &str, name: Option<&str>) {
        let Some(name) = name else { return };
        let known: Vec<&str> = self.names("state").collect();
        // A list where a table should be, say, declares nothing; that is reported.
        if self.broken.iter().any(|broken| broken == "/state") {
            return;
        }
        self.check_name(at, "state", name, &known, format!("declare it: [state.{name}]"));
    }

    /// Checks that a broker of that name is declared.
    pub(crate) fn check_broker(&mut self, at: &str, name: &str) {
        let known: Vec<&str> = self.names("brokers").collect();
        if self.broken.iter().any(|broken| broken == "/brokers") {
            return;
        }
        self.check_name(at, "broker", name, &known, format!("declare it: [brokers.{name}]"));
    }

    /// Checks that a data file of that name is declared.
    pub(crate) fn check_data(&mut self, at: &str, name: &str) {
        let known: Vec<&str> = self.names("data").collect();
        if self.broken.iter().any(|broken| broken == "/data") {
            return;
        }
        self.check_name(at, "data file", name, &known, format!("declare it: [data.{name}]"));
    }

    /// Checks the names in a `plugins` list: bindings, or plugins, which are then bound with default settings.
    pub(crate) fn check_bindings(&mut self, at: &str, names: &[String]) {
        let bindings: Vec<&str> = self.names("bindings").collect();
        let plugins: Vec<&str> = self.names("plugins").collect();
        let known: Vec<&str> = bindings.iter().chain(&plugins).copied().collect();
        for (index, name) in names.iter().enumerate() {
            let at = child(at, &index.to_string());
            if names[..index].contains(name) {
                self.report(&at, format!("`{name}` is in the list twice"), None);
            }
            if !bindings.contains(&name.as_str()) && plugins.contains(&name.as_str()) {
                self.implicit.insert(name.clone());
            }
            self.check_name(&at, "binding or plugin", name, &known, format!("declare it: [plugins.{name}]"));
        }
    }

    /// Plugins that something refers to by their own names, without a binding.
    pub(crate) fn implicit_bindings(&self) -> BTreeSet<String> {
        self.implicit.clone()
    }

    /// Checks a name against the declared ones.
    pub(crate) fn check_name(&mut self, at: &str, kind: &str, name: &str, known: &[&str], otherwise: String) {
        if !known.contains(&name) {
            let hint = nearest(name, known.iter().copied()).map(|meant| format!("did you mean `{meant}`?"));
            let message = format!("there is no {kind} `{name}`");
            let hint = Some(hint.unwrap_or(otherwise));
            // In `upstreams = { users = 1 }` the name is the key.
            let at_key = segments(at).last().as_deref() == Some(name);
            // Not through `report`, which reports nothing for a partial section: names are always checked against
            // the document.
            self.problems.push(self.document.place(Finding { hint, at_key, ..Finding::at(at, message) }));
        }
    }

    /// Checks that at most one of some keys is written.
    pub(crate) fn exclude(&mut self, at: &str, keys: &[&str]) {
        let written: Vec<&str> =
            keys.iter().copied().filter(|key| self.is_written(&child(at, key))).collect();
        for key in written.iter().skip(1) {
            let (first, at_key) = (written[0], child(at, key));
            let other = child(at, first);
            let span = self.document.key_spans.get(&other).or_else(|| self.document.nearest_span(&other));
            let place = span.map_or_else(String::new, |span| format!(" at {}", self.sources.position(span)));
            let hint = format!("`{first}` is set{place}: keep one of them");
            self.report_key(&at_key, format!("`{key}` and `{first}` exclude each other"), Some(hint));
        }
    }

    /// Checks that a duration, if it was written, is longer than 0.
    pub(crate) fn check_positive(&mut self, at: &str, key: &str, duration: Duration) -> Duration {
        if duration.is_zero() && self.is_written(&child(at, key)) {
            self.report(&child(at, key), format!("`{key}` must be longer than 0"), None);
        }
        duration
    }

    /// Checks that a size, if it was written, is in range.
    pub(crate) fn check_size(&mut self, at: &str, key: &str, size: u64, (least, most): (u64, u64)) {
        if (size < least || size > most) && self.is_written(&child(at, key)) {
            self.report(&child(at, key), format!("`{key}` must be from {least} to {most} bytes"), None);
        }
    }

    /// A path, resolved against the folder of the file that contains it.
    pub(crate) fn path(&self, at: &str, path: &str) -> PathBuf {
        let file = self.document.nearest_span(at).map_or(0, |span| span.file);
        let folder = self.sources.files.get(file).and_then(|(path, _)| path.parent());
        folder.unwrap_or(Path::new("")).join(path)
    }

    /// The path of a file that must exist and is watched.
    pub(crate) fn file(&mut self, at: &str, path: &str) -> PathBuf {
        let path = self.path(at, path);
        if let Err(error) = crate::file::open(&path) {
            self.report(at, format!("cannot read `{}`: {error}", path.display()), None);
        }
        self.files.push(path.clone());
        path
    }
}

/// Removes the value at a pointer from its table; of a list, the whole list, because removing one element would
/// shift the others.
fn prune(value: &mut Value, pointer: &str) {
    let Some((first, rest)) =
        pointer.strip_prefix('/').map(|path| path.split_once('/').unwrap_or((path, "")))
    else {
        return;
    };
    let Some(members) = value.as_object_mut() else { return };
    let key = first.replace("~1", "/").replace("~0", "~");
    match members.get_mut(&key) {
        Some(inner @ Value::Object(_)) if !rest.is_empty() => prune(inner, &format!("/{rest}")),
        _ => {
            members.remove(&key);
        }
    }
}
