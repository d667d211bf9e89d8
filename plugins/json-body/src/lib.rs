//! Renames, removes and redacts fields in JSON bodies, of requests, responses or both.
//!
//! For fields that a client must not get or set, and fields whose name has changed. A compressed body is edited,
//! too: the gateway decompresses it first. Everything that is not edited stays the same byte for byte: numbers
//! keep their digits, objects keep their order, and a duplicate field is edited each time.

mod editor;
mod path;

use editor::{DEEPEST, Edits, Unedited, edited};
use path::Pattern;
use std::collections::BTreeMap;
use witgate_sdk::{
    BodyAccess, BodyResult, Chunk, Interest, Plugin, Request, ResponseView, SettingsProblem, Transformation,
    log, metrics, settings, transformation,
};

/// The edits, and what to do with invalid bodies.
#[settings]
struct Settings {
    /// Edits of request bodies.
    #[serde(default)]
    request: Rules,
    /// Edits of response bodies.
    #[serde(default)]
    response: Rules,
    /// The text that replaces a redacted value.
    #[serde(default = "default_redacted")]
    redacted: String,
    /// What happens to a body that is declared as JSON and is not valid JSON.
    #[serde(default)]
    invalid: Invalid,
}

/// Edits of requests or responses. Fields are named by JSON Pointers (RFC 6901) in which `*` is any member or
/// element and `**` is any depth: `/password`, `/users/*/email`, `/**/token`.
#[settings]
#[derive(Default)]
struct Rules {
    /// Fields to remove.
    #[serde(default)]
    remove: Vec<String>,
    /// Fields whose values are replaced.
    #[serde(default)]
    redact: Vec<String>,
    /// Fields to rename, and their new names.
    #[serde(default)]
    rename: BTreeMap<String, String>,
}

/// What happens to a body that is declared as JSON and is not valid JSON, so that no field can be found in it.
#[settings]
#[derive(Clone, Copy, Default, PartialEq)]
enum Invalid {
    /// The body is replaced by `null`, because a body that cannot be edited must not pass.
    #[default]
    Withhold,
    /// The body passes unchanged.
    Pass,
}

fn default_redacted() -> String {
    "[redacted]".to_owned()
}

/// The plugin: rules with parsed paths.
struct JsonBody {
    request: Edits,
    response: Edits,
    invalid: Invalid,
}

impl Plugin for JsonBody {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let mut problems = Vec::new();
        let request = settings.request.edits("/request", &settings.redacted, &mut problems);
        let response = settings.response.edits("/response", &settings.redacted, &mut problems);
        if problems.is_empty() && request.is_empty() && response.is_empty() {
            problems.push(SettingsProblem::new("", "nothing is edited: add a rule, or remove the binding"));
        }
        if problems.is_empty() {
            Ok(Self { request, response, invalid: settings.invalid })
        } else {
            Err(problems)
        }
    }
}

impl Rules {
    fn edits(self, pointer: &str, redacted: &str, problems: &mut Vec<SettingsProblem>) -> Edits {
        let mut parse = |place: String, text: &str| {
            Pattern::parse(text)
                .map_err(|message| problems.push(SettingsProblem::new(format!("{pointer}/{place}"), message)))
                .ok()
        };
        let mut list = |field: &str, texts: &[String]| -> Vec<Pattern> {
            let texts = texts.iter().enumerate();
            texts.filter_map(|(index, text)| parse(format!("{field}/{index}"), text)).collect()
        };
        let (remove, redact) = (list("remove", &self.remove), list("redact", &self.redact));
        let rename = self
            .rename
            .iter()
            .filter_map(|(text, name)| {
                let place = format!("rename/{}", text.replace('~', "~0").replace('/', "~1"));
                Some((parse(place, text)?, quoted(name)))
            })
            .collect();
        Edits { remove, redact, rename, redacted: quoted(redacted) }
    }
}

/// Text as a JSON string.
fn quoted(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

#[transformation]
impl Transformation for JsonBody {
    fn interest(&self) -> Interest {
        let access = |edits: &Edits| if edits.is_empty() { BodyAccess::None } else { BodyAccess::Buffered };
        Interest::none().request_body(access(&self.request)).response_body(access(&self.response))
    }

    fn on_request_body(&self, chunk: Chunk, request: &Request) -> BodyResult {
        self.edit(&self.request, request.values("content-type").any(is_json), &chunk.content)
    }

    fn on_response_body(&self, chunk: Chunk, response: &ResponseView, _: &Request) -> BodyResult {
        self.edit(&self.response, response.values("content-type").any(is_json), &chunk.content)
    }
}

impl JsonBody {
    /// # Panics
    /// If the body may be JSON and cannot be read, because then neither the body nor a replacement is right. A panic
    /// is how a body function of this contract fails: the binding's `on_failure` decides.
    fn edit(&self, edits: &Edits, is_json: bool, content: &[u8]) -> BodyResult {
        if content.is_empty() || !is_json {
            return BodyResult::unchanged();
        }
        match edited(content, edits) {
            Ok(Some(output)) => BodyResult::replace(output),
            Ok(None) => BodyResult::unchanged(),
            Err(Unedited::TooDeep(at)) => {
                metrics::count("too_deep", 1);
                panic!("a JSON body nests deeper than {DEEPEST} at byte {at}, so it cannot be edited");
            }
            Err(Unedited::NotJson(at)) => {
                metrics::count("invalid_json", 1);
                log::warn(format_args!("a body is not JSON at byte {at}"));
                match self.invalid {
                    Invalid::Withhold => BodyResult::replace("null"),
                    Invalid::Pass => BodyResult::unchanged(),
                }
            }
        }
    }
}

/// Whether a value of `Content-Type` is `application/json` or ends in `+json` (RFC 6839 section 3.1). Its parameters
/// may be any bytes. Where there are several values, any of them may be the one that another program uses.
fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii().to_ascii_lowercase();
    matches!(essence.as_slice(), b"application/json" | b"text/json") || essence.ends_with(b"+json")
}

#[cfg(test)]
mod tests;
