//! The message of a call, made of the path, the query and the body of a request.

use percent_encoding::percent_decode_str;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor};
use witgate_exchange::fault::{Fault, FaultKind};

use crate::bindings::{Binding, BodyField};
use crate::field;
use crate::template::Variable;

/// The most query parameters.
const PARAMETERS: usize = 1000;

/// The message of a call.
///
/// # Errors
/// `BadRequest`, which names the field that is wrong.
pub(crate) fn message(
    binding: &Binding,
    variables: &[(&Variable, String)],
    query: Option<&str>,
    body: &[u8],
    ignore_unknown: bool,
) -> Result<DynamicMessage, Fault> {
    let mut message = match &binding.body {
        BodyField::Message if !body.is_empty() => read(&binding.call.input(), body)?,
        _ => DynamicMessage::new(binding.call.input()),
    };
    if let BodyField::Field(field) = &binding.body
        && !body.is_empty()
    {
        let json: serde_json::Value = serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
        let whole = serde_json::json!({ field.json_name(): json });
        let mut whole = from(&binding.call.input(), whole)?;
        if let Some(value) = whole.take_field(field) {
            message.set_field(field, value);
        }
    }
    let of_path = |name: &[&str]| variables.iter().any(|(variable, _)| variable.path == name);
    let pairs = || query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    if pairs().count() > PARAMETERS {
        return Err(bad(format!("the query has more than {PARAMETERS} parameters")));
    }
    for pair in pairs() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name), decode(value));
        let path: Vec<&str> = name.split('.').collect();
        let known = field::find(&binding.call.input(), &path);
        let free = match &binding.body {
            BodyField::Nothing => true,
            BodyField::Message => false,
            BodyField::Field(field) => path[0] != field.name() && path[0] != field.json_name(),
        };
        match known {
            Ok(_) if free && !of_path(&path) => field::set(&mut message, &path, &value)
                .map_err(|why| bad(format!("the query parameter `{name}`: {why}")))?,
            _ if ignore_unknown => {}
            Ok(_) => return Err(bad(format!("the query parameter `{name}` is set by the path or the body"))),
            Err(why) => return Err(bad(format!("the query parameter `{name}`: {why}"))),
        }
    }
    for (variable, text) in variables {
        let path = &variable.path;
        let set = field::set(&mut message, path, text);
        set.map_err(|why| bad(format!("the field `{}` of the path: {why}", path.join("."))))?;
    }
    Ok(message)
}

/// A message as JSON.
///
/// # Errors
/// `BadRequest` with the path of the field that is wrong.
pub(crate) fn read(kind: &MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, Fault> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
    let message = DynamicMessage::deserialize_with_options(kind.clone(), tracked, &OPTIONS);
    let message = message.map_err(|error| at(&track.path(), &error))?;
    deserializer.end().map_err(|error| bad(error.to_string()))?;
    Ok(message)
}

fn from(kind: &MessageDescriptor, json: serde_json::Value) -> Result<DynamicMessage, Fault> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(json, &mut track);
    DynamicMessage::deserialize_with_options(kind.clone(), tracked, &OPTIONS)
        .map_err(|error| at(&track.path(), &error))
}

const OPTIONS: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(true);

fn at(path: &serde_path_to_error::Path, error: &serde_json::Error) -> Fault {
    match path.to_string().as_str() {
        "." => bad(error.to_string()),
        path => bad(format!("the field `{path}`: {error}")),
    }
}

fn bad(detail: String) -> Fault {
    Fault::new(FaultKind::BadRequest).detail(detail)
}

/// Decodes a part of a query as HTML forms encode it: `+` is a space.
fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}
