//! The operations of an OpenAPI document (3.0 and 3.1), with the schemas of their bodies.

use std::collections::BTreeMap;

use serde_json::Value;
use witgate_sdk::is_json;

use crate::schema::{Id, Schemas, escaped};
use crate::value::resolve;

/// The operations of a document.
#[derive(Default)]
pub(crate) struct Api {
    paths: Vec<Path>,
}

struct Path {
    segments: Vec<Segment>,
    /// By method, in upper case.
    operations: BTreeMap<String, Operation>,
}

#[derive(PartialEq)]
enum Segment {
    Literal(String),
    /// Text before and after a parameter, which is at least one character long.
    Parameter(String, String),
}

/// One operation.
pub(crate) struct Operation {
    /// The schema of JSON in the request.
    pub(crate) request: Option<Id>,
    /// Whether the request must have a body.
    pub(crate) required: bool,
    /// The schemas of JSON in responses, by status: `200`, `4XX`, `default`.
    responses: BTreeMap<String, Id>,
}

impl Operation {
    /// The schema for a response of a status.
    pub(crate) fn response(&self, status: u16) -> Option<Id> {
        let class = format!("{}XX", status / 100);
        let found = [status.to_string(), class, "default".to_owned()];
        found.iter().find_map(|name| self.responses.get(name)).copied()
    }
}

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

impl Api {
    /// Reads the operations.
    ///
    /// # Errors
    /// The document is not of this form, or a schema cannot be applied.
    pub(crate) fn read(document: &Value, schemas: &mut Schemas) -> Result<Self, String> {
        let version = document["openapi"].as_str().unwrap_or_default();
        if !version.starts_with("3.") {
            return Err(format!("it is of version `{version}` of OpenAPI; 3.0 and 3.1 are known"));
        }
        let Some(paths) = document["paths"].as_object() else { return Err("it has no `paths`".to_owned()) };
        let mut api = Self::default();
        for (template, item) in paths {
            let at = followed(document, format!("/paths/{}", escaped(template)), item)?;
            let item = resolve(document, &at).unwrap_or(item);
            let mut operations = BTreeMap::new();
            for method in METHODS.into_iter().filter(|method| item.get(method).is_some()) {
                let operation = operation(document, &format!("{at}/{method}"), schemas)?;
                operations.insert(method.to_ascii_uppercase(), operation);
            }
            api.paths.push(Path { segments: segments(template), operations });
        }
        // A path with fewer parameters is more specific.
        let parameters = |path: &Path| {
            path.segments.iter().filter(|segment| matches!(segment, Segment::Parameter(..))).count()
        };
        api.paths.sort_by_key(parameters);
        Ok(api)
    }

    /// The operation of a method and a path.
    pub(crate) fn find(&self, method: &str, path: &str) -> Option<&Operation> {
        let wanted: Vec<&str> = path.split('/').collect();
        let fits = |path: &&Path| {
            path.segments.len() == wanted.len()
                && path.segments.iter().zip(&wanted).all(|(segment, text)| match segment {
                    Segment::Literal(literal) => literal == text,
                    Segment::Parameter(before, after) => text
                        .strip_prefix(before.as_str())
                        .and_then(|rest| rest.strip_suffix(after.as_str()))
                        .is_some_and(|value| !value.is_empty()),
                })
        };
        self.paths.iter().filter(fits).find_map(|path| path.operations.get(method))
    }
}

fn segments(template: &str) -> Vec<Segment> {
    let segment = |text: &str| match (text.find('{'), text.rfind('}')) {
        (Some(begin), Some(end)) if begin < end => {
            Segment::Parameter(text[..begin].to_owned(), text[end + 1..].to_owned())
        }
        _ => Segment::Literal(text.to_owned()),
    };
    template.split('/').map(segment).collect()
}

/// The place of a value, behind its references.
fn followed(document: &Value, at: String, value: &Value) -> Result<String, String> {
    let (mut at, mut value) = (at, value);
    for _ in 0..16 {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return Ok(at) };
        let target =
            reference.strip_prefix('#').and_then(|pointer| Some((pointer, resolve(document, pointer)?)));
        let Some((pointer, found)) = target else {
            return Err(format!("`{reference}` in `{at}` is not a place in the document"));
        };
        (at, value) = (pointer.to_owned(), found);
    }
    Err(format!("the references in `{at}` lead in a circle"))
}

fn operation(document: &Value, at: &str, schemas: &mut Schemas) -> Result<Operation, String> {
    let mut operation = Operation { request: None, required: false, responses: BTreeMap::new() };
    let part = |path: String| -> Result<Option<String>, String> {
        resolve(document, &path).map(|value| followed(document, path.clone(), value)).transpose()
    };
    if let Some(body) = part(format!("{at}/requestBody"))? {
        operation.required = resolve(document, &format!("{body}/required")) == Some(&Value::Bool(true));
        operation.request = content(document, &body, schemas)?;
    }
    let responses = resolve(document, &format!("{at}/responses")).and_then(Value::as_object);
    for status in responses.into_iter().flatten().map(|(status, _)| status) {
        if let Some(response) = part(format!("{at}/responses/{}", escaped(status)))?
            && let Some(id) = content(document, &response, schemas)?
        {
            operation.responses.insert(status.to_ascii_uppercase().replace("DEFAULT", "default"), id);
        }
    }
    Ok(operation)
}

/// The schema of JSON among the types of a body.
fn content(document: &Value, at: &str, schemas: &mut Schemas) -> Result<Option<Id>, String> {
    let types = resolve(document, &format!("{at}/content")).and_then(Value::as_object);
    let of_json =
        types.into_iter().flatten().find(|(name, media)| is_json(name) && media.get("schema").is_some());
    match of_json {
        Some((name, _)) => {
            schemas.prepare(document, &format!("{at}/content/{}/schema", escaped(name))).map(Some)
        }
        None => Ok(None),
    }
}
