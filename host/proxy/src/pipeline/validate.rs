//! Validation of the results of plugins. They are untrusted and must follow the same rules as bytes from the
//! network. A result is used as a whole or not at all.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;
use http::header::SET_COOKIE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use witgate_config::model::Gateway;
use witgate_exchange::body::Body;
use witgate_exchange::composed::{Part, Seen};
use witgate_exchange::contracts::{ComposedHeader, Header, HeaderChange, LocalResponse, ValuePart};
use witgate_exchange::credentials::Credentials;
use witgate_exchange::head::RequestHead;
use witgate_exchange::path;
use witgate_wire::http1::field;

/// The most fields that a section may have after a plugin's edits.
const FIELDS: usize = 1024;
/// The most composed values in one result. There is a limit because each may become much longer than the result
/// itself.
const COMPOSED: usize = 64;
/// The most parts of a composed value.
const PARTS: usize = 32;
/// The most bytes of a composed value.
const LONGEST: usize = 8 << 10;

/// Why a result cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invalid(Cow<'static, str>);

impl Invalid {
    /// The result breaks this rule.
    pub(super) fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Invalid(reason.into())
    }

    /// The reason for the operator. It never contains values, which may be secret.
    pub(super) fn reason(&self) -> &str {
        &self.0
    }
}

/// The direction of a header. The gateway reserves different names in each direction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction<'a> {
    /// To the upstream.
    Request(&'a Gateway),
    /// To the client.
    Response,
}

/// A validated edit of a header section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    Set(HeaderName, HeaderValue),
    Append(HeaderName, HeaderValue),
    Remove(HeaderName),
    SetComposed(HeaderName, Rc<[Part]>),
    AppendComposed(HeaderName, Rc<[Part]>),
}

impl Edit {
    pub(super) fn name(&self) -> &HeaderName {
        match self {
            Edit::Set(name, _)
            | Edit::Append(name, _)
            | Edit::Remove(name)
            | Edit::SetComposed(name, _)
            | Edit::AppendComposed(name, _) => name,
        }
    }

    /// Whether it would change a header that the binding may not see. One more cookie for the client leaves those of
    /// others as they are.
    fn touches_unseen(&self, direction: Direction<'_>, credentials: &Credentials) -> bool {
        let adds_cookie = matches!(direction, Direction::Response)
            && matches!(self, Edit::Append(name, _) | Edit::AppendComposed(name, _) if *name == SET_COOKIE);
        credentials.hide(self.name()) && !adds_cookie
    }

    fn composed(&self) -> Option<&[Part]> {
        match self {
            Edit::SetComposed(_, parts) | Edit::AppendComposed(_, parts) => Some(parts),
            Edit::Set(..) | Edit::Append(..) | Edit::Remove(_) => None,
        }
    }
}

/// Validates the edits of a section that has `present` fields now.
pub(super) fn edits(
    changes: Vec<HeaderChange>,
    present: usize,
    direction: Direction<'_>,
    credentials: &Credentials,
) -> Result<Vec<Edit>, Invalid> {
    if !has_room(present, changes.len()) {
        return Err(Invalid::new("too many headers"));
    }
    let composed = |header: ComposedHeader| Ok((field_name(&header.name, direction)?, parts(header.value)?));
    let edits: Vec<Edit> = changes
        .into_iter()
        .map(|change| match change {
            HeaderChange::Set(header) => field(header, direction).map(|(name, value)| Edit::Set(name, value)),
            HeaderChange::Append(header) => {
                field(header, direction).map(|(name, value)| Edit::Append(name, value))
            }
            HeaderChange::Remove(name) => field_name(&name, direction).map(Edit::Remove),
            HeaderChange::SetComposed(header) => {
                composed(header).map(|(name, value)| Edit::SetComposed(name, value))
            }
            HeaderChange::AppendComposed(header) => {
                composed(header).map(|(name, value)| Edit::AppendComposed(name, value))
            }
        })
        .collect::<Result<_, _>>()?;
    if edits.iter().filter_map(Edit::composed).count() > COMPOSED {
        return Err(Invalid::new("too many composed headers"));
    }
    match edits.iter().find(|edit| edit.touches_unseen(direction, credentials)) {
        Some(edit) => Err(unseen(edit.name().as_str())),
        None => Ok(edits),
    }
}

/// The fault of a result that would change a credential which the binding may not see.
fn unseen(name: &str) -> Invalid {
    Invalid::new(format!(
        "the header `{name}` is a credential that the binding may not see, so it may not change it; grant it by \
         `grants.credentials`"
    ))
}

/// Whether a section that has `present` fields now has room for this number of edits.
pub(super) fn has_room(present: usize, edits: usize) -> bool {
    present + edits <= FIELDS
}

/// The values of the composed edits, in order.
pub(super) fn compose(edits: &[Edit], seen: &Seen<'_>) -> Vec<Option<HeaderValue>> {
    edits.iter().filter_map(Edit::composed).map(|parts| seen.value(parts, LONGEST)).collect()
}

/// Applies edits in order, with the values that [`compose`] returned for them.
pub(super) fn apply(
    edits: impl IntoIterator<Item = Edit>,
    composed: Vec<Option<HeaderValue>>,
    headers: &mut HeaderMap,
) {
    let mut composed = composed.into_iter();
    for edit in edits {
        match edit {
            Edit::SetComposed(name, _) => match composed.next().flatten() {
                Some(value) => {
                    headers.insert(name, value);
                }
                None => {
                    headers.remove(name);
                }
            },
            Edit::AppendComposed(name, _) => {
                if let Some(value) = composed.next().flatten() {
                    headers.append(name, value);
                }
            }
            Edit::Set(name, value) => {
                headers.insert(name, value);
            }
            Edit::Append(name, value) => {
                headers.append(name, value);
            }
            Edit::Remove(name) => {
                headers.remove(name);
            }
        }
    }
}

/// Validates headers to add to a response.
pub(super) fn response_headers(headers: Vec<Header>) -> Result<Vec<(HeaderName, HeaderValue)>, Invalid> {
    if headers.len() > FIELDS {
        return Err(Invalid::new("too many headers"));
    }
    headers.into_iter().map(|header| field(header, Direction::Response)).collect()
}

/// The approximate number of bytes of headers.
pub(super) fn size_of_headers(headers: &[(HeaderName, HeaderValue)]) -> usize {
    headers.iter().map(|(_, value)| value.len() + size_of::<(HeaderName, HeaderValue)>()).sum()
}

/// The approximate number of bytes of edits.
pub(super) fn size_of_edits(edits: &[Edit]) -> usize {
    let value = |edit: &Edit| match edit {
        Edit::Set(_, value) | Edit::Append(_, value) => value.len(),
        Edit::SetComposed(_, parts) | Edit::AppendComposed(_, parts) => parts.iter().map(size_of_part).sum(),
        Edit::Remove(_) => 0,
    };
    edits.iter().map(|edit| value(edit) + size_of::<Edit>()).sum()
}

fn size_of_part(part: &Part) -> usize {
    let text = match part {
        Part::Text(text) => text.len(),
        Part::PathParameter(name) | Part::Claim(name) => name.len(),
        Part::RequestHeader(name) | Part::ResponseHeader(name) => name.as_str().len(),
        _ => 0,
    };
    text + size_of::<Part>()
}

/// Validates the parts of a composed value.
fn parts(parts: Vec<ValuePart>) -> Result<Rc<[Part]>, Invalid> {
    if parts.len() > PARTS {
        return Err(Invalid::new(format!("a composed value has more than {PARTS} parts")));
    }
    parts.into_iter().map(part).collect()
}

fn part(part: ValuePart) -> Result<Part, Invalid> {
    if let ValuePart::Text(text) = &part
        && HeaderValue::from_bytes(text).is_err()
    {
        return Err(Invalid::new("the text of a composed value contains control bytes"));
    }
    part.with_headers(|header| name(&header))
}

/// Validates a complete response.
pub(super) fn response(answer: LocalResponse) -> Result<Response<Body>, Invalid> {
    whole_response(answer).map(|response| response.map(Body::from))
}

/// Validates a complete response, which can then be sent several times.
pub(super) fn whole_response(answer: LocalResponse) -> Result<Response<Bytes>, Invalid> {
    let status = status(answer.status)?;
    witgate_rules::body(status.as_u16(), answer.body.len()).map_err(Invalid::new)?;
    let headers = response_headers(answer.headers)?;
    let mut response = Response::new(answer.body);
    *response.status_mut() = status;
    for (name, value) in headers {
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

/// Validates the status of a final response.
pub(super) fn status(status: u16) -> Result<StatusCode, Invalid> {
    witgate_rules::status(status).map_err(Invalid::new)?;
    StatusCode::from_u16(status).map_err(|_| Invalid::new("the status cannot be used"))
}

/// Validates the method of a forwarded request. CONNECT would change the meaning of the message on the wire (RFC
/// 9110 section 9.3.6), and TRACE would send credentials back (section 9.3.8).
pub(super) fn method(method: &str) -> Result<Method, Invalid> {
    witgate_rules::method(method).map_err(Invalid::new)?;
    Method::from_bytes(method.as_bytes()).map_err(|_| Invalid::new("the method cannot be used"))
}

/// Validates and normalises a path with query, as the client's is. Its query has no parameter that the binding may not
/// see. `merge`: whether the route merges slashes.
pub(super) fn target(
    target: &str,
    (gateway, merge): (&Gateway, bool),
    credentials: &Credentials,
) -> Result<PathAndQuery, Invalid> {
    let normalise = if merge { path::normalise } else { path::normalise_apart };
    let target = normalise(target, gateway.encoded_slashes)
        .map_err(|fault| Invalid::new(format!("the path cannot be used: {fault}")))?;
    if target.query().is_some_and(|query| credentials.hides_in(query)) {
        return Err(Invalid::new(
            "the query of the path has a parameter that is a credential which the binding may not see; grant it by \
             `grants.credentials`",
        ));
    }
    Ok(target)
}

/// Makes a validated target the one for the upstream. The parameters that the binding may not see are kept.
pub(super) fn retarget(head: &mut RequestHead, target: PathAndQuery, credentials: &Credentials) {
    let before = head.upstream_target.as_ref().unwrap_or(&head.target);
    head.upstream_target = Some(credentials.restore(target, before));
}

/// Validates the value of a header that the gateway itself writes for a plugin.
pub(super) fn value(value: Bytes) -> Result<HeaderValue, Invalid> {
    witgate_rules::header_value(&value).map_err(Invalid::new)?;
    HeaderValue::from_maybe_shared(value).map_err(|_| Invalid::new("a header value cannot be used"))
}

fn field(header: Header, direction: Direction<'_>) -> Result<(HeaderName, HeaderValue), Invalid> {
    Ok((field_name(&header.name, direction)?, value(header.value)?))
}

/// Validates the name of a header as plugins write it.
fn name(name: &str) -> Result<HeaderName, Invalid> {
    witgate_rules::token(name).map_err(Invalid::new)?;
    HeaderName::from_lowercase(name.as_bytes()).map_err(|_| Invalid::new("a header name cannot be used"))
}

fn field_name(name: &str, direction: Direction<'_>) -> Result<HeaderName, Invalid> {
    let to = match direction {
        Direction::Request(_) => witgate_rules::Direction::Request,
        Direction::Response => witgate_rules::Direction::Response,
    };
    witgate_rules::header_name(name, to).map_err(Invalid::new)?;
    if matches!(direction, Direction::Request(gateway) if is_reserved(name, gateway)) {
        return Err(Invalid::new(format!("the header `{name}` is the gateway's")));
    }
    HeaderName::from_lowercase(name.as_bytes()).map_err(|_| Invalid::new("a header name cannot be used"))
}

/// Whether the configuration reserves a header name, in addition to the names that every gateway reserves.
fn is_reserved(name: &str, gateway: &Gateway) -> bool {
    gateway.identity_headers.keys().any(|own| field::is_same_name(own, name))
        || (!gateway.underscores_in_headers && name.contains('_'))
}
