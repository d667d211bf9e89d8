//! A fixed answer.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use witgate_config::{Problem, model};
use witgate_exchange::body::Body;
use witgate_exchange::fault::Fault;

use super::mark;

/// An answer that is given in place of the upstream's.
#[derive(Debug)]
pub(super) struct Fixed {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Fixed {
    /// Builds it. `key` is where it was written.
    ///
    /// # Errors
    /// A status or a header that cannot be one.
    pub(super) fn build(answer: &model::Answer, key: &str) -> Result<Fixed, Problem> {
        let problem = |message: String| Problem { message, span: None, key: key.to_owned(), hint: None };
        let status = StatusCode::from_u16(answer.status)
            .map_err(|_| problem(format!("{} is not a status", answer.status)))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &answer.headers {
            let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) else {
                return Err(problem(format!("`{name}: {value}` cannot be a header")));
            };
            headers.append(name, value);
        }
        if !answer.body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        Ok(Fixed { status, headers, body: Bytes::copy_from_slice(answer.body.as_bytes()) })
    }

    /// The answer. An error keeps what the fault has to say, such as `Retry-After`, where it says nothing of that itself.
    pub(super) fn response(&self, fault: Fault) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        mark(&mut response, fault.kind);
        if self.status.is_server_error() {
            for (name, value) in fault.headers {
                response.headers_mut().entry(name).or_insert(value);
            }
        }
        response
    }
}
