//! The fallback to a fixed response.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use witgate_config::{Problem, model};
use witgate_exchange::body::Body;
use witgate_exchange::fault::Fault;

use super::mark;

/// A response that is given instead of the upstream's.
#[derive(Debug)]
pub(crate) struct Fixed {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Fixed {
    /// Builds the response. `key` is its key in the configuration.
    ///
    /// # Errors
    /// An invalid status or header.
    pub(crate) fn build(answer: &model::Answer, key: &str) -> Result<Fixed, Problem> {
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

    /// The response. If its status is an error, headers of the fault such as `Retry-After` are added, unless
    /// the response has them already.
    pub(crate) fn response(&self, fault: Fault) -> Response<Body> {
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
