//! What a plugin keeps between calls: its settings, or what it prepared from them.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::bindings::lifecycle::exports::witgate::plugin::lifecycle::PureFunction;
pub use crate::bindings::lifecycle::exports::witgate::plugin::lifecycle::{
    BodyAccess, Function, Interest, SettingsProblem,
};
use crate::request::Input;

/// Typed settings of a binding. Written with [`#[settings]`](macro@crate::settings), which derives what is needed.
pub trait Settings: DeserializeOwned + JsonSchema + 'static {
    /// What is wrong with values that have the right type, e.g. a percentage over 100. Empty if nothing is.
    fn problems(&self) -> Vec<SettingsProblem> {
        Vec::new()
    }
}

/// One configured instance of a plugin.
///
/// Plain settings are a plugin by themselves. Implement this for a type of your own when something should be prepared
/// once rather than in each call: keys parsed, templates split, tables built.
pub trait Plugin: Sized + 'static {
    /// The settings it is made from.
    type Settings: Settings;

    /// Prepares the instance. Called once, before any request.
    ///
    /// # Errors
    /// What is wrong with the settings; the gateway shows each problem with file and line, and keeps the plugin out of
    /// service.
    fn configure(settings: Self::Settings) -> Result<Self, Vec<SettingsProblem>>;
}

impl<S: Settings> Plugin for S {
    type Settings = S;

    fn configure(settings: S) -> Result<S, Vec<SettingsProblem>> {
        Ok(settings)
    }
}

/// The settings of a plugin that has none: anything but an empty table is refused.
#[crate::settings]
pub struct NoSettings {}

impl SettingsProblem {
    /// A problem with the value at `pointer`, a JSON Pointer (RFC 6901) such as `/keys/0/id`.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

impl Interest {
    /// Looks at nothing but method, path, query and authority.
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

    /// Has these request headers come in with each call. At most 64 in all; the case of names does not matter.
    #[must_use]
    pub fn request_headers<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        declare(&mut self.request_headers, names);
        self
    }

    /// Has these response headers come in with `on_response`. At most 64 in all; the case of names does not matter.
    #[must_use]
    pub fn response_headers<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        declare(&mut self.response_headers, names);
        self
    }

    /// Asks for the request body.
    #[must_use]
    pub fn request_body(mut self, access: BodyAccess) -> Self {
        self.request_body = access;
        self
    }

    /// Asks for the response body.
    #[must_use]
    pub fn response_body(mut self, access: BodyAccess) -> Self {
        self.response_body = access;
        self
    }

    /// Asks for a call with the head of each response.
    #[must_use]
    pub fn response(mut self) -> Self {
        self.response = true;
        self
    }

    /// Has only these inputs come in with `authenticate`, which is cheaper than everything. What else it reads is asked of
    /// the gateway. An acceptance that is [`cacheable_for`](crate::Acceptance::cacheable_for) some time is based on these.
    #[must_use]
    pub fn authenticates_by(mut self, inputs: impl IntoIterator<Item = Input>) -> Self {
        self.authenticates_by = Some(inputs.into_iter().collect());
        self
    }

    /// Promises that a function answers by nothing but the settings and these inputs (none: it always answers the same),
    /// so that the gateway may use its answers again. `on_response` goes in addition by the status, the declared response
    /// headers, the context, and whether the gateway made the response.
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

    /// What a function said that it answers by; none: by anything.
    pub(crate) fn inputs(&self, function: Function) -> Option<&[Input]> {
        self.pure.iter().find(|known| known.function == function).map(|known| known.inputs.as_slice())
    }

    /// Both interests in one, for a plugin with several contracts. Only transformation declares bodies, so there is
    /// never a choice between two kinds of access.
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

/// Cuts the line and column off: they belong to the JSON text, which the operator never wrote.
fn without_position(message: &str) -> String {
    message.split_once(" at line ").map_or(message, |(text, _)| text).to_owned()
}
