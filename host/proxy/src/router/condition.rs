//! Conditions on methods, header fields and query parameters.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Method, header};
use percent_encoding::percent_decode_str;
use regex::bytes::Regex;
use witgate_config::model::{FieldMatch, GrpcMethod, NamePattern, RouteMatch, ValueMatch};
use witgate_exchange::grpc::details::decode_binary;

/// The parts of a request that the router compares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) method: &'a Method,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
}

/// The conditions of one route, or of one table of a binding, besides host and path.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) methods: Vec<String>,
    headers: Vec<(HeaderName, Value)>,
    query: Vec<(String, Value)>,
    grpc: Option<GrpcMethod>,
    /// A canonical form: the same conditions in any order have the same key.
    pub(super) key: String,
}

/// The condition that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unmet {
    Method,
    Header(String),
    Query(String),
}

/// A compiled condition on a value.
#[derive(Debug)]
pub(super) enum Value {
    Present,
    Absent,
    Exact(String),
    /// A value of binary metadata of gRPC, which stands in base64 with or without padding; several may stand in one field.
    Binary(Vec<u8>),
    Prefix(String),
    Regex(Regex),
}

impl Conditions {
    /// Compiles the conditions of a route.
    ///
    /// # Errors
    /// For each mistake the key under the route, a message and a hint.
    pub(super) fn compile(matches: &RouteMatch) -> Result<Conditions, Vec<(String, String, String)>> {
        let mut wrong = Vec::new();
        for (index, method) in matches.methods.iter().enumerate() {
            if Method::from_bytes(method.as_bytes()).is_err() {
                wrong.push((
                    format!("methods[{index}]"),
                    format!("`{method}` cannot be a method"),
                    "methods are tokens such as `GET`".into(),
                ));
            }
        }
        let headers = compile_fields("headers", &matches.headers, &mut wrong, |name| name.parse().ok());
        let query = compile_fields("query", &matches.query, &mut wrong, |name| Some(name.to_owned()));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let (methods, grpc) = (matches.methods.clone(), matches.grpc.clone());
        Ok(Conditions { methods, headers, query, grpc, key: key(matches) })
    }

    /// The number of conditions on headers, on the query, and on service and method of gRPC.
    pub(super) fn count(&self) -> usize {
        let any = NamePattern::any();
        let named = |pattern: &NamePattern| usize::from(*pattern != any);
        let of_call = self.grpc.as_ref().map_or(0, |grpc| named(&grpc.service) + named(&grpc.method));
        self.headers.len() + self.query.len() + of_call
    }

    /// Whether the method of a request is among those of the route.
    pub(super) fn admits_method(&self, question: &Question<'_>) -> bool {
        let acceptable = acceptable_methods(question);
        self.methods.is_empty() || self.methods.iter().any(|name| acceptable.contains(&Some(name.as_str())))
    }

    /// Whether the method of a request itself, and not one that a preflight announces, is among those of the table.
    pub(super) fn admits_own_method(&self, question: &Question<'_>) -> bool {
        let headers = &HeaderMap::new();
        self.admits_method(&Question { headers, ..*question })
    }

    /// The first header or query condition that does not hold.
    pub(super) fn unmet(&self, question: &Question<'_>) -> Option<Unmet> {
        if self.grpc.as_ref().is_some_and(|grpc| !grpc.matches(question.path)) {
            return Some(Unmet::Method);
        }
        let header = self.headers.iter().find(|(name, value)| {
            let values = question.headers.get_all(name).iter();
            !value.holds(values.map(|value| Cow::Borrowed(value.as_bytes())))
        });
        if let Some((name, _)) = header {
            return Some(Unmet::Header(name.to_string()));
        }
        let parameter =
            self.query.iter().find(|(name, value)| !value.holds(parameters(question.query, name)));
        parameter.map(|(name, _)| Unmet::Query(name.clone()))
    }
}

/// Conditions on the headers of something that is no request yet.
#[derive(Debug)]
pub(crate) struct FieldConditions(Vec<(String, Value)>);

impl FieldConditions {
    /// Compiles them.
    ///
    /// # Errors
    /// The first mistake.
    pub(crate) fn compile(fields: &[FieldMatch]) -> Result<FieldConditions, String> {
        let mut wrong = Vec::new();
        let compiled = compile_fields("headers", fields, &mut wrong, |name| Some(name.to_owned()));
        match wrong.into_iter().next() {
            Some((_, message, _)) => Err(message),
            None => Ok(FieldConditions(compiled)),
        }
    }

    /// Whether all of them hold for these values.
    pub(crate) fn hold<'v>(&self, values: impl Fn(&str) -> Vec<&'v [u8]>) -> bool {
        self.0.iter().all(|(name, value)| value.holds(values(name).into_iter().map(Cow::Borrowed)))
    }
}

impl Value {
    /// Whether any of the values meets the condition.
    pub(super) fn holds<'a>(&self, mut values: impl Iterator<Item = Cow<'a, [u8]>>) -> bool {
        match self {
            Value::Present => values.next().is_some(),
            Value::Absent => values.next().is_none(),
            Value::Exact(text) => values.any(|value| *value == *text.as_bytes()),
            Value::Binary(bytes) => values.any(|value| {
                let mut parts = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                parts.any(|part| decode_binary(part).as_ref() == Some(bytes))
            }),
            Value::Prefix(text) => values.any(|value| value.starts_with(text.as_bytes())),
            Value::Regex(regex) => values.any(|value| regex.is_match(&value)),
        }
    }
}

/// Compiles conditions on named values. Mistakes are added to `wrong`, as for [`Conditions::compile`].
pub(super) fn compile_fields<N>(
    section: &str,
    fields: &[FieldMatch],
    wrong: &mut Vec<(String, String, String)>,
    name_of: impl Fn(&str) -> Option<N>,
) -> Vec<(N, Value)> {
    let mut compiled = Vec::new();
    for field in fields {
        let key = format!("{section}.{}", field.name);
        let Some(name) = name_of(&field.name) else {
            let message = format!("`{}` cannot be the name of a header", field.name);
            wrong.push((key, message, "header names are tokens such as `x-version`".into()));
            continue;
        };
        let value = match &field.value {
            ValueMatch::Exact(text) if section == "headers" && field.name.ends_with("-bin") => {
                let message = format!("`{text}` is not base64, in which binary metadata of gRPC is written");
                let hint = "write the value as the command `base64` prints it";
                decode_binary(text.as_bytes()).map(Value::Binary).ok_or((message, hint))
            }
            value => compile_value(value).map_err(|error| {
                let message = format!("the regular expression of `{}` cannot be used: {error}", field.name);
                (message, "look-around and back-references are not supported: matching takes linear time")
            }),
        };
        match value {
            Ok(value) => compiled.push((name, value)),
            Err((message, hint)) => wrong.push((key, message, hint.into())),
        }
    }
    compiled
}

/// Compiles a condition on a value.
///
/// # Errors
/// Why its regular expression cannot be used.
pub(super) fn compile_value(value: &ValueMatch) -> Result<Value, String> {
    Ok(match value {
        ValueMatch::Present => Value::Present,
        ValueMatch::Absent => Value::Absent,
        ValueMatch::Exact(text) => Value::Exact(text.clone()),
        ValueMatch::Prefix(text) => Value::Prefix(text.clone()),
        ValueMatch::Regex(text) => {
            let whole = format!("^(?:{text})$");
            Value::Regex(Regex::new(&whole).map_err(|error| error.to_string())?)
        }
    })
}

fn key(matches: &RouteMatch) -> String {
    let headers = matches.headers.iter().map(|field| format!("header {field:?}"));
    let query = matches.query.iter().map(|field| format!("query {field:?}"));
    let grpc = matches.grpc.iter().map(|grpc| format!("grpc {grpc:?}"));
    let mut all: Vec<String> = headers.chain(query).chain(grpc).collect();
    all.sort();
    all.join("\n")
}

/// The values of a query parameter, decoded as HTML forms encode them (`+` is a space).
fn parameters<'a>(query: Option<&'a str>, wanted: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    query.unwrap_or_default().split('&').filter_map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (!pair.is_empty() && *form_decode(name) == *wanted.as_bytes()).then(|| form_decode(value))
    })
}

fn form_decode(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        Cow::Owned(percent_decode_str(&text.replace('+', " ")).collect())
    } else {
        percent_decode_str(text).into()
    }
}

/// The methods by which a route may match, the best match first. `HEAD` also matches routes for `GET`; a CORS
/// preflight also matches the route of the request that it announces.
pub(super) fn acceptable_methods<'a>(question: &Question<'a>) -> [Option<&'a str>; 3] {
    match *question.method {
        Method::HEAD => [Some("HEAD"), Some("GET"), None],
        Method::OPTIONS => {
            let asked = question.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
            let asked = asked.filter(|_| question.headers.contains_key(header::ORIGIN));
            match asked.and_then(|asked| asked.to_str().ok()) {
                Some("HEAD") => [Some("OPTIONS"), Some("HEAD"), Some("GET")],
                asked => [Some("OPTIONS"), asked, None],
            }
        }
        ref method => [Some(method.as_str()), None, None],
    }
}
