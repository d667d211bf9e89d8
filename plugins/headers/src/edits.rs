//! Edits of one header section.

use std::collections::BTreeMap;

use crate::template::Template;
use witgate_sdk::{Header, HeaderChange, HeaderName, SettingsProblem, Values, settings};

/// The most composed values that the gateway accepts for one message.
const COMPOSED: usize = 64;

/// Edits of one header section, applied in this order.
#[settings]
#[derive(Default)]
pub(crate) struct Settings {
    /// Old names and new names: all values are moved and replace those of the new name.
    #[serde(default)]
    rename: BTreeMap<HeaderName, HeaderName>,
    /// Headers to remove.
    #[serde(default)]
    remove: Vec<HeaderName>,
    /// Headers to set, as templates. A header whose template has a placeholder without a value is removed.
    #[serde(default)]
    set: BTreeMap<HeaderName, String>,
    /// Headers to add a value to, as templates. A value whose template has a placeholder without a value is not
    /// added.
    #[serde(default)]
    append: BTreeMap<HeaderName, String>,
}

/// The same edits with parsed templates.
pub(crate) struct Edits {
    rename: BTreeMap<HeaderName, HeaderName>,
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, Template)>,
    append: Vec<(HeaderName, Template)>,
}

impl Edits {
    /// Parses the templates. `pointer` is the JSON Pointer of the settings.
    pub(crate) fn new(settings: Settings, pointer: &str, problems: &mut Vec<SettingsProblem>) -> Self {
        let mut parse = |templates: BTreeMap<HeaderName, String>, edit: &str| {
            let mut parsed = Vec::with_capacity(templates.len());
            for (name, text) in templates {
                match Template::parse(&text) {
                    Ok(template) => parsed.push((name, template)),
                    Err(message) => problems.push(SettingsProblem::new(at(pointer, edit, &name), message)),
                }
            }
            parsed
        };
        let (set, append) = (parse(settings.set, "set"), parse(settings.append, "append"));
        let composed = set.iter().chain(&append).filter(|(_, template)| template.fixed().is_none()).count();
        if composed > COMPOSED {
            let message = format!("{composed} templates with placeholders are too many: at most {COMPOSED}");
            problems.push(SettingsProblem::new(pointer, message));
        }
        Self { set, append, rename: settings.rename, remove: settings.remove }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rename.is_empty() && self.remove.is_empty() && self.set.is_empty() && self.append.is_empty()
    }

    /// The headers that are renamed.
    pub(crate) fn renamed(&self) -> impl Iterator<Item = &HeaderName> {
        self.rename.keys()
    }

    /// The JSON Pointers of templates that use a response.
    pub(crate) fn looks_at_a_response(&self, pointer: &str) -> impl Iterator<Item = String> {
        let set = self.set.iter().map(|edit| ("set", edit));
        let append = self.append.iter().map(|edit| ("append", edit));
        set.chain(append)
            .filter(|(_, (_, template))| template.shows_a_response())
            .map(move |(edit, (name, _))| at(pointer, edit, name))
    }

    /// The changes for one message. `values` reads the headers of the message.
    pub(crate) fn apply<'a>(&self, values: impl Fn(&str) -> Values<'a>) -> Vec<HeaderChange> {
        let mut changes = Vec::with_capacity(self.remove.len() + self.set.len() + self.append.len());
        for (old, new) in &self.rename {
            let mut moved = values(old).map(|value| Header::new(&**new, value));
            if let Some(first) = moved.next() {
                changes.push(HeaderChange::Remove(old.to_string()));
                changes.push(HeaderChange::Set(first));
                changes.extend(moved.map(HeaderChange::Append));
            }
        }
        changes.extend(self.remove.iter().map(|name| HeaderChange::Remove(name.to_string())));
        changes.extend(self.set.iter().map(|(name, template)| template.set(name)));
        changes.extend(self.append.iter().map(|(name, template)| template.append(name)));
        changes
    }
}

/// The JSON Pointer of one edit. A header name has no `/`; a `~` is escaped (RFC 6901 section 3).
fn at(pointer: &str, edit: &str, name: &HeaderName) -> String {
    format!("{pointer}/{edit}/{}", name.replace('~', "~0"))
}
