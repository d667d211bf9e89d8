//! Lets an HTTP service decide about each request, as nginx (`auth_request`) and Traefik (`ForwardAuth`) do.
//!
//! The service is asked with the head of the request. An answer of 2xx lets the request on, with headers of the answer; any other
//! answer is the client's.

use witgate_sdk::fetch::{self, InboundResponse};
use witgate_sdk::{
    Acceptance, Authentication, AuthenticationByBody, Body, Decision, Function, HeaderName, Identity, Input,
    Interest, Period, Plugin, Problem, Reading, Request, RequestChanges, RequestOutcome, Response,
    SettingsProblem, Transformation, ValuePart, log, settings,
};

/// Begins the names of the claims that carry headers of the answer to the request. No other plugin names its claims so.
const CLAIM: &str = "forward-auth:";

/// Headers that concern a connection or the frame of a message (RFC 9110 section 7.6.1), or say for whom a request is.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whom to ask, and what is passed to and fro.
#[settings]
struct Settings {
    /// The upstream to ask; the binding's `fetch` grant must list it.
    upstream: String,
    /// The path to ask for, with a query if you like.
    #[serde(default = "default_path")]
    #[schemars(regex(pattern = "^/"))]
    path: String,
    /// The headers of the request that the service gets. Those that are credentials need a grant, too.
    #[serde(default = "default_forward")]
    forward: Vec<HeaderName>,
    /// The headers of an answer that lets a request on, which the upstream gets. What the client sends under these names never
    /// reaches it.
    #[serde(default)]
    to_upstream: Vec<HeaderName>,
    /// The headers of an answer that lets a request on, which the client gets with the response, e.g. `set-cookie`.
    #[serde(default)]
    to_client: Vec<HeaderName>,
    /// The headers of a refusal that the client gets, besides `content-type`.
    #[serde(default = "default_refusal")]
    refusal: Vec<HeaderName>,
    /// The header of the answer whose value is the subject of the caller. If there is none, the subject is `forward-auth`.
    subject: Option<HeaderName>,
    /// Sends the body of the request, too, up to this many bytes; longer ones are answered with 413. `0`: bodies are not read.
    #[serde(default)]
    #[schemars(range(max = 16_777_216))]
    max_body: u32,
    /// How long an answer that lets a request on may be remembered, for requests that agree in method, host, path, query, client and
    /// the headers in `forward`.
    #[serde(default = "default_cache_for")]
    cache_for: Period,
    /// Time limit of one question. The wall time of the binding limits it in any case.
    timeout: Option<Period>,
}

fn default_path() -> String {
    "/".to_owned()
}

fn names(names: &[&str]) -> Vec<HeaderName> {
    names.iter().filter_map(|name| HeaderName::try_from((*name).to_owned()).ok()).collect()
}

fn default_forward() -> Vec<HeaderName> {
    names(&["authorization", "cookie"])
}

fn default_refusal() -> Vec<HeaderName> {
    names(&["location", "set-cookie", "www-authenticate"])
}

fn default_cache_for() -> Period {
    Period::from_secs(0)
}

/// The plugin.
struct ForwardAuth(Settings);

impl Plugin for ForwardAuth {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let mut problems = Vec::new();
        if !settings.path.starts_with('/') {
            problems.push(SettingsProblem::new("/path", "a path begins with `/`"));
        }
        // The gateway frames messages itself, and these say to the service which request it decides about.
        let reserved = |name: &HeaderName| RESERVED.contains(&&**name) || name.starts_with("x-forwarded-");
        for (key, list) in [
            ("forward", &settings.forward),
            ("to_upstream", &settings.to_upstream),
            ("to_client", &settings.to_client),
            ("refusal", &settings.refusal),
        ] {
            for (index, name) in list.iter().enumerate().filter(|(_, name)| reserved(name)) {
                let message = format!("`{name}` is the gateway's to set");
                problems.push(SettingsProblem::new(format!("/{key}/{index}"), message));
            }
        }
        if settings.forward.len() > 60 {
            problems.push(SettingsProblem::new("/forward", "at most 60 headers"));
        }
        if settings.max_body > 0 && settings.cache_for > Period::from_secs(0) {
            let message = "a decision about a body is not remembered: leave out `cache_for` or `max_body`";
            problems.push(SettingsProblem::new("/cache_for", message));
        }
        if settings.cache_for > Period::from_secs(0)
            && let Some(index) = settings.to_client.iter().position(|name| &**name == "set-cookie")
        {
            let message = "a cookie of one answer would be sent with others: leave it out, or `cache_for`";
            problems.push(SettingsProblem::new(format!("/to_client/{index}"), message));
        }
        if problems.is_empty() { Ok(Self(settings)) } else { Err(problems) }
    }
}

impl Authentication for ForwardAuth {
    fn interest(&self) -> Interest {
        let headers = self.0.forward.iter().map(|name| Input::header(&**name));
        let rest =
            [Input::Method, Input::Authority, Input::Path, Input::Query, Input::Scheme, Input::ClientAddress];
        Interest::none().request_headers(&self.0.forward).authenticates_by(rest.into_iter().chain(headers))
    }

    fn authenticate(&self, request: &Request) -> Decision {
        if self.0.max_body > 0 {
            // Decided when the body is there.
            return Decision::NotMine(Vec::new());
        }
        self.decide(request, None)
    }
}

impl AuthenticationByBody for ForwardAuth {
    fn interest(&self) -> Interest {
        Interest::none().request_headers(&self.0.forward).request_headers(["content-type"])
    }

    fn reads(&self) -> Reading {
        // One byte is the least that can be read.
        if self.0.max_body > 0 { Reading::whole(self.0.max_body) } else { Reading::peek(1) }
    }

    fn authenticate_by_body(&self, body: &Body, request: &Request) -> Decision {
        // Without bodies, a call comes here only if the one before has failed, or if the route wants every decision
        // (`auth = "all"`).
        self.decide(request, (self.0.max_body > 0).then_some(&body.bytes[..]))
    }
}

impl Transformation for ForwardAuth {
    fn interest(&self) -> Interest {
        Interest::none().pure(Function::OnRequest, [])
    }

    /// The gateway puts the values of the claims in; a header without a claim is removed.
    fn on_request(&self, _: &Request) -> RequestOutcome {
        let headers = self.0.to_upstream.iter();
        let changes = headers.fold(RequestChanges::none(), |changes, name| {
            changes.set_composed(&**name, [ValuePart::claim(format!("{CLAIM}{name}"))])
        });
        changes.into()
    }
}

witgate_sdk::export!(ForwardAuth: Authentication, AuthenticationByBody, Transformation);

impl ForwardAuth {
    fn decide(&self, request: &Request, body: Option<&[u8]>) -> Decision {
        match self.ask(request, body) {
            Ok(answer) if (200..300).contains(&answer.status) => self.accepted(&answer),
            Ok(answer) => self.refused(answer),
            Err(error) => {
                log::warn(format_args!("the service that decides gave no answer: {error:?}"));
                let problem = Problem::new(503, "Service Unavailable");
                let problem = problem.detail("the service that decides about requests cannot be reached");
                Response::from(problem).with_header("retry-after", "5").into()
            }
        }
    }

    /// Asks with the head that the router has matched, so that service and upstream see the same path.
    fn ask(&self, request: &Request, body: Option<&[u8]>) -> Result<InboundResponse, fetch::Error> {
        let uri = match request.query() {
            Some(query) => format!("{}?{query}", request.path()),
            None => request.path().to_owned(),
        };
        let mut question = match body {
            Some(body) => fetch::post(&self.0.upstream, &self.0.path, body),
            None => fetch::get(&self.0.upstream, &self.0.path),
        };
        question = question
            .with_header("x-forwarded-method", request.method())
            .with_header("x-forwarded-proto", request.scheme())
            .with_header("x-forwarded-host", request.authority())
            .with_header("x-forwarded-uri", uri)
            .with_header("x-forwarded-for", request.client_address());
        let content_type = body.is_some().then_some("content-type");
        let forward = self.0.forward.iter().map(|name| &**name).filter(|name| Some(*name) != content_type);
        for name in forward.chain(content_type) {
            for value in request.values(name) {
                question = question.with_header(name, value);
            }
        }
        if let Some(timeout) = self.0.timeout {
            question = question.with_timeout(timeout.duration());
        }
        question.send()
    }

    fn accepted(&self, answer: &InboundResponse) -> Decision {
        let subject =
            self.0.subject.as_ref().and_then(|name| answer.header(name)).filter(|value| !value.is_empty());
        let mut identity = Identity::new(subject.unwrap_or("forward-auth"));
        for name in &self.0.to_upstream {
            if let Some(value) = answer.header(name) {
                identity = identity.with_claim(format!("{CLAIM}{name}"), value);
            }
        }
        let acceptance = Acceptance::from(identity).cacheable_for(self.0.cache_for.duration());
        let acceptance = passed(answer, &self.0.to_client)
            .fold(acceptance, |acceptance, (name, value)| acceptance.with_response_header(name, value));
        acceptance.into()
    }

    fn refused(&self, answer: InboundResponse) -> Decision {
        // A status that ends no exchange, or one without a body, is no refusal that a client understands.
        if !(300..600).contains(&answer.status) || answer.status == 304 {
            log::warn(format_args!("the service that decides answered with {}", answer.status));
            let problem = Problem::new(502, "Bad Gateway");
            return Response::from(problem.detail("the service that decides gave no decision")).into();
        }
        let mut response = Response::new(answer.status);
        for (name, value) in passed(&answer, &self.0.refusal).filter(|(name, _)| *name != "content-type") {
            response = response.with_header(name, value);
        }
        if let Some(content_type) = answer.header("content-type") {
            response = response.with_header("content-type", content_type);
        }
        response.with_body(answer.body).into()
    }
}

/// The headers of an answer that have one of these names, with all values.
fn passed<'a>(
    answer: &'a InboundResponse,
    names: &'a [HeaderName],
) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    let listed = answer.headers.iter().filter(|header| names.iter().any(|name| **name == *header.name));
    listed.map(|header| (header.name.as_str(), header.value.as_slice()))
}

#[cfg(test)]
mod tests;
