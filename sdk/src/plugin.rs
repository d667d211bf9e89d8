//! What a plugin keeps between calls: its settings, or a value prepared from them.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::bindings::lifecycle::exports::witgate::plugin::lifecycle::PureFunction;
pub use crate::bindings::lifecycle::exports::witgate::plugin::lifecycle::{
    BodyAccess, Function, Interest, SettingsProblem,
};
use crate::request::Input;

/// Typed settings of a binding. Implemented by [`#[settings]`](macro@crate::settings).
pub trait Settings: DeserializeOwned + JsonSchema + 'static {
    /// Problems with values that have the right type, e.g. a percentage over 100. Empty if there are none.
    fn problems(&self) -> Vec<SettingsProblem> {
        Vec::new()
    }
}

/// One configured instance of a plugin.
///
/// Plain settings are a plugin by themselves. Implement this for a type of your own to prepare something once
/// rather than in each call: parse keys, split templates, build tables.
pub trait Plugin: Sized + 'static {
    /// The settings it is made from.
    type Settings: Settings;

    /// Prepares the instance. Called once, before any request.
    ///
    /// # Errors
    /// Problems with the settings; the gateway reports each of them with file and line, and does not put the
    /// plugin into service.
    fn configure(settings: Self::Settings) -> Result<Self, Vec<SettingsProblem>>;
}

impl<S: Settings> Plugin for S {
    type Settings = S;

    fn configure(settings: S) -> Result<S, Vec<SettingsProblem>> {
        Ok(settings)
    }
}

/// The settings of a plugin that has none: only an empty table is accepted.
#[crate::settings]
pub struct NoSettings {}

impl SettingsProblem {
    /// A problem with the value at `pointer`, a JSON Pointer (RFC 6901) such as `/keys/0/id`.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

impl Interest {
    /// Reads only method, path, query and authority.
    #[must_use]
    pub fn none() -> Self {
        Self {
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            request_body: BodyAccess::None,
            response_body: BodyAccess::None,
            response: false,
            authenticates_by: None,
            pure: Vec::new(),
        }
    }

    /// Requests that these request headers are passed with each call. At most 64 in all; the case of names does
    /// not matter.
    #[must_use]
    pub fn request_headers<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        declare(&mut self.request_headers, names);
        self
    }

    /// Requests that these response headers are passed with `on_response`. At most 64 in all; the case of names
    /// does not matter.
    #[must_use]
    pub fn response_headers<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        declare(&mut self.response_headers, names);
        self
    }

    /// Requests the request body.
    #[must_use]
    pub fn request_body(mut self, access: BodyAccess) -> Self {
        self.request_body = access;
        self
    }

    /// Requests the response body.
    #[must_use]
    pub fn response_body(mut self, access: BodyAccess) -> Self {
        self.response_body = access;
        self
    }

    /// Requests a call with the head of each response.
    #[must_use]
    pub fn response(mut self) -> Self {
        self.response = true;
        self
    }

    /// Passes only these inputs with `authenticate`, which is cheaper than passing all. Reading another one is a
    /// call to the gateway. An acceptance that is [`cacheable_for`](crate::Acceptance::cacheable_for) some time is
    /// based on these inputs.
    #[must_use]
    pub fn authenticates_by(mut self, inputs: impl IntoIterator<Item = Input>) -> Self {
        self.authenticates_by = Some(inputs.into_iter().collect());
        self
    }

    /// Promises that the result of a function depends only on the settings and these inputs (no inputs: the result
    /// is always the same), so that the gateway may remember its results. The result of `on_response` may also
    /// depend on the status, the declared response headers, the context, and whether the gateway made the
    /// response.
    ///
    /// ```
    /// use witgate_sdk::{Function, Input, Interest};
    ///
    /// let interest = Interest::none()
    ///     .request_headers(["x-tenant"])
    ///     .pure(Function::Route, [Input::header("x-tenant"), Input::Path])
    ///     .pure(Function::OnResponse, []);
    /// assert_eq!(interest.pure.len(), 2);
    /// ```
    #[must_use]
    pub fn pure(mut self, function: Function, inputs: impl IntoIterator<Item = Input>) -> Self {
        let mut named = Vec::new();
        for input in inputs {
            if !named.contains(&input) {
                named.push(input);
            }
        }
        self.pure.push(PureFunction { function, inputs: named });
        self
    }

    /// The inputs that a function declared; `None`: its result may depend on anything.
    pub(crate) fn inputs(&self, function: Function) -> Option<&[Input]> {
        self.pure.iter().find(|known| known.function == function).map(|known| known.inputs.as_slice())
    }

    /// Combines two interests, for a plugin with several contracts. Only transformation declares bodies, so two
    /// kinds of access never conflict.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let either = |ours, theirs| {
            if ours == BodyAccess::None { theirs } else { ours }
        };
        Self {
            request_body: either(self.request_body, other.request_body),
            response_body: either(self.response_body, other.response_body),
            response: self.response || other.response,
            authenticates_by: self.authenticates_by.clone().or(other.authenticates_by),
            pure: [self.pure.clone(), other.pure].concat(),
            ..self.request_headers(other.request_headers).response_headers(other.response_headers)
        }
    }
}

fn declare<N: AsRef<str>>(declared: &mut Vec<String>, names: impl IntoIterator<Item = N>) {
    for name in names {
        let name = name.as_ref();
        if !declared.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            declared.push(name.to_ascii_lowercase());
        }
    }
}

/// Reads and prepares the settings of one binding. Empty text counts as an empty table.
pub(crate) fn configure<P: Plugin>(settings: &str) -> Result<P, Vec<SettingsProblem>> {
    let settings = if settings.trim().is_empty() { "{}" } else { settings };
    let mut json = serde_json::Deserializer::from_str(settings);
    let settings: P::Settings = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(error.path().iter());
        vec![SettingsProblem { pointer, message: without_position(&error.into_inner().to_string()) }]
    })?;
    let problems = settings.problems();
    if problems.is_empty() { P::configure(settings) } else { Err(problems) }
}

/// The JSON Schema of a plugin's settings, as text.
pub(crate) fn schema<P: Plugin>() -> String {
    schemars::schema_for!(P::Settings).as_value().to_string()
}

fn pointer<'a>(segments: impl Iterator<Item = &'a Segment>) -> String {
    let mut pointer = String::new();
    for segment in segments {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key: name } | Segment::Enum { variant: name } => {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => break,
        }
    }
    pointer
}

/// Removes line and column: they refer to the JSON text, which the operator did not write.
fn without_position(message: &str) -> String {
    message.split_once(" at line ").map_or(message, |(text, _)| text).to_owned()
}
