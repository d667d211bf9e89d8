//! Refuses JSON bodies that do not fit a JSON Schema, or the operation of an OpenAPI document.
//!
//! Requests are refused with a problem document that says what does not fit where. Responses are reported, or withheld.

mod api;
mod check;
mod schema;
mod strict;
mod value;

use api::{Api, Operation};
use check::{Misfit, check};
use schema::{Id, Schemas};
use serde_json::{Value, json};
use witgate_sdk::{
    Body, BodyAccess, BodyResult, Chunk, Function, Interest, Plugin, Problem, Reading, RefusalByBody,
    Request, Response, ResponseView, SettingsProblem, Transformation, data, is_json, log, metrics, settings,
};

/// Where the schema is, and what is checked.
#[settings]
struct Settings {
    /// The file under `[data]` with a JSON Schema or an OpenAPI document, in JSON; the binding's `data` grant must list it.
    document: Option<String>,
    /// A JSON Schema in the settings, in place of a file.
    schema: Option<Value>,
    /// Where the schema is in the document: a JSON Pointer. Not for OpenAPI documents.
    #[serde(default)]
    pointer: String,
    /// What of a path comes before the paths of the OpenAPI document, e.g. `/v1`.
    #[serde(default)]
    base_path: String,
    /// What is done with requests that the OpenAPI document does not describe.
    #[serde(default)]
    undescribed: Undescribed,
    /// Whether requests by POST, PUT and PATCH must have a body; in OpenAPI documents, operations say so.
    #[serde(default = "yes")]
    required: bool,
    /// What is done with responses that do not fit.
    #[serde(default)]
    responses: Responses,
    /// The longest body of a request in bytes. The binding's `budget.body_limit` limits it, too.
    #[serde(default = "default_max_body")]
    #[schemars(range(min = 1, max = 16_777_216))]
    max_body: u32,
    /// How deep lists and objects may lie in each other.
    #[serde(default = "default_max_depth")]
    #[schemars(range(min = 1, max = 100))]
    max_depth: u32,
    /// The most errors that a problem document lists.
    #[serde(default = "default_max_errors")]
    #[schemars(range(min = 1, max = 50))]
    max_errors: u32,
}

/// What is done with requests that the OpenAPI document does not describe.
#[settings]
#[derive(Clone, Copy, Default, PartialEq)]
enum Undescribed {
    /// They pass unchecked.
    #[default]
    Pass,
    /// They are answered with 404.
    Refuse,
}

/// What is done with responses that do not fit.
#[settings]
#[derive(Clone, Copy, Default, PartialEq)]
enum Responses {
    /// They are not looked at.
    #[default]
    Off,
    /// They are counted, and the log says what does not fit.
    Report,
    /// In addition, a problem document takes the place of the body. The status stays, because it has been sent by then.
    Withhold,
}

fn yes() -> bool {
    true
}

fn default_max_body() -> u32 {
    1 << 20
}

fn default_max_depth() -> u32 {
    64
}

fn default_max_errors() -> u32 {
    10
}

/// What bodies must fit.
enum Subject {
    /// One schema, for all bodies.
    Schema(Id),
    /// The operations of an OpenAPI document.
    Api(Api),
}

/// The plugin.
struct JsonSchema {
    schemas: Schemas,
    subject: Subject,
    base_path: String,
    undescribed: Undescribed,
    required: bool,
    responses: Responses,
    max_body: u32,
    max_depth: u32,
    max_errors: usize,
}

impl Plugin for JsonSchema {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let problem = |pointer: &str, message: String| vec![SettingsProblem::new(pointer, message)];
        let (place, document) = match (&settings.document, settings.schema) {
            (None, Some(schema)) => ("/schema", schema),
            (Some(name), None) => {
                let bytes =
                    data::file(name).bytes().map_err(|error| problem("/document", error.to_string()))?;
                let document = serde_json::from_slice(&bytes).map_err(|error| {
                    problem("/document", format!("the file is not JSON (write YAML as JSON): {error}"))
                })?;
                ("/document", document)
            }
            _ => return Err(problem("", "write either `document` or `schema`".to_owned())),
        };
        if !settings.base_path.is_empty()
            && (!settings.base_path.starts_with('/') || settings.base_path.ends_with('/'))
        {
            return Err(problem(
                "/base_path",
                "a base path begins with `/` and does not end with it".to_owned(),
            ));
        }
        let mut schemas = Schemas::default();
        let subject = if document.get("openapi").is_some() && settings.pointer.is_empty() {
            Api::read(&document, &mut schemas).map(Subject::Api)
        } else {
            schemas.prepare(&document, &settings.pointer).map(Subject::Schema)
        };
        let subject = subject.map_err(|why| problem(place, why))?;
        let Settings { base_path, undescribed, required, responses, max_body, max_depth, .. } = settings;
        let max_errors = usize::try_from(settings.max_errors.max(1)).unwrap_or(1);
        Ok(Self {
            schemas,
            subject,
            base_path,
            undescribed,
            required,
            responses,
            max_body,
            max_depth,
            max_errors,
        })
    }
}

impl RefusalByBody for JsonSchema {
    fn interest(&self) -> Interest {
        Interest::none().request_headers(["content-type"])
    }

    fn reads(&self) -> Reading {
        Reading::whole(self.max_body).decoded()
    }

    fn refuse_by_body(&self, body: &Body, request: &Request) -> Option<Response> {
        let (schema, required) = match self.operation(request) {
            Ok(Some(operation)) => (operation.request?, operation.required),
            Ok(None) => {
                let Subject::Schema(id) = self.subject else { return None };
                (id, self.required && ["POST", "PUT", "PATCH"].contains(&request.method()))
            }
            Err(refusal) => return Some(refusal),
        };
        if body.bytes.is_empty() {
            return required.then(|| malformed("a body is expected"));
        }
        if !request.values("content-type").only().is_some_and(is_json) {
            let problem =
                Problem::fault(415, "unsupported-media-type", "The type of the body is not supported");
            return Some(
                problem.detail("this service expects JSON: `Content-Type: application/json`").into(),
            );
        }
        match strict::parse(&body.bytes, self.max_depth) {
            Err(why) => Some(malformed(&format!("the body is not usable JSON: {why}"))),
            Ok(value) => self.misfits(schema, &value).map(Response::from),
        }
    }
}

impl Transformation for JsonSchema {
    fn interest(&self) -> Interest {
        // Heads of requests are left as they are, which the gateway remembers.
        let interest = Interest::none().pure(Function::OnRequest, []);
        if self.responses == Responses::Off { interest } else { interest.response_body(BodyAccess::Buffered) }
    }

    fn on_response_body(&self, chunk: Chunk, response: &ResponseView, request: &Request) -> BodyResult {
        // The gateway's own responses are no concern of the upstream's schema.
        if response.is_local() || !response.header("content-type").is_some_and(is_json) {
            return BodyResult::unchanged();
        }
        let schema = match (&self.subject, self.operation(request)) {
            (Subject::Schema(id), _) => Some(*id),
            (Subject::Api(_), Ok(Some(operation))) => operation.response(response.status()),
            (Subject::Api(_), _) => None,
        };
        let Some(schema) = schema else { return BodyResult::unchanged() };
        let why = match strict::parse(&chunk.content, self.max_depth) {
            Err(why) => Some(why),
            Ok(value) => {
                let found = check(&self.schemas, schema, &value, 1);
                found.misfits.first().map(|misfit| format!("`{}`: {}", misfit.pointer, misfit.message))
            }
        };
        let Some(why) = why else { return BodyResult::unchanged() };
        metrics::count("responses_that_do_not_fit", 1);
        log::warn(format_args!("a response to {} {} does not fit: {why}", request.method(), request.path()));
        if self.responses == Responses::Report {
            return BodyResult::unchanged();
        }
        let problem = json!({
            "type": "urn:witgate:fault:upstream-protocol", "code": "upstream-protocol",
            "title": "The response does not fit its schema",
        });
        BodyResult::replace(problem.to_string())
    }
}

witgate_sdk::export!(JsonSchema: RefusalByBody, Transformation);

impl JsonSchema {
    /// The operation of a request; `None` if there is none, or nothing describes operations.
    fn operation(&self, request: &Request) -> Result<Option<&Operation>, Response> {
        let Subject::Api(api) = &self.subject else { return Ok(None) };
        let path = request.path().strip_prefix(self.base_path.as_str());
        match path.and_then(|path| api.find(request.method(), path)) {
            None if self.undescribed == Undescribed::Refuse => {
                let problem = Problem::fault(404, "no-route", "No route matches");
                Err(problem.detail("the description of this service has no such operation").into())
            }
            found => Ok(found),
        }
    }

    /// The problem with a value; `None` if it fits.
    fn misfits(&self, schema: Id, value: &Value) -> Option<Problem> {
        let found = check(&self.schemas, schema, value, self.max_errors);
        if found.misfits.is_empty() {
            return None;
        }
        let error = |misfit: &Misfit| json!({ "pointer": misfit.pointer, "message": misfit.message });
        let errors: Vec<Value> = found.misfits.iter().map(error).collect();
        let problem =
            Problem::fault(422, "schema-mismatch", "The body does not fit its schema").with("errors", errors);
        Some(if found.more { problem.with("more_errors", true) } else { problem })
    }
}

fn malformed(detail: &str) -> Response {
    Problem::fault(400, "bad-request", "The request is malformed or ambiguous").detail(detail).into()
}

#[cfg(test)]
mod tests;
