//! Edits of one header section.

use std::collections::BTreeMap;

use crate::template::{Placeholder, Seen, Template};
use witgate_sdk::{Header, HeaderChange, HeaderName, Input, SettingsProblem, Values, settings};

/// Edits of one header section, applied in this order.
#[settings]
#[derive(Default)]
pub(crate) struct Settings {
    /// Old names to new ones: all values move, and replace those the new name had.
    #[serde(default)]
    rename: BTreeMap<HeaderName, HeaderName>,
    /// Headers to remove.
    #[serde(default)]
    remove: Vec<HeaderName>,
    /// Headers to set, as templates. A header whose template has a placeholder without a value is removed.
    #[serde(default)]
    set: BTreeMap<HeaderName, String>,
    /// Headers to add a value to, as templates. One that has a placeholder without a value is not added.
    #[serde(default)]
    append: BTreeMap<HeaderName, String>,
}

/// The same, with templates parsed.
pub(crate) struct Edits {
    rename: BTreeMap<HeaderName, HeaderName>,
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, Template)>,
    append: Vec<(HeaderName, Template)>,
}

impl Edits {
    /// Parses the templates. `pointer` is where the settings stand.
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
        Self {
            set: parse(settings.set, "set"),
            append: parse(settings.append, "append"),
            rename: settings.rename,
            remove: settings.remove,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rename.is_empty() && self.remove.is_empty() && self.set.is_empty() && self.append.is_empty()
    }

    /// The headers whose values are to move.
    pub(crate) fn renamed(&self) -> impl Iterator<Item = &HeaderName> {
        self.rename.keys()
    }

    /// The request headers that templates show.
    pub(crate) fn shown_request_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.placeholders().filter_map(|(.., placeholder)| match placeholder {
            Placeholder::RequestHeader(name) => Some(name),
            _ => None,
        })
    }

    /// The response headers that templates show.
    pub(crate) fn shown_response_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.placeholders().filter_map(|(.., placeholder)| match placeholder {
            Placeholder::ResponseHeader(name) => Some(name),
            _ => None,
        })
    }

    /// What of a request the templates show; none: what no two requests have in common.
    pub(crate) fn inputs(&self) -> Option<Vec<Input>> {
        let each: Option<Vec<_>> =
            self.placeholders().map(|(.., placeholder)| placeholder.inputs()).collect();
        Some(each?.concat())
    }

    /// Where templates look at a response.
    pub(crate) fn looks_at_a_response(&self, pointer: &str) -> impl Iterator<Item = String> {
        self.placeholders()
            .filter(|(.., placeholder)| {
                matches!(placeholder, Placeholder::Status | Placeholder::ResponseHeader(_))
            })
            .map(move |(edit, name, _)| at(pointer, edit, name))
    }

    fn placeholders(&self) -> impl Iterator<Item = (&'static str, &HeaderName, &Placeholder)> {
        let set = self.set.iter().map(|(name, template)| ("set", name, template));
        let append = self.append.iter().map(|(name, template)| ("append", name, template));
        set.chain(append).flat_map(|(edit, name, template)| {
            template.placeholders().map(move |placeholder| (edit, name, placeholder))
        })
    }

    /// The changes for one message, whose own headers `values` reads.
    pub(crate) fn apply<'a>(&self, seen: &Seen, values: impl Fn(&str) -> Values<'a>) -> Vec<HeaderChange> {
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
        changes.extend(self.set.iter().map(|(name, template)| match template.render(seen) {
            Some(value) => HeaderChange::Set(Header::new(&**name, value)),
            None => HeaderChange::Remove(name.to_string()),
        }));
        changes.extend(self.append.iter().filter_map(|(name, template)| {
            Some(HeaderChange::Append(Header::new(&**name, template.render(seen)?)))
        }));
        changes
    }
}

/// The JSON Pointer of one edit. A header name has no `/`; a `~` is escaped (RFC 6901 section 3).
fn at(pointer: &str, edit: &str, name: &HeaderName) -> String {
    format!("{pointer}/{edit}/{}", name.replace('~', "~0"))
}
