//! What a plugin answers is untrusted: it is held to the rules for what comes from the wire before anything of it is
//! used, all of it or nothing.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use witgate_config::model::Gateway;
use witgate_exchange::body::Body;
use witgate_exchange::composed::{Part, Seen};
use witgate_exchange::contracts::{ComposedHeader, Header, HeaderChange, LocalResponse, ValuePart};
use witgate_exchange::path;

/// Fields a section may hold after a plugin's edits.
const FIELDS: usize = 1024;
/// Composed values in one answer: each may become far longer than what the plugin answered.
const COMPOSED: usize = 64;
/// Parts a composed value may have.
const PARTS: usize = 32;
/// Bytes of the longest composed value.
const LONGEST: usize = 8 << 10;

/// Why an answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invalid(Cow<'static, str>);

impl Invalid {
    /// One rule that was broken.
    pub(super) fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Invalid(reason.into())
    }

    /// In words, for the operator. Never holds values, which may be secret.
    pub(super) fn reason(&self) -> &str {
        &self.0
    }
}

/// Which way a header goes; the gateway reserves different names on each.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction<'a> {
    /// To the upstream.
    Request(&'a Gateway),
    /// To the client.
    Response,
}

/// An edit of a header section that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    Set(HeaderName, HeaderValue),
    Append(HeaderName, HeaderValue),
    Remove(HeaderName),
    SetComposed(HeaderName, Rc<[Part]>),
    AppendComposed(HeaderName, Rc<[Part]>),
}

impl Edit {
    fn composed(&self) -> Option<&[Part]> {
        match self {
            Edit::SetComposed(_, parts) | Edit::AppendComposed(_, parts) => Some(parts),
            Edit::Set(..) | Edit::Append(..) | Edit::Remove(_) => None,
        }
    }
}

/// Edits of a section that has `present` fields now.
pub(super) fn edits(
    changes: Vec<HeaderChange>,
    present: usize,
    direction: Direction<'_>,
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
    Ok(edits)
}

/// Whether a section that has `present` fields now has room for so many edits.
pub(super) fn has_room(present: usize, edits: usize) -> bool {
    present + edits <= FIELDS
}

/// The values of composed edits, in their order.
pub(super) fn compose(edits: &[Edit], seen: &Seen<'_>) -> Vec<Option<HeaderValue>> {
    edits.iter().filter_map(Edit::composed).map(|parts| seen.value(parts, LONGEST)).collect()
}

/// Applies edits in their order, with the values that [`compose`] made of them.
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

/// Headers to add to a response.
pub(super) fn response_headers(headers: Vec<Header>) -> Result<Vec<(HeaderName, HeaderValue)>, Invalid> {
    if headers.len() > FIELDS {
        return Err(Invalid::new("too many headers"));
    }
    headers.into_iter().map(|header| field(header, Direction::Response)).collect()
}

/// Roughly the bytes that headers take.
pub(super) fn size_of_headers(headers: &[(HeaderName, HeaderValue)]) -> usize {
    headers.iter().map(|(_, value)| value.len() + size_of::<(HeaderName, HeaderValue)>()).sum()
}

/// Roughly the bytes that edits take.
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

/// The parts of a composed value.
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

/// A complete response.
pub(super) fn response(answer: LocalResponse) -> Result<Response<Body>, Invalid> {
    let status = status(answer.status)?;
    witgate_rules::body(status.as_u16(), answer.body.len()).map_err(Invalid::new)?;
    let headers = response_headers(answer.headers)?;
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = status;
    for (name, value) in headers {
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

/// A status that a final response may have.
pub(super) fn status(status: u16) -> Result<StatusCode, Invalid> {
    witgate_rules::status(status).map_err(Invalid::new)?;
    StatusCode::from_u16(status).map_err(|_| Invalid::new("the status cannot be used"))
}

/// A method that an upstream may see. CONNECT would change what the message means on the wire (RFC 9110 section
/// 9.3.6), TRACE would send credentials back (section 9.3.8).
pub(super) fn method(method: &str) -> Result<Method, Invalid> {
    witgate_rules::method(method).map_err(Invalid::new)?;
    Method::from_bytes(method.as_bytes()).map_err(|_| Invalid::new("the method cannot be used"))
}

/// A path with query, normalised as the client's was.
pub(super) fn target(target: &str, gateway: &Gateway) -> Result<PathAndQuery, Invalid> {
    path::normalise(target, gateway.encoded_slashes)
        .map_err(|fault| Invalid::new(format!("the path cannot be used: {fault}")))
}

/// The value of a header the gateway itself writes on a plugin's word.
pub(super) fn value(value: Bytes) -> Result<HeaderValue, Invalid> {
    witgate_rules::header_value(&value).map_err(Invalid::new)?;
    HeaderValue::from_maybe_shared(value).map_err(|_| Invalid::new("a header value cannot be used"))
}

fn field(header: Header, direction: Direction<'_>) -> Result<(HeaderName, HeaderValue), Invalid> {
    Ok((field_name(&header.name, direction)?, value(header.value)?))
}

/// The name of a header as plugins write it.
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

/// Whether the configuration of the gateway keeps a name for itself, besides those that every gateway does.
fn is_reserved(name: &str, gateway: &Gateway) -> bool {
    gateway.identity_headers.contains_key(name) || (!gateway.underscores_in_headers && name.contains('_'))
}
