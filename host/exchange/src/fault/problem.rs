//! Faults as problem documents (RFC 9457).

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};

use super::Fault;
use crate::body::Body;

/// The problem document for a fault of a request with this method. The response to HEAD is only the head of the
/// response to GET.
pub(super) fn response(fault: &Fault, request_id: &str, method: &Method) -> Response<Body> {
    let document = document(fault, request_id);
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = fault.kind.describe().status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(document.len()));
    if method != Method::HEAD {
        *response.body_mut() = Body::from(document);
    }
    response
}

/// RFC 9457 section 3.1, with `code` as an extension member.
fn document(fault: &Fault, request_id: &str) -> Bytes {
    let description = fault.kind.describe();
    let mut document = serde_json::json!({
        "type": format!("urn:witgate:fault:{}", description.code),
        "title": description.title,
        "status": description.status.as_u16(),
        "code": description.code,
        "instance": request_id,
    });
    if let Some(detail) = &fault.detail {
        document["detail"] = detail.as_ref().into();
    }
    Bytes::from(document.to_string())
}
