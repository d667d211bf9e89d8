//! The authentication contract: who the caller is.
//!
//! Bindings are called in the configured order. With `auth = "required"` or `"optional"`, the first that
//! recognises the caller decides. With `"all"`, every binding must recognise the caller; the first gives the
//! subject, and later ones add claims. A refusal is sent at once in every mode, because invalid credentials are
//! not the same as no credentials. A call that failed and is skipped counts as `NotMine`, so that `"required"`
//! still fails closed. So does a binding that is left out by its `when` or `unless`. Bindings that authenticate by the
//! body are called after all others; without `"all"` only if the caller is not known by then.
//!
//! Plugins see the identity only after this phase, so that no decision can depend on something that it cannot name
//! among its inputs.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, HeaderValue, Response};
use witgate_config::model::{Auth, Gateway, IdentitySource};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::{Acceptance, Authentication, Binding, Call, Decision, Input, Phase};
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::identity::Identity;
use witgate_wire::http1::field;

use crate::pipeline::body::reader::BodyReader;
use crate::pipeline::by_body;
use crate::pipeline::call;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::remembered::{self, Lookup, Rememberable};
use crate::pipeline::validate::{self, Invalid};
use crate::router::Route;

/// Establishes who the caller is, or returns the response of a plugin that refuses. The body is read only if the head
/// does not decide and a binding authenticates by the body.
///
/// # Errors
/// `Unauthenticated` with the challenges of all bindings, `PluginFailed`, or the body cannot be read.
pub(super) async fn run(
    exchange: &mut Exchange,
    route: &Route,
    body: &mut BodyReader,
) -> Result<Option<Response<Body>>, Fault> {
    let all = route.config.auth == Auth::All;
    let mut recognition = Recognition::default();
    for authentication in &route.authentication {
        if exchange.leaves_out(&**authentication) {
            recognition.leave_out();
            continue;
        }
        let verdict = decide(exchange, &**authentication).await?;
        if let Some(refusal) = recognition.take(verdict, exchange) {
            return Ok(Some(refusal));
        }
        if recognition.is_known() && !all {
            break;
        }
    }
    if !route.authentication_by_body.is_empty() && (all || !recognition.is_known()) {
        // Boxed, so that requests whose bodies are not read do not hold memory for its state.
        let asked = Box::pin(by_body::authenticate(exchange, route, body, &mut recognition));
        if let Some(refusal) = asked.await? {
            return Ok(Some(refusal));
        }
    }
    recognition.settle(exchange, route)?;
    Ok(None)
}

/// What is known of the caller so far.
#[derive(Default)]
pub(super) struct Recognition {
    identity: Option<Arc<Identity>>,
    challenges: Vec<HeaderValue>,
    /// Whether a binding did not recognise the caller.
    unrecognised: bool,
}

impl Recognition {
    /// Whether a binding has recognised the caller.
    pub(super) fn is_known(&self) -> bool {
        self.identity.is_some()
    }

    /// A binding is left out, so it recognises nobody.
    pub(super) fn leave_out(&mut self) {
        self.unrecognised = true;
    }

    /// Adds the verdict of a binding; returns its response if it refuses.
    pub(super) fn take(&mut self, verdict: Verdict, exchange: &mut Exchange) -> Option<Response<Body>> {
        match verdict {
            Verdict::Accepted(accepted) => {
                accepted.add_to(&mut self.identity);
                exchange.facts.response_headers.extend_from_slice(&accepted.response_headers);
                None
            }
            Verdict::Refused(response) => Some(response),
            Verdict::NotMine(more) => {
                self.challenges.extend(more);
                self.unrecognised = true;
                None
            }
        }
    }

    /// Decides whether enough is known of the caller, and notes the identity.
    fn settle(self, exchange: &mut Exchange, route: &Route) -> Result<(), Fault> {
        let known = match route.config.auth {
            Auth::Optional => true,
            Auth::Required => self.identity.is_some() || !route.authenticates(),
            Auth::All => !self.unrecognised,
        };
        if !known {
            let first = route.authentication.iter().map(|one| one.name());
            let bindings = first.chain(route.authentication_by_body.iter().map(|one| one.name()));
            let bindings: Vec<_> = bindings.map(|name| format!("`{name}`")).collect();
            let fault = Fault::new(FaultKind::Unauthenticated)
                .cause(format!("no identity from the bindings {}", bindings.join(", ")));
            let challenges = self.challenges.into_iter();
            return Err(challenges.fold(fault, |fault, one| fault.header(WWW_AUTHENTICATE, one)));
        }
        if self.identity.is_some() {
            Arc::make_mut(&mut exchange.facts.head).identity = self.identity;
        }
        Ok(())
    }
}

/// Takes the caller's identity from the verified client certificate.
///
/// # Errors
/// `Unauthenticated`: the route requires an identity, and the client has shown no certificate that gives one.
pub(super) fn by_certificate(exchange: &mut Exchange, route: &Route) -> Result<(), Fault> {
    let certificate = exchange.facts.head.client.certificate.as_ref();
    match certificate.and_then(|certificate| certificate.identity.clone()) {
        Some(identity) => {
            Arc::make_mut(&mut exchange.facts.head).identity = Some(identity);
            Ok(())
        }
        None if route.config.auth == Auth::Optional => Ok(()),
        None => Err(Fault::new(FaultKind::Unauthenticated)
            .cause("the client has shown no certificate that `client_identity` can take an identity from")),
    }
}

/// Writes the identity headers for the upstream. Headers of these names are removed first, although they have been
/// removed from the client's request and plugins cannot write them, because upstreams trust these headers.
pub(super) fn write_identity(exchange: &mut Exchange) -> Result<(), Fault> {
    let names = &exchange.snapshot.identity_headers;
    let head = &exchange.facts.head;
    if head.identity.is_none()
        && head.client.certificate.is_none()
        && !names.iter().any(|(name, _)| head.headers.contains_key(name))
    {
        return Ok(());
    }
    let head = Arc::make_mut(&mut exchange.facts.head);
    for (name, source) in names {
        let text = match source {
            IdentitySource::ClientCertificate => {
                head.client.certificate.as_ref().map(|shown| &*shown.forwarded)
            }
            of_identity => head.identity.as_ref().and_then(|identity| identity.text_of(of_identity)),
        };
        let Some(text) = text else {
            head.headers.remove(name);
            continue;
        };
        let Some(value) = field::value(Bytes::copy_from_slice(text.as_bytes())) else {
            return Err(Fault::new(FaultKind::Internal).cause("an identity header cannot be written"));
        };
        head.headers.insert(name, value);
    }
    Ok(())
}

/// A validated decision.
pub(super) enum Verdict {
    Accepted(Rc<Accepted>),
    Refused(Response<Body>),
    NotMine(Vec<HeaderValue>),
}

/// A validated acceptance.
#[derive(Debug)]
pub(super) struct Accepted {
    identity: Arc<Identity>,
    response_headers: Vec<(HeaderName, HeaderValue)>,
    cacheable_for: Duration,
    inputs: Vec<Input>,
}

async fn decide(exchange: &mut Exchange, authentication: &dyn Authentication) -> Result<Verdict, Fault> {
    let miss = match remembered::recall_acceptance(authentication, &exchange.snapshot, &exchange.facts.head) {
        Lookup::Hit(accepted) => {
            let Facts { record, head, .. } = &mut exchange.facts;
            call::note_recalled(record, head, authentication, Phase::Authentication);
            return Ok(Verdict::Accepted(accepted));
        }
        Lookup::Miss(miss) => miss,
    };
    let gateway = &exchange.snapshot.config.gateway;
    let answer = call::call(
        &mut exchange.facts.record.plugins,
        authentication,
        Phase::Authentication,
        || {
            let call = Call { head: &exchange.facts.head, fetch: &exchange.snapshot };
            authentication.authenticate(call, miss.is_leave())
        },
        |decision| Verdict::check(decision, authentication, gateway),
    );
    let verdict = answer.await?.unwrap_or(Verdict::NotMine(Vec::new()));
    if let Verdict::Accepted(accepted) = &verdict {
        let basis = (&accepted.inputs[..], accepted.cacheable_for);
        remembered::remember_acceptance(
            &miss,
            authentication,
            &exchange.snapshot,
            &exchange.facts.head,
            basis,
            accepted,
        );
    }
    Ok(verdict)
}

impl call::Decision for Verdict {
    fn in_words(&self) -> &'static str {
        match self {
            Verdict::Accepted(_) => "accepted",
            Verdict::Refused(_) => "refused",
            Verdict::NotMine(_) => "not mine",
        }
    }
}

impl Verdict {
    pub(super) fn check(
        decision: Decision,
        binding: &dyn Binding,
        gateway: &Gateway,
    ) -> Result<Self, Invalid> {
        match decision {
            Decision::Accepted(acceptance) => Accepted::check(acceptance, binding, gateway)
                .map(|accepted| Verdict::Accepted(Rc::new(accepted))),
            Decision::Refused(response) => validate::response(response).map(Verdict::Refused),
            Decision::NotMine(challenges) => challenges
                .into_iter()
                .map(|challenge| validate::value(Bytes::from(challenge)))
                .collect::<Result<_, _>>()
                .map(Verdict::NotMine),
        }
    }
}

impl Accepted {
    fn check(acceptance: Acceptance, binding: &dyn Binding, gateway: &Gateway) -> Result<Self, Invalid> {
        if acceptance.subject.is_empty() {
            return Err(Invalid::new("the subject is empty"));
        }
        let Acceptance { subject, claims, response_headers, cacheable_for, inputs } = acceptance;
        let identity = Identity { subject, claims, binding: Arc::clone(binding.name()) };
        for source in gateway.identity_headers.values() {
            if identity.text_of(source).is_some_and(|text| !field::is_text(text.as_bytes())) {
                return Err(Invalid::new(
                    "the subject, or a claim that becomes a header, contains control bytes",
                ));
            }
        }
        Ok(Accepted {
            identity: Arc::new(identity),
            response_headers: validate::response_headers(response_headers)?,
            cacheable_for,
            inputs,
        })
    }

    /// Sets the identity, or adds the claims to an existing one.
    fn add_to(&self, identity: &mut Option<Arc<Identity>>) {
        let Some(first) = identity else {
            *identity = Some(Arc::clone(&self.identity));
            return;
        };
        for (name, value) in &self.identity.claims {
            if first.claim(name).is_none() {
                Arc::make_mut(first).claims.push((name.clone(), value.clone()));
            }
        }
    }
}

impl Rememberable for Accepted {
    fn size(&self) -> usize {
        let Identity { subject, claims, .. } = &*self.identity;
        let claims: usize = claims.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        let identity = subject.len() + claims + size_of::<Identity>();
        identity + validate::size_of_headers(&self.response_headers) + size_of::<Accepted>()
    }
}
