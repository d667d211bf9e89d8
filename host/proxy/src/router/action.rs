//! What a route does with a request: responds by itself, redirects, or forwards.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use witgate_config::model::{Action, Forward, Rewrite};

use super::pattern::{Pattern, decode};
use super::route::Route;
use super::split::Split;
use super::template::Template;
use crate::body::Body;
use crate::fault::{Fault, FaultKind};
use crate::head::RequestHead;

/// Where a forwarding route sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardTarget {
    /// The upstream, chosen by weight.
    pub upstream: Arc<str>,
    /// The path and query for the upstream; `None` leaves them as they are.
    pub target: Option<PathAndQuery>,
}

/// A compiled action.
#[derive(Debug)]
pub(super) enum Prepared {
    Forward { split: Split, rewrite: PreparedRewrite },
    Redirect { status: StatusCode, location: Template },
    Respond { status: StatusCode, headers: HeaderMap, body: Bytes },
}

/// A compiled rewrite.
#[derive(Debug)]
pub(super) enum PreparedRewrite {
    Keep,
    /// These decoded segments are removed from the beginning.
    Strip(Vec<String>),
    Template(Template),
}

/// A mistake in the configuration: the key under the route, a message and a hint.
type Mistake = (&'static str, String, String);

impl Prepared {
    /// Compiles the action of a route with this path pattern.
    ///
    /// # Errors
    /// The first mistake.
    pub(super) fn compile(action: &Action, pattern: &Pattern) -> Result<Prepared, Mistake> {
        match action {
            Action::Forward(forward) => compile_forward(forward, pattern),
            Action::Redirect { status, location } => {
                let location = Template::parse(location, pattern);
                let location = location.map_err(|(message, hint)| ("redirect", message, hint))?;
                Ok(Prepared::Redirect { status: compile_status("redirect", *status)?, location })
            }
            Action::Respond { status, headers, body } => compile_answer(*status, headers, body),
        }
    }
}

impl Route {
    /// The response of a route that redirects or responds by itself; `None` for one that forwards.
    pub fn local_answer(&self, head: &RequestHead) -> Option<Response<Body>> {
        match &self.rule.action {
            Prepared::Forward { .. } => None,
            Prepared::Redirect { status, location } => {
                let location = location.fill(head.path(), head.query(), head.host());
                Some(redirect(*status, location))
            }
            Prepared::Respond { status, headers, body } => {
                let mut response = Response::new(Body::from(body.clone()));
                *response.status_mut() = *status;
                *response.headers_mut() = headers.clone();
                Some(response)
            }
        }
    }

    /// Where a forwarding route sends this request; `None` for a route that responds by itself. Each call advances
    /// the weighted split over upstreams, so call it once for each request.
    ///
    /// # Errors
    /// `BadPath` if the rewritten path is not valid.
    pub fn forward_target(&self, head: &RequestHead) -> Result<Option<ForwardTarget>, Fault> {
        let Prepared::Forward { split, rewrite } = &self.rule.action else { return Ok(None) };
        let target = match rewrite {
            PreparedRewrite::Keep => None,
            PreparedRewrite::Strip(prefix) => {
                strip(head.path(), prefix).map(|path| with_query(path, head.query()))
            }
            PreparedRewrite::Template(template) => {
                let filled = template.fill(head.path(), head.query(), head.host());
                let query = head.query().filter(|_| !filled.contains('?'));
                Some(with_query(single_slash(&filled), query))
            }
        };
        let target =
            target.map(|target| PathAndQuery::try_from(target).map_err(|_| Fault::new(FaultKind::BadPath)));
        Ok(Some(ForwardTarget { upstream: split.next().clone(), target: target.transpose()? }))
    }
}

/// The rest of a path after a prefix of segments; `None` if the path does not begin with them.
fn strip<'a>(path: &'a str, prefix: &[String]) -> Option<&'a str> {
    let mut rest = path;
    for expected in prefix {
        let inner = rest.strip_prefix('/')?;
        let end = inner.find('/').unwrap_or(inner.len());
        let (segment, after) = inner.split_at(end);
        if decode(segment) != expected.as_str() {
            return None;
        }
        rest = after;
    }
    Some(single_slash(rest))
}

/// Replaces several slashes at the beginning by one: in a `Location`, two slashes would be followed by a host
/// name.
fn single_slash(path: &str) -> &str {
    let slashes = path.len() - path.trim_start_matches('/').len();
    match slashes {
        0 if path.is_empty() => "/",
        0 => path,
        slashes => &path[slashes - 1..],
    }
}

fn with_query(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

fn redirect(status: StatusCode, location: String) -> Response<Body> {
    let location = if location.starts_with('/') { single_slash(&location) } else { location.as_str() };
    let mut response = Response::new(Body::Empty);
    match HeaderValue::from_bytes(location.as_bytes()) {
        Ok(location) => {
            *response.status_mut() = status;
            response.headers_mut().insert(header::LOCATION, location);
        }
        // Not reached: neither a checked request nor a checked template contains control characters.
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    response
}

fn compile_forward(forward: &Forward, pattern: &Pattern) -> Result<Prepared, Mistake> {
    let split = Split::new(&forward.upstreams).ok_or_else(|| {
        (
            "upstreams",
            "no upstream has a weight above 0".into(),
            "give one of them a weight, or remove the route".into(),
        )
    })?;
    let rewrite = match &forward.rewrite {
        Rewrite::Keep => PreparedRewrite::Keep,
        Rewrite::StripPrefix(prefix) => {
            let segments = prefix.split('/').filter(|segment| !segment.is_empty());
            PreparedRewrite::Strip(segments.map(|segment| decode(segment).into_owned()).collect())
        }
        Rewrite::Template(text) => {
            let template =
                Template::parse(text, pattern).map_err(|(message, hint)| ("rewrite", message, hint))?;
            if !text.starts_with(['/', '{']) {
                return Err((
                    "rewrite",
                    format!("the rewrite `{text}` is not a path"),
                    format!("write `/{text}`"),
                ));
            }
            PreparedRewrite::Template(template)
        }
    };
    Ok(Prepared::Forward { split, rewrite })
}

fn compile_answer(status: u16, headers: &[(String, String)], body: &str) -> Result<Prepared, Mistake> {
    let status = compile_status("respond", status)?;
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) && !body.is_empty() {
        let hint = "leave the body out, or use the status 200".into();
        return Err(("respond", format!("a {status} response has no body"), hint));
    }
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let parsed = (name.parse::<HeaderName>(), HeaderValue::from_str(value));
        let (Ok(name), Ok(value)) = parsed else {
            let hint = "names are tokens, values are visible characters".into();
            return Err(("respond", format!("`{name}: {value}` cannot be a header"), hint));
        };
        map.append(name, value);
    }
    if !body.is_empty() && !map.contains_key(header::CONTENT_TYPE) {
        map.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    Ok(Prepared::Respond { status, headers: map, body: Bytes::copy_from_slice(body.as_bytes()) })
}

fn compile_status(key: &'static str, status: u16) -> Result<StatusCode, Mistake> {
    StatusCode::from_u16(status)
        .map_err(|_| (key, format!("{status} is not a status"), "statuses are 200 to 599".into()))
}
