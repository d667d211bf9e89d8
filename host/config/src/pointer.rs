//! JSON Pointers (RFC 6901), by which values of a configuration are addressed.

use serde_json::{Map, Value};

/// The pointer of a member or element of the value at `parent`.
pub(crate) fn child(parent: &str, segment: &str) -> String {
    format!("{parent}/{}", segment.replace('~', "~0").replace('/', "~1"))
}

/// The pointer of the table or list that contains the value; `None` for the root.
pub(crate) fn parent(pointer: &str) -> Option<&str> {
    pointer.rfind('/').map(|slash| &pointer[..slash])
}

/// Whether `pointer` is `ancestor` or lies within it.
pub(crate) fn within(pointer: &str, ancestor: &str) -> bool {
    pointer.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The segments, unescaped.
pub(crate) fn segments(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~"))
}

/// The pointer in the usual notation, `routes[2].path`. `root` tells elements of lists from keys that look like
/// numbers.
pub(crate) fn dotted(prefix: &str, pointer: &str, root: &Map<String, Value>) -> String {
    let mut dotted = prefix.to_owned();
    let mut at: Option<&Value> = None;
    for (depth, segment) in segments(pointer).enumerate() {
        if let Some(index) = at.and_then(Value::as_array).and(segment.parse::<usize>().ok()) {
            dotted.push_str(&format!("[{index}]"));
            at = at.and_then(|value| value.get(index));
            continue;
        }
        if !dotted.is_empty() {
            dotted.push('.');
        }
        dotted.push_str(&bare_or_quoted(&segment));
        at = if depth == 0 { root.get(&segment) } else { at.and_then(|value| value.get(&segment)) };
    }
    dotted
}

/// A key as TOML writes it.
fn bare_or_quoted(key: &str) -> String {
    let bare = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if bare { key.to_owned() } else { format!("{key:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_read_dots_and_brackets() {
        let root = json!({ "routes": [{}, { "path": 1 }], "headers": { "x/y": { "1": 0 } } });
        let root = root.as_object().expect("a table");
        assert_eq!(dotted("", "/routes/1/path", root), "routes[1].path");
        assert_eq!(dotted("", "/headers/x~1y/1", root), "headers.\"x/y\".1");
        assert_eq!(dotted("bindings.jwt.settings", "/keys", &Map::new()), "bindings.jwt.settings.keys");
        assert_eq!(dotted("settings", "", root), "settings");
    }

    #[test]
    fn a_pointer_lies_within_its_ancestors_only() {
        assert!(within("/routes/1/path", "/routes/1"));
        assert!(within("/routes/1", "/routes/1"));
        assert!(!within("/routes/10", "/routes/1"));
        assert_eq!(child("/headers", "a/b~c"), "/headers/a~1b~0c");
        assert_eq!(segments("/headers/a~1b~0c").last().as_deref(), Some("a/b~c"));
    }
}
