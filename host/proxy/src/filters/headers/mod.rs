//! Sets, appends, removes and renames headers of requests and responses, with placeholders.
//!
//! One filter in two kinds, for two stages. `headers` stands at the edge: plugins see its changes to a request,
//! and it is the last to see every response, faults included. Choose it for security headers and to hide what
//! servers tell of themselves. `origin-headers` stands next to the upstream: it knows the caller's identity, and
//! nothing changes the request after it; it sees only responses of the upstream.

mod template;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Response, header};
use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::{Problems, Settings as Written};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::Fault;
use witgate_exchange::head::RequestHead;

use super::{Filter, FilterKind, Stage, Step, schema_of};
use template::Template;

pub(super) const ROW: FilterKind = FilterKind {
    kind: "headers",
    summary: "sets, appends, removes and renames headers, before plugins and over every response",
    place: Stage::Edge,
    build: |settings| build(settings, Stage::Edge),
    schema: schema_of::<Settings>,
};

pub(super) const ORIGIN_ROW: FilterKind = FilterKind {
    kind: "origin-headers",
    summary: "sets, appends, removes and renames headers next to the upstream, with the caller's identity known",
    place: Stage::Origin,
    build: |settings| build(settings, Stage::Origin),
    schema: schema_of::<Settings>,
};

/// Headers that frame or forward a message. A change would break the message.
const UNTOUCHABLE: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Settings of `headers` and `origin-headers`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Edits of requests.
    #[serde(default)]
    request: EditSettings,
    /// Edits of responses.
    #[serde(default)]
    response: EditSettings,
}

/// Edits of one header section, made in the order rename, remove, set, append.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EditSettings {
    /// Old names to new ones. All values move, and replace those of the new name.
    #[serde(default)]
    rename: BTreeMap<String, String>,
    /// Headers to remove.
    #[serde(default)]
    remove: Vec<String>,
    /// Headers to set, as templates. A header whose template has a placeholder without a value is removed.
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// Headers to add a value to, as templates. One that has a placeholder without a value is not added.
    #[serde(default)]
    append: BTreeMap<String, String>,
}

fn build(settings: &Written, place: Stage) -> Result<Box<dyn Filter>, Problems> {
    let Settings { request, response } = settings.parse()?;
    let mut reader = SettingsReader { settings, problems: Problems::new() };
    let request = reader.edits("/request", &request, &|template| {
        if template.names_response() {
            return Err("there is no response yet when a request is changed");
        }
        if place == Stage::Edge && template.names_caller() {
            return Err("the caller is not known before authentication; use `origin-headers`");
        }
        Ok(())
    });
    let response = reader.edits("/response", &response, &|_| Ok(()));
    if reader.problems.is_empty() {
        Ok(Box::new(Headers { request, response }))
    } else {
        Err(reader.problems)
    }
}

/// Reads settings and collects their problems.
struct SettingsReader<'a> {
    settings: &'a Written,
    problems: Problems,
}

impl SettingsReader<'_> {
    fn edits(
        &mut self,
        at: &str,
        written: &EditSettings,
        check: &dyn Fn(&Template) -> Result<(), &'static str>,
    ) -> Edits {
        let mut edits = Edits::default();
        for (old, new) in &written.rename {
            let at = format!("{at}/rename/{}", escape(old));
            if let (Some(old), Some(new)) = (self.name(&at, old), self.name(&at, new)) {
                edits.rename.push((old, new));
            }
        }
        for (index, name) in written.remove.iter().enumerate() {
            edits.remove.extend(self.name(&format!("{at}/remove/{index}"), name));
        }
        edits.set = self.templates(&format!("{at}/set"), &written.set, check);
        edits.append = self.templates(&format!("{at}/append"), &written.append, check);
        edits
    }

    fn templates(
        &mut self,
        at: &str,
        written: &BTreeMap<String, String>,
        check: &dyn Fn(&Template) -> Result<(), &'static str>,
    ) -> Vec<(HeaderName, Template)> {
        let mut templates = Vec::new();
        for (name, text) in written {
            let at = format!("{at}/{}", escape(name));
            let Some(name) = self.name(&at, name) else { continue };
            let template = Template::parse(text)
                .and_then(|template| check(&template).map(|()| template).map_err(str::to_owned));
            match template {
                Ok(template) => templates.push((name, template)),
                Err(why) => self.problems.push(self.settings.problem(&at, why, None)),
            }
        }
        templates
    }

    fn name(&mut self, at: &str, name: &str) -> Option<HeaderName> {
        let why = match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if !UNTOUCHABLE.contains(&name) => return Some(name),
            Ok(name) => {
                format!("`{name}` belongs to the gateway: it says how the message is framed or forwarded")
            }
            Err(_) => format!("`{name}` is not a header name"),
        };
        self.problems.push(self.settings.problem(at, why, None));
        None
    }
}

/// Escapes a key as a reference token (RFC 6901 section 3).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Compiled edits of one header section.
#[derive(Default)]
struct Edits {
    rename: Vec<(HeaderName, HeaderName)>,
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, Template)>,
    append: Vec<(HeaderName, Template)>,
}

impl Edits {
    fn is_empty(&self) -> bool {
        self.rename.is_empty() && self.remove.is_empty() && self.set.is_empty() && self.append.is_empty()
    }

    fn apply(&self, headers: &mut HeaderMap, head: &RequestHead, response: Option<&Response<Body>>) {
        for (old, new) in &self.rename {
            let values: Vec<_> = headers.get_all(old).iter().cloned().collect();
            if values.is_empty() {
                continue;
            }
            headers.remove(old);
            headers.remove(new);
            for value in values {
                headers.append(new, value);
            }
        }
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, template) in &self.set {
            match template.render(head, response) {
                Some(value) => drop(headers.insert(name, value)),
                None => drop(headers.remove(name)),
            }
        }
        for (name, template) in &self.append {
            if let Some(value) = template.render(head, response) {
                headers.append(name, value);
            }
        }
    }
}

struct Headers {
    request: Edits,
    response: Edits,
}

impl Filter for Headers {
    fn request<'a>(&'a self, facts: &'a mut Facts, body: Body) -> MaybeReady<'a, Result<Step, Fault>> {
        if !self.request.is_empty() {
            let head = Arc::make_mut(&mut facts.head);
            // Templates read the headers as they were before the edits.
            let mut headers = head.headers.clone();
            self.request.apply(&mut headers, head, None);
            head.headers = headers;
        }
        MaybeReady::over(Ok(Step::Proceed(body)))
    }

    fn response<'a>(
        &'a self,
        facts: &'a mut Facts,
        mut response: Response<Body>,
    ) -> MaybeReady<'a, Response<Body>> {
        if !self.response.is_empty() {
            let mut headers = response.headers().clone();
            self.response.apply(&mut headers, &facts.head, Some(&response));
            *response.headers_mut() = headers;
        }
        MaybeReady::over(response)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;
    use witgate_exchange::identity::Identity;

    use super::super::tests::{build, request, response};
    use super::*;
    use crate::testing;

    #[test]
    fn edits_are_made_in_their_order() {
        let filter = build(
            "headers",
            json!({ "request": {
                "rename": { "x-old": "x-new" },
                "remove": ["x-gone"],
                "set": { "x-client": "{client.address}", "x-was": "{header.x-gone}", "x-none": "{query}" },
                "append": { "x-new": "more" },
            }}),
        )
        .expect("good settings");
        let given =
            [("x-old", "a"), ("x-old", "b"), ("x-new", "replaced"), ("x-gone", "seen"), ("x-none", "theirs")];
        let mut facts = testing::facts(testing::head(Method::GET, "/", &given));
        request(&*filter, &mut facts, Body::Empty).expect("no fault");
        let headers = &facts.head.headers;
        assert_eq!(headers.get_all("x-new").iter().collect::<Vec<_>>(), ["a", "b", "more"]);
        assert_eq!(headers["x-client"], "192.0.2.7");
        assert_eq!(headers["x-was"], "seen");
        for gone in ["x-old", "x-gone", "x-none"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn the_caller_is_known_next_to_the_upstream_only() {
        let settings = json!({ "request": { "set": { "x-user": "{identity.subject}" } } });
        assert!(build("headers", settings.clone()).is_err());
        let filter = build("origin-headers", settings).expect("good settings");
        let mut head = testing::head(Method::GET, "/", &[("x-user", "forged")]);
        let mut facts = testing::facts(head.clone());
        request(&*filter, &mut facts, Body::Empty).expect("no fault");
        assert!(!facts.head.headers.contains_key("x-user"), "a forged value must not stay");
        head.identity =
            Some(Arc::new(Identity { subject: "ada".into(), claims: Vec::new(), binding: "jwt".into() }));
        let mut facts = testing::facts(head);
        request(&*filter, &mut facts, Body::Empty).expect("no fault");
        assert_eq!(facts.head.headers["x-user"], "ada");
    }

    #[test]
    fn responses_are_changed_too() {
        let settings = json!({ "response": { "remove": ["server"], "set": { "x-status": "{status}" } } });
        let filter = build("headers", settings).expect("good settings");
        let mut facts = testing::facts(testing::head(Method::GET, "/", &[]));
        let cookies = [("server", "x"), ("set-cookie", "a=1"), ("set-cookie", "b=2")];
        let response = response(&*filter, &mut facts, testing::response(&cookies, ""));
        assert!(!response.headers().contains_key("server"));
        assert_eq!(response.headers()["x-status"], "200");
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        let settings = json!({
            "request": { "set": { "content-length": "0", "x y": "1", "x-a": "{status}" } },
            "response": { "remove": ["Transfer-Encoding"], "append": { "x-b": "{nothing}" } },
        });
        let problems = build("headers", settings).err().expect("problems");
        assert_eq!(problems.len(), 5, "{problems:?}");
    }
}
