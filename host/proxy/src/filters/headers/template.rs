//! Templates of header values.

use http::{HeaderName, HeaderValue, Response};

use witgate_exchange::body::Body;
use witgate_exchange::composed::{Part, Seen};
use witgate_exchange::credentials::Credentials;
use witgate_exchange::head::RequestHead;

/// A parsed template of a header value. The placeholders are those of the first-party plugin `headers`.
pub(super) struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// Parses `text {placeholder} text`. Two braces stand for one.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        HeaderValue::from_bytes(text.as_bytes()).map_err(|_| "it has a control character")?;
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
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(placeholder(name)?);
            rest = after;
        }
        plain.push_str(rest);
        parts.push(Part::Text(plain.into()));
        Ok(Template { parts })
    }

    /// Whether it has a placeholder about the caller, who is known only after authentication.
    pub(super) fn names_caller(&self) -> bool {
        self.parts.iter().any(Part::is_of_caller)
    }

    /// Whether it has a placeholder about the response.
    pub(super) fn names_response(&self) -> bool {
        self.parts.iter().any(Part::is_of_response)
    }

    /// The value; `None` if a placeholder has no value, or one that is not allowed in a header.
    pub(super) fn render(
        &self,
        head: &RequestHead,
        response: Option<&Response<Body>>,
    ) -> Option<HeaderValue> {
        if let [Part::Text(text)] = &self.parts[..] {
            return HeaderValue::from_maybe_shared(text.clone()).ok();
        }
        let response = response.map(|response| (response.status(), response.headers()));
        Seen { head, response, credentials: Credentials::visible() }.value(&self.parts, usize::MAX)
    }
}

fn placeholder(name: &str) -> Result<Part, String> {
    let header = |name: &str| {
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))
    };
    Part::parse(name, header)
        .unwrap_or_else(|| Err(format!("`{{{name}}}` is not a placeholder; there are {}", Part::words())))
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
        for text in ["{", "}", "{nothing}", "a{path", "a\nb", "a\n{path}", "{header.a b}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
