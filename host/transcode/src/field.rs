//! Sets fields of messages from texts: variables of paths and query parameters.

use bytes::Bytes;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};
use witgate_exchange::grpc::details::{decode_binary, decode_binary_url};

/// The most messages that contain one another in the path of a field.
const DEEPEST: usize = 32;
/// The most values of a repeated field.
const MOST: usize = 10_000;

/// The field with this path of names, each as in the source file or in camel case.
///
/// # Errors
/// Which part of the path there is not.
pub(crate) fn find<S: AsRef<str>>(
    message: &MessageDescriptor,
    path: &[S],
) -> Result<FieldDescriptor, String> {
    let mut message = message.clone();
    let (last, containers) = path.split_last().ok_or("there is no name")?;
    if path.len() > DEEPEST {
        return Err(format!("a path has at most {DEEPEST} names"));
    }
    for name in containers {
        let field = named(&message, name.as_ref())?;
        message = match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => inner,
            _ => return Err(format!("the field `{}` has no fields", name.as_ref())),
        };
    }
    named(&message, last.as_ref())
}

fn named(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    let found = message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name));
    found.ok_or_else(|| format!("`{}` has no field `{name}`", message.full_name()))
}

/// Sets the field with this path from a text; a value is added to those that a repeated field has.
///
/// # Errors
/// Why the text cannot be the value of the field.
pub(crate) fn set<S: AsRef<str>>(message: &mut DynamicMessage, path: &[S], text: &str) -> Result<(), String> {
    let field = find(&message.descriptor(), path)?;
    if field.is_map() {
        return Err("a map cannot be set from a text".to_owned());
    }
    let value = value(&field.kind(), text)?;
    let mut message = message;
    for name in &path[..path.len() - 1] {
        let container = named(&message.descriptor(), name.as_ref())?;
        message = message.get_field_mut(&container).as_message_mut().ok_or("it has no fields")?;
    }
    if !field.is_list() {
        message.set_field(&field, value);
        return Ok(());
    }
    let list = message.get_field_mut(&field).as_list_mut().ok_or("it is no list")?;
    if list.len() >= MOST {
        return Err(format!("it has more than {MOST} values"));
    }
    list.push(value);
    Ok(())
}

/// The value of a text for a field of this kind.
fn value(kind: &Kind, text: &str) -> Result<Value, String> {
    let wrong = || format!("`{}` is not a valid {}", shortened(text), name(kind));
    let parsed = match kind {
        Kind::String => Some(Value::String(text.to_owned())),
        Kind::Bool => text.parse().ok().map(Value::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => text.parse().ok().map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => text.parse().ok().map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => text.parse().ok().map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => text.parse().ok().map(Value::U64),
        Kind::Float => float(text).map(|number| Value::F32(number as f32)),
        Kind::Double => float(text).map(Value::F64),
        Kind::Bytes => {
            let bytes = decode_binary(text.as_bytes()).or_else(|| decode_binary_url(text.as_bytes()));
            bytes.map(|bytes| Value::Bytes(Bytes::from(bytes)))
        }
        Kind::Enum(kind) => number(kind, text).map(Value::EnumNumber),
        Kind::Message(message) => return well_known(message, text).ok_or_else(wrong),
    };
    parsed.ok_or_else(wrong)
}

/// A number; of words only those of JSON's mapping.
fn float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        text if text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) => {
            text.parse().ok()
        }
        _ => None,
    }
}

/// The number of an enum's value, given by name or number.
fn number(kind: &EnumDescriptor, text: &str) -> Option<i32> {
    kind.get_value_by_name(text).map(|value| value.number()).or_else(|| text.parse().ok())
}

/// A message that JSON writes as a text or number: times, field masks and wrappers.
fn well_known(message: &MessageDescriptor, text: &str) -> Option<Value> {
    let json = match message.full_name() {
        "google.protobuf.BoolValue" => serde_json::Value::Bool(text.parse().ok()?),
        name if name.starts_with("google.protobuf.") => serde_json::Value::String(text.to_owned()),
        _ => return None,
    };
    DynamicMessage::deserialize(message.clone(), json).ok().map(Value::Message)
}

fn name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => format!("`{}`", message.full_name()),
        Kind::Enum(kind) => format!("`{}`", kind.full_name()),
        other => format!("{other:?}").to_ascii_lowercase(),
    }
}

/// At most 64 characters of a text, for messages.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
