//! The gateway's own log: lines with a level, as JSON or, on a terminal, as text.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::{Map, Value};
use witgate_config::model::LogLevel;

use crate::queue::Line;
use crate::timestamp;

/// One line of the gateway's own log.
#[derive(Debug)]
pub(super) struct LogLine {
    pub(super) time: SystemTime,
    pub(super) level: LogLevel,
    pub(super) message: Cow<'static, str>,
    pub(super) fields: Vec<(&'static str, String)>,
    /// Whether to write text for a terminal instead of JSON.
    pub(super) plain: bool,
}

impl Line for LogLine {
    fn render(&self, out: &mut Vec<u8>) {
        if self.plain {
            out.extend_from_slice(self.text().as_bytes());
        } else {
            serde_json::to_writer(&mut *out, &self.json()).expect("a map with string keys");
        }
        out.push(b'\n');
    }
}

impl LogLine {
    fn json(&self) -> Value {
        let mut line = Map::new();
        line.insert("time".into(), timestamp::rfc3339(self.time).into());
        line.insert("level".into(), word(self.level).into());
        line.insert("message".into(), self.message.as_ref().into());
        for (name, value) in &self.fields {
            line.insert((*name).into(), value.as_str().into());
        }
        Value::Object(line)
    }

    /// The line as text. Control characters are escaped, because values may come from a client or a plugin.
    fn text(&self) -> String {
        let mut text = format!("{} {:5} ", timestamp::rfc3339(self.time), word(self.level).to_uppercase());
        push_printable(&mut text, &self.message);
        for (name, value) in &self.fields {
            let _ = write!(text, " {name}=");
            if value.contains([' ', '"']) || value.is_empty() {
                let _ = write!(text, "{value:?}");
            } else {
                push_printable(&mut text, value);
            }
        }
        text
    }
}

fn push_printable(text: &mut String, more: &str) {
    for character in more.chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(plain: bool) -> String {
        let mut out = Vec::new();
        let fields = vec![("file", "a b".to_owned()), ("why", "bad\u{1b}[31m".to_owned())];
        let time = SystemTime::UNIX_EPOCH;
        LogLine { time, level: LogLevel::Warn, message: "kept".into(), fields, plain }.render(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn plain_lines_cannot_steer_the_terminal() {
        assert_eq!(line(true), "1970-01-01T00:00:00.000000Z WARN  kept file=\"a b\" why=bad\\u{1b}[31m\n");
    }

    #[test]
    fn json_lines_are_json() {
        let value: Value = serde_json::from_str(&line(false)).expect("JSON");
        assert_eq!(value["level"], "warn");
        assert_eq!(value["why"], "bad\u{1b}[31m");
    }
}
