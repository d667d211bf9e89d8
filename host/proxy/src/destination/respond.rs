//! Fixed responses: the gateway responds by itself, with the same response to every request.
//!
//! Choose it for health endpoints, `robots.txt`, and paths that are closed.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use witgate_config::model::Action;
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::Fault;

use super::{BuildInputs, Built, Destination, DestinationKind, Mistake, shared, status};

pub(super) const ROW: DestinationKind =
    DestinationKind { kind: "respond", summary: "the same response for every request", build };

fn build(inputs: &BuildInputs<'_>) -> Option<Built> {
    let Action::Respond { status, headers, body } = inputs.action else { return None };
    Some(shared(Respond::compile(*status, headers, body)))
}

struct Respond {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Respond {
    fn compile(code: u16, headers: &[(String, String)], body: &str) -> Result<Self, Mistake> {
        let status = status("respond", code)?;
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
        Ok(Respond { status, headers: map, body: Bytes::copy_from_slice(body.as_bytes()) })
    }
}

impl Destination for Respond {
    fn reads_body(&self) -> bool {
        false
    }

    fn serve<'a>(
        &'a self,
        facts: &'a mut Facts,
        _body: Body,
    ) -> MaybeReady<'a, Result<Response<Body>, Fault>> {
        facts.local_response = true;
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        MaybeReady::over(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::tests::{built, served};
    use super::*;

    #[test]
    fn the_response_is_as_configured() {
        let action =
            Action::Respond { status: 418, headers: vec![("x-a".into(), "1".into())], body: "short".into() };
        let (response, local) = served(&*built("/tea", action), Method::GET, "/tea");
        assert!(local);
        assert_eq!((response.status().as_u16(), &response.headers()["x-a"]), (418, &"1".parse().unwrap()));
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    }
}
