//! Header values with placeholders.

use http::{HeaderName, HeaderValue, Response};

use crate::body::Body;
use crate::head::RequestHead;

/// A header value with placeholders, parsed once. The placeholders are those of the first-party plugin `headers`.
pub(super) struct Template {
    parts: Vec<Part>,
}

enum Part {
    Text(String),
    Value(Placeholder),
}

/// What may stand between braces.
#[derive(Debug, Clone, PartialEq)]
enum Placeholder {
    ClientAddress,
    RequestId,
    Method,
    Path,
    OriginalPath,
    Query,
    Authority,
    Scheme,
    Route,
    TraceParent,
    Subject,
    Claim(String),
    Parameter(String),
    RequestHeader(HeaderName),
    Status,
    ResponseHeader(HeaderName),
}

/// The placeholders, for problems.
const KNOWN: &str = "client.address, request.id, method, path, original_path, query, authority, scheme, route, \
    trace_parent, identity.subject, claim.NAME, parameter.NAME, header.NAME, and for responses status and \
    response_header.NAME";

impl Template {
    /// Parses `text {placeholder} text`. Two braces stand for one.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                plain.push_str(&from[..1]);
                rest = after;
                continue;
            }
            let inner = from.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, after) =
                inner.ok_or("a brace stands alone; write `{{` or `}}` for a brace in the text")?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Value(Placeholder::parse(name)?));
            rest = after;
        }
        plain.push_str(rest);
        HeaderValue::from_bytes(plain.as_bytes()).map_err(|_| "it has a control character")?;
        parts.push(Part::Text(plain));
        Ok(Template { parts })
    }

    /// Whether it tells something of the caller, who is known only after authentication.
    pub(super) fn names_caller(&self) -> bool {
        self.any(|placeholder| matches!(placeholder, Placeholder::Subject | Placeholder::Claim(_)))
    }

    /// Whether it tells something of a response.
    pub(super) fn names_response(&self) -> bool {
        self.any(|placeholder| matches!(placeholder, Placeholder::Status | Placeholder::ResponseHeader(_)))
    }

    fn any(&self, test: impl Fn(&Placeholder) -> bool) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Value(placeholder) if test(placeholder)))
    }

    /// The value; none if a placeholder has none, or one that no header can carry.
    pub(super) fn render(
        &self,
        head: &RequestHead,
        response: Option<&Response<Body>>,
    ) -> Option<HeaderValue> {
        if let [Part::Text(text)] = &self.parts[..] {
            return HeaderValue::from_bytes(text.as_bytes()).ok();
        }
        let mut value = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => value.extend_from_slice(text.as_bytes()),
                Part::Value(placeholder) => placeholder.write(head, response, &mut value)?,
            }
        }
        HeaderValue::from_bytes(&value).ok()
    }
}

impl Placeholder {
    fn parse(name: &str) -> Result<Self, String> {
        let header = |name: &str| {
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))
        };
        Ok(match name {
            "client.address" => Self::ClientAddress,
            "request.id" => Self::RequestId,
            "method" => Self::Method,
            "path" => Self::Path,
            "original_path" => Self::OriginalPath,
            "query" => Self::Query,
            "authority" => Self::Authority,
            "scheme" => Self::Scheme,
            "route" => Self::Route,
            "trace_parent" => Self::TraceParent,
            "identity.subject" => Self::Subject,
            "status" => Self::Status,
            _ => match name.split_once('.') {
                Some(("claim", claim)) => Self::Claim(claim.to_owned()),
                Some(("parameter", parameter)) => Self::Parameter(parameter.to_owned()),
                Some(("header", name)) => Self::RequestHeader(header(name)?),
                Some(("response_header", name)) => Self::ResponseHeader(header(name)?),
                _ => return Err(format!("`{{{name}}}` is not a placeholder; there are {KNOWN}")),
            },
        })
    }

    /// Writes the value; none if there is none.
    fn write(
        &self,
        head: &RequestHead,
        response: Option<&Response<Body>>,
        value: &mut Vec<u8>,
    ) -> Option<()> {
        let mut text = |text: &str| value.extend_from_slice(text.as_bytes());
        match self {
            Self::ClientAddress => text(&head.client.address.to_string()),
            Self::RequestId => text(&head.request_id),
            Self::Method => text(head.method.as_str()),
            Self::Path => text(head.path()),
            Self::OriginalPath => text(head.received_target.path()),
            Self::Query => text(head.query()?),
            Self::Authority => text(&head.authority),
            Self::Scheme => text(head.scheme.as_str()),
            Self::Route => text(&head.route),
            Self::TraceParent => value.extend_from_slice(head.trace.traceparent().as_bytes()),
            Self::Subject => text(&head.identity.as_ref()?.subject),
            Self::Claim(name) => {
                let claims = &head.identity.as_ref()?.claims;
                text(&claims.iter().find(|(claim, _)| claim == name)?.1);
            }
            Self::Parameter(name) => {
                text(&head.parameters.iter().find(|(parameter, _)| **parameter == **name)?.1);
            }
            Self::RequestHeader(name) => value.extend_from_slice(head.headers.get(name)?.as_bytes()),
            Self::Status => text(response?.status().as_str()),
            Self::ResponseHeader(name) => {
                value.extend_from_slice(response?.headers().get(name)?.as_bytes());
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::testing;

    fn render(text: &str) -> Option<String> {
        let mut head = testing::head(Method::GET, "/users/7?x=1", &[("x-a", "b")]);
        head.parameters.push(("id".into(), "7\r\nx: y".into()));
        let response = testing::response(&[("x-b", "c")], "");
        let value = Template::parse(text).expect("a template").render(&head, Some(&response))?;
        Some(value.to_str().expect("ASCII").to_owned())
    }

    #[test]
    fn placeholders_stand_for_the_request_and_its_response() {
        assert_eq!(render("fixed").as_deref(), Some("fixed"));
        let text = "{method} {path}?{query} for {client.address} on {authority}";
        assert_eq!(render(text).as_deref(), Some("GET /users/7?x=1 for 192.0.2.7 on a.example"));
        assert_eq!(render("{header.x-a}{response_header.x-b} {status}").as_deref(), Some("bc 200"));
        assert_eq!(render("{{literal}}").as_deref(), Some("{literal}"));
    }

    #[test]
    fn what_has_no_value_or_a_dangerous_one_gives_none() {
        assert_eq!(render("a {identity.subject}"), None);
        assert_eq!(render("{header.x-missing}"), None);
        assert_eq!(render("{parameter.id}"), None, "a line end would begin a header of its own");
    }

    #[test]
    fn malformed_templates_are_refused() {
        for text in ["{", "}", "{nothing}", "a{path", "a\nb", "{header.a b}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
