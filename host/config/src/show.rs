//! The effective configuration: every value with the place from which it comes.

use std::path::Path;

use serde_json::Value;

use crate::defaults;
use crate::document;
use crate::expand::Surroundings;
use crate::load::{self, Failure};
use crate::pointer::{child, dotted, parent, within};
use crate::problem::SourceMap;
use crate::written::Written;

/// One value of the effective configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveValue {
    /// The dotted path of the key, e.g. `routes[2].path`.
    pub key: String,
    /// The value as TOML would have it. A value with references is shown as it is written, because what they stand for may
    /// be secret; what looks like a secret is hidden.
    pub value: String,
    /// Where it was written, as `file:line:column`; `None` for what the gateway itself has as default.
    pub from: Option<String>,
    /// Whether it comes from `[defaults]`.
    pub inherited: bool,
}

/// Stands for a value that is not shown.
const HIDDEN: &str = "(hidden)";

/// Parts of the names of keys whose values are secret.
const SECRET_NAMES: [&str; 9] =
    ["password", "secret", "token", "authorization", "set-cookie", "api_key", "api-key", "apikey", "private"];

/// The effective configuration of a file or folder.
///
/// # Errors
/// All mistakes in it.
pub fn show(path: &Path) -> Result<Vec<EffectiveValue>, Failure> {
    let sources = load::load(path)?.sources;
    let mut surroundings = Surroundings::new(&|name| std::env::var(name).ok());
    let mut document = document::read(&sources, &mut surroundings);
    defaults::apply(&mut document);
    load::with_schema(&mut document);
    let mut tree = document.tree.value.clone();
    tree.remove("defaults");
    // It has been loaded, so it can be converted.
    let written: Option<Written> = serde_json::from_value(Value::Object(tree)).ok();
    let mut effective = written.and_then(|written| serde_json::to_value(written).ok()).unwrap_or_default();
    if let Some(tables) = effective.as_object_mut() {
        tables.remove("defaults");
    }
    let mut shown = Vec::new();
    Showing { document: &document, sources: &sources, shown: &mut shown }.value("", &effective);
    Ok(shown)
}

struct Showing<'s> {
    document: &'s document::Document,
    sources: &'s SourceMap,
    shown: &'s mut Vec<EffectiveValue>,
}

impl Showing<'_> {
    /// Adds a value, or those in it.
    fn value(&mut self, at: &str, value: &Value) {
        match value {
            Value::Null => {}
            Value::Object(members) => {
                members.iter().for_each(|(key, value)| self.value(&child(at, key), value))
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&child(at, &index.to_string()), item);
                }
            }
            Value::Array(items) if items.is_empty() && !self.is_written(at) => {}
            _ => {
                let value = self.text(at, value);
                let span = self.span(at);
                let from = span.map(|span| self.sources.position(span));
                let inherited = self.is_inherited(at);
                let key = dotted("", at, &self.document.tree.value);
                self.shown.push(EffectiveValue { key, value, from, inherited });
            }
        }
    }

    fn is_written(&self, at: &str) -> bool {
        self.document.tree.spans.contains_key(at)
    }

    /// Where a value was written. A value in another form than it is written, as `"dns"` and `["dns"]`, is where its
    /// nearest table or list was.
    fn span(&self, at: &str) -> Option<&crate::problem::Span> {
        let mut at = Some(at);
        while let Some(pointer) = at.filter(|pointer| !pointer.is_empty()) {
            match self.document.tree.get(pointer) {
                // A table that is written, but has no such key: the value is the gateway's default.
                Some(Value::Object(_)) => return None,
                Some(_) => return self.document.tree.spans.get(pointer),
                None => at = parent(pointer),
            }
        }
        None
    }

    /// Whether a value is at the same place as one of the defaults.
    fn is_inherited(&self, at: &str) -> bool {
        let spans = &self.document.tree.spans;
        let Some(span) = self.span(at) else { return false };
        let defaults =
            spans.range("/defaults".to_owned()..).take_while(|(pointer, _)| within(pointer, "/defaults"));
        defaults.into_iter().any(|(_, place)| place == span)
    }

    fn text(&self, at: &str, value: &Value) -> String {
        let has_references = self.document.expanded.iter().any(|expanded| within(expanded, at));
        if !has_references {
            return if is_secret(at, value) { HIDDEN.to_owned() } else { value.to_string() };
        }
        let written = self.span(at).and_then(|span| {
            let (_, text) = self.sources.files.get(span.file)?;
            text.get(span.range.clone())
        });
        match written {
            Some(written) if !is_secret(at, value) || is_reference(written) => written.to_owned(),
            _ => HIDDEN.to_owned(),
        }
    }
}

/// Whether a text as it is written is one reference without a default, so that nothing of its value is seen.
fn is_reference(written: &str) -> bool {
    let inner = written.trim_matches(['"', '\'']);
    let name = inner.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| !name.contains("${") && !name.contains(":-"))
}

/// Whether a value may be secret: by the name of one of its keys, as text in the settings of a plugin, or as a URL with
/// credentials.
fn is_secret(at: &str, value: &Value) -> bool {
    let lower = at.to_lowercase();
    let mut segments = lower.split('/').skip(1);
    let is_path = lower.ends_with("_file");
    let is_cookie = lower.ends_with("headers/cookie");
    let named = is_cookie || segments.any(|key| SECRET_NAMES.iter().any(|name| key.contains(name)));
    let of_plugin = lower.starts_with("/bindings/") && lower.contains("/settings/");
    let texts = match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().map(|text| vec![text]).unwrap_or_default(),
    };
    let has_user = |text: &&str| {
        text.split_once("://")
            .is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')))
    };
    !texts.is_empty() && ((named && !is_path) || of_plugin || texts.iter().any(has_user))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<EffectiveValue> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("w.toml");
        std::fs::write(folder.path().join("secret"), "hunter2hunter2hunter2hunter2hunter2\n")
            .expect("written");
        std::fs::write(&path, text).expect("written");
        show(&path).unwrap_or_else(|failure| panic!("{}", failure.render(false)))
    }

    fn find<'s>(shown: &'s [EffectiveValue], key: &str) -> &'s EffectiveValue {
        shown.iter().find(|shown| shown.key == key).unwrap_or_else(|| panic!("{key}: {shown:?}"))
    }

    #[test]
    fn each_value_has_the_place_from_which_it_comes() {
        let shown = shown(
            "[defaults.upstream]\nconnect_timeout = \"7s\"\nretry.attempts = 5\n\
             [upstreams.u]\nendpoints = [\"a:1\", { address = \"b:1\", weight = 2 }]\nmax_requests = 9\n\
             [[routes]]\npath = \"/a\"\nupstream = \"u\"\n",
        );
        let place = |key: &str| {
            let EffectiveValue { value, from, inherited, .. } = find(&shown, key);
            let line = from.as_ref().map(|from| from.rsplit(':').nth(1).unwrap_or_default().to_owned());
            (value.clone(), line, *inherited)
        };
        assert_eq!(place("upstreams.u.connect_timeout"), ("\"7s\"".into(), Some("2".into()), true));
        assert_eq!(place("upstreams.u.retry.attempts"), ("5".into(), Some("3".into()), true));
        assert_eq!(place("upstreams.u.max_requests"), ("9".into(), Some("6".into()), false));
        assert_eq!(place("upstreams.u.endpoints[0]"), ("\"a:1\"".into(), Some("5".into()), false));
        assert_eq!(place("upstreams.u.endpoints[1].weight"), ("2".into(), Some("5".into()), false));
        assert_eq!(place("upstreams.u.idle_timeout"), ("\"5m\"".into(), None, false));
        assert_eq!(place("upstreams.u.endpoints[1].priority"), ("0".into(), None, false));
        assert_eq!(place("routes[0].path"), ("\"/a\"".into(), Some("8".into()), false));
        assert_eq!(place("admin.address"), ("\"127.0.0.1:9900\"".into(), None, false));
        assert!(shown.iter().all(|shown| !shown.key.starts_with("defaults")), "they are where they apply");
    }

    #[test]
    fn secrets_are_never_shown() {
        let shown = shown(
            "[gateway]\nsecret = [\"0123456789abcdef0123456789abcdef\", \"${file:secret}\"]\n\
             [state.s]\nkind = \"redis\"\nurl = \"redis://me:hunter2@127.0.0.1\"\npassword = \"hunter2\"\n\
             [upstreams.u.discover.etcd]\nservers = [\"127.0.0.1:1\"]\nprefix = \"/${NO_SUCH:-hunter2}/\"\nuser = \"u\"\npassword = \"${file:secret}\"\n\
             [admin]\ntoken = \"hunter2hunter2hunter2${NO_SUCH:-}\"\n\
             [plugins.p]\n[bindings.b]\nplugin = \"p\"\nsettings = { key = \"hunter2\", number = 5, inner = { x = [\"hunter2\"] } }\n\
             [[routes]]\npath = \"/\"\nrespond = { headers = { set-cookie = \"hunter2\", x-api-key = \"hunter2\" } }\n",
        );
        for EffectiveValue { key, value, .. } in &shown {
            let of_a_reference = value.contains("/${NO_SUCH:-hunter2}/");
            assert!(!value.contains("hunter2") || of_a_reference, "{key} = {value}");
            assert!(!value.contains("abcdef"), "{key} = {value}");
        }
        assert_eq!(find(&shown, "upstreams.u.discover.etcd.password").value, "\"${file:secret}\"");
        assert_eq!(find(&shown, "state.s.password").value, HIDDEN);
        assert_eq!(find(&shown, "bindings.b.settings.number").value, "5");
    }
}
