//! Formats a line of the access log for the author of a plugin.

use serde_json::Value;

/// Describes a request and the plugin calls in it. A line that does not belong to the access log is returned
/// unchanged.
pub(super) fn tell(line: &str) -> String {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return format!("{line}\n") };
    let word = |key: &str| line[key].as_str().unwrap_or_default();
    let mut told = format!("{} {} -> {}", word("method"), word("path"), line["status"]);
    if !word("fault").is_empty() {
        told.push_str(&format!(" ({})", word("fault")));
    }
    if !word("subject").is_empty() {
        told.push_str(&format!(" as {}", word("subject")));
    }
    for call in line["plugins"].as_array().into_iter().flatten() {
        let phase = call["phase"].as_str().unwrap_or_default();
        told.push_str(&format!("  {phase} {} microseconds", call["us"]));
        if let Some(failure) = call["failure"].as_str() {
            told.push_str(&format!(" FAILED: {failure}"));
        }
    }
    told.push('\n');
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_with_their_microseconds() {
        let line = r#"{"method":"GET","path":"/a","status":401,"fault":"unauthenticated",
            "plugins":[{"binding":"plugin","phase":"authentication","us":12}]}"#;
        assert_eq!(tell(line), "GET /a -> 401 (unauthenticated)  authentication 12 microseconds\n");
        assert_eq!(tell("not JSON"), "not JSON\n");
    }
}
