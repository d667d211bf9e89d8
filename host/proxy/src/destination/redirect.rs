//! Redirects: the gateway tells the client by itself where to go instead.
//!
//! Choose it for names and paths that have moved. The location is a template over the path, the query and the host
//! of the request.

use http::{HeaderValue, Response, StatusCode, header};
use witgate_config::model::Action;
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::Fault;

use super::{BuildInputs, Built, Destination, DestinationKind, Mistake, shared, status};
use crate::router::{Template, single_slash};

pub(super) const ROW: DestinationKind =
    DestinationKind { kind: "redirect", summary: "the client is sent elsewhere", build };

fn build(inputs: &BuildInputs<'_>) -> Option<Built> {
    let Action::Redirect { status, location } = inputs.action else { return None };
    Some(shared(Redirect::compile(*status, location, inputs)))
}

struct Redirect {
    status: StatusCode,
    location: Template,
}

impl Redirect {
    fn compile(code: u16, location: &str, inputs: &BuildInputs<'_>) -> Result<Self, Mistake> {
        let location = Template::parse(location, inputs.pattern);
        let location = location.map_err(|(message, hint)| ("redirect", message, hint))?;
        Ok(Redirect { status: status("redirect", code)?, location })
    }

    fn response(&self, location: &str) -> Response<Body> {
        let location = if location.starts_with('/') { single_slash(location) } else { location };
        let mut response = Response::new(Body::Empty);
        match HeaderValue::from_bytes(location.as_bytes()) {
            Ok(location) => {
                *response.status_mut() = self.status;
                response.headers_mut().insert(header::LOCATION, location);
            }
            // Not reached: neither a checked request nor a checked template contains control characters.
            Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
        }
        response
    }
}

impl Destination for Redirect {
    fn reads_body(&self) -> bool {
        false
    }

    fn serve<'a>(
        &'a self,
        facts: &'a mut Facts,
        _body: Body,
    ) -> MaybeReady<'a, Result<Response<Body>, Fault>> {
        facts.local_response = true;
        let head = &facts.head;
        let location = self.location.fill(head.path(), head.query(), head.host());
        MaybeReady::over(Ok(self.response(&location)))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::tests::{built, served};
    use super::*;

    #[test]
    fn a_location_is_filled_from_the_request() {
        let location = |template: &str, target: &str| {
            let action = Action::Redirect { status: 308, location: template.into() };
            let redirect = built("/old/{*rest}", action);
            assert!(!redirect.reads_body());
            let (response, local) = served(&*redirect, Method::GET, target);
            assert_eq!((response.status().as_u16(), local), (308, true));
            response.headers()["location"].to_str().unwrap().to_owned()
        };
        assert_eq!(location("https://{host}{path}{query}", "/old/a?b=c"), "https://a.example/old/a?b=c");
        assert_eq!(location("/new/{rest}", "/old/a/b"), "/new/a/b");
        assert_eq!(location("/{rest}", "/old//evil.example"), "/evil.example", "no open redirect");
    }
}
