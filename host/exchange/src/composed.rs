//! Header values that are composed for each request from text and parts of the request and its response.
//!
//! The native filter `headers` is configured with them, and plugins return them. A plugin's result that would
//! differ for every caller ("set `x-caller` to the subject") is then the same for all callers, so that it can be
//! remembered instead of being called for again.

use std::io::Write;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::contracts::ValuePart;
use crate::credentials::Credentials;
use crate::head::RequestHead;

/// A part of a value, validated.
pub type Part = ValuePart<HeaderName>;

/// What values are composed from.
pub struct Seen<'a> {
    /// The request.
    pub head: &'a RequestHead,
    /// The response, once there is one.
    pub response: Option<(StatusCode, &'a HeaderMap)>,
    /// The credentials that count as missing.
    pub credentials: &'a Credentials,
}

impl Seen<'_> {
    /// A value of at most `longest` bytes. `None` if a part is missing, or if the result is not a valid header
    /// value (RFC 9110 section 5.5): it has control characters, or begins or ends with white space. The
    /// `traceparent` of a request without one is left out; `None` if the value consists of nothing else.
    pub fn value(&self, parts: &[Part], longest: usize) -> Option<HeaderValue> {
        let mut value = Vec::with_capacity(64);
        for part in parts {
            self.write(part, &mut value)?;
            if value.len() > longest {
                return None;
            }
        }
        let only_left_out = value.is_empty() && parts.contains(&Part::TraceParent);
        let is_padding = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if is_padding(value.first()) || is_padding(value.last()) || only_left_out {
            return None;
        }
        HeaderValue::from_bytes(&value).ok()
    }

    /// Appends one part; `None` if it is missing.
    fn write(&self, part: &Part, value: &mut Vec<u8>) -> Option<()> {
        let head = self.head;
        let identity = head.identity.as_deref();
        let bytes = match part {
            Part::Text(text) => text,
            Part::Query => {
                value.extend_from_slice(self.credentials.query(head)?.as_bytes());
                return Some(());
            }
            Part::Method => head.method.as_str().as_bytes(),
            Part::Path => head.path().as_bytes(),
            Part::RequestHeader(name) | Part::ResponseHeader(name) if self.credentials.hide(name) => {
                return None;
            }
            Part::Authority => head.authority.as_bytes(),
            Part::Scheme => head.scheme.as_str().as_bytes(),
            Part::OriginalPath => head.received_target().path().as_bytes(),
            Part::ClientAddress => return write!(value, "{}", head.client.address).ok(),
            Part::Route => head.route_name().as_bytes(),
            Part::PathParameter(wanted) => {
                let found = head.parameters.iter().find(|(name, _)| **name == **wanted);
                found.map(|(_, parameter)| parameter.as_bytes())?
            }
            Part::RequestHeader(name) => head.headers.get(name)?.as_bytes(),
            Part::RequestId => head.request_id.as_bytes(),
            Part::TraceParent => {
                value.extend_from_slice(head.traceparent().unwrap_or_default().as_bytes());
                return Some(());
            }
            Part::Subject => identity?.subject.as_bytes(),
            Part::Claim(name) => identity?.claim(name)?.as_bytes(),
            Part::Status => self.response.as_ref()?.0.as_str().as_bytes(),
            Part::ResponseHeader(name) => self.response?.1.get(name)?.as_bytes(),
        };
        value.extend_from_slice(bytes);
        Some(())
    }
}

/// Whether a value begins or ends with white space, which would not arrive as it was written (RFC 9110 section
/// 5.5).
pub fn has_outer_space(value: &[u8]) -> bool {
    matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}
