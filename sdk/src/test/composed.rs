//! Composing values as the gateway does.

use crate::contracts::transformation::ValuePart;
use crate::request::Request;
use crate::response::ResponseView;

/// The longest value, in bytes.
const LONGEST: usize = 8 << 10;

/// The value that the gateway composes for a request, or for a response to it. `None` if a part is missing, or if
/// the result is not a header value (RFC 9110 section 5.5) or longer than 8 KiB: the header is then removed, or
/// not appended. A missing `traceparent` counts as empty text, but a value that consists of nothing else is
/// missing.
///
/// ```
/// use witgate_sdk::{ValuePart, test};
///
/// let value = [ValuePart::Method, ValuePart::text(" "), ValuePart::Path];
/// let request = test::request().method("PUT").path("/a").build();
/// assert_eq!(test::composed(&value, &request, None).as_deref(), Some(&b"PUT /a"[..]));
/// assert_eq!(test::composed(&[ValuePart::Subject], &request, None), None, "nobody is known");
/// let untraced = test::request().trace_parent("").build();
/// assert_eq!(test::composed(&[ValuePart::TraceParent], &untraced, None), None);
/// ```
pub fn composed(
    value: &[ValuePart],
    request: &Request<'_>,
    response: Option<&ResponseView<'_>>,
) -> Option<Vec<u8>> {
    let parts = value.iter().map(|part| written(part, request, response)).collect::<Option<Vec<_>>>()?;
    let nothing_but_trace = value.contains(&ValuePart::TraceParent) && parts.iter().all(Vec::is_empty);
    let value = parts.concat();
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    let is_value = !is_blank(value.first()) && !is_blank(value.last()) && !value.iter().any(is_control);
    (is_value && !nothing_but_trace && value.len() <= LONGEST).then_some(value)
}

fn written(part: &ValuePart, request: &Request<'_>, response: Option<&ResponseView<'_>>) -> Option<Vec<u8>> {
    Some(match part {
        ValuePart::Text(text) => text.clone(),
        ValuePart::Method => request.method().into(),
        ValuePart::Path => request.path().into(),
        ValuePart::Query => request.query()?.into(),
        ValuePart::Authority => request.authority().into(),
        ValuePart::Scheme => request.scheme().into(),
        ValuePart::OriginalPath => request.original_path().into(),
        ValuePart::ClientAddress => request.client_address().into(),
        ValuePart::Route => request.route().into(),
        ValuePart::PathParameter(name) => request.path_parameter(name)?.into(),
        ValuePart::RequestHeader(name) => request.values(name).next()?.into(),
        ValuePart::RequestId => request.request_id().into(),
        ValuePart::TraceParent => request.trace_parent().into(),
        ValuePart::Subject => request.identity()?.subject.into(),
        ValuePart::Claim(name) => request.identity()?.claim(name)?.into(),
        ValuePart::Status => response?.status().to_string().into(),
        ValuePart::ResponseHeader(name) => response?.values(name).next()?.into(),
    })
}
