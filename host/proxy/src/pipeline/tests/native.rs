//! Native authentication by the client's certificate, beside a plugin.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Response, StatusCode};
use witgate_config::model::OnFailure;
use witgate_exchange::contracts::{Authentication, Call, CallResult, Decision, Input};
use witgate_exchange::fault::FaultKind;
use witgate_exchange::head::{ClientCertificate, RequestHead};

use super::authentication::acceptance;
use super::fake::{Fake, local};
use super::*;

/// Knows callers by the first name in their certificate (subject alternative name); `dns:revoked` is refused.
struct ByCertificate {
    name: Arc<str>,
    calls: AtomicU64,
    rejected: AtomicU64,
}

impl ByCertificate {
    fn new() -> Arc<ByCertificate> {
        let (calls, rejected) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(ByCertificate { name: "certificate".into(), calls, rejected })
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Binding for ByCertificate {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn version(&self) -> u64 {
        u64::MAX / 2
    }

    fn on_failure(&self) -> OnFailure {
        OnFailure::Deny
    }

    fn remembers(&self) -> bool {
        true
    }

    fn reject_answer(&self, _reason: &str) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    fn authentication(self: Arc<Self>) -> Option<Arc<dyn Authentication>> {
        Some(self)
    }
}

impl Authentication for ByCertificate {
    fn authenticate<'a>(&'a self, call: Call<'a>, _remember: bool) -> CallResult<'a, Decision> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let certificate = call.head.client.certificate.as_ref();
        let decision = match certificate.and_then(|certificate| certificate.names.first()) {
            None => Decision::NotMine(Vec::new()),
            Some(name) if name == "dns:revoked" => Decision::Refused(local(403, Vec::new(), "revoked")),
            Some(name) => {
                let mut accepted = acceptance(name);
                accepted.claims = vec![("by".to_owned(), "certificate".to_owned())];
                accepted.cacheable_for = Duration::from_secs(60);
                accepted.inputs = vec![Input::ClientCertificate];
                Decision::Accepted(accepted)
            }
        };
        CallResult::over(Ok(decision))
    }
}

/// A route with the native binding first and a plugin that knows the header `x-user`.
fn fixture(auth: Auth) -> (Arc<ByCertificate>, Fixture) {
    let plugin = Fake::new("plugin").authenticate(|head: Arc<RequestHead>| {
        Ok(match head.headers.get("x-user") {
            Some(user) => Decision::Accepted(acceptance(user.to_str().expect("text"))),
            None => Decision::NotMine(vec!["Basic".to_owned()]),
        })
    });
    let mut fixture = Fixture::new([plugin]);
    let native = ByCertificate::new();
    fixture.native.push(Arc::clone(&native) as _);
    fixture.route.auth = auth;
    (native, fixture)
}

/// A request whose client presented a certificate with this name, if any.
fn request(fixture: &Fixture, name: Option<&str>, headers: &[(&str, &str)]) -> Routed {
    let mut exchange = fixture.get("/", headers);
    Arc::make_mut(&mut exchange.facts.head).client.certificate = name.map(|name| {
        let (subject, fingerprint) = ("CN=a".to_owned(), name.repeat(2));
        Arc::new(ClientCertificate {
            subject,
            names: vec![name.to_owned()],
            fingerprint,
            ..Default::default()
        })
    });
    exchange
}

fn identity(exchange: &Routed) -> Option<(&str, &str)> {
    exchange
        .exchange
        .facts
        .head
        .identity
        .as_ref()
        .map(|identity| (identity.subject.as_str(), &*identity.binding))
}

#[test]
fn a_native_binding_decides_before_a_plugin_and_leaves_to_it_what_it_does_not_know() {
    let (native, fixture) = fixture(Auth::Required);
    let mut exchange = request(&fixture, Some("dns:a.example"), &[("x-user", "ann")]);
    forwarded(&mut exchange, Body::Empty);
    assert_eq!(identity(&exchange), Some(("dns:a.example", "certificate")));
    assert_eq!((native.calls(), fixture.plugins[0].calls()), (1, 0));
    let calls = exchange.facts.record.plugins.take();
    assert_eq!(calls.iter().map(|call| &*call.binding).collect::<Vec<_>>(), ["certificate"], "it is logged");

    let mut exchange = request(&fixture, None, &[("x-user", "ann")]);
    forwarded(&mut exchange, Body::Empty);
    assert_eq!(identity(&exchange), Some(("ann", "plugin")));
    let fault = refused(&mut request(&fixture, None, &[]), Body::Empty);
    assert_eq!((fault.kind, fault.headers.len()), (FaultKind::Unauthenticated, 1), "the plugin's challenge");
}

#[test]
fn all_asks_the_native_binding_and_the_plugin() {
    let (_, fixture) = fixture(Auth::All);
    let mut exchange = request(&fixture, Some("dns:a.example"), &[("x-user", "ann")]);
    forwarded(&mut exchange, Body::Empty);
    let identity = exchange.facts.head.identity.clone().expect("somebody is known");
    assert_eq!((identity.subject.as_str(), identity.claim("by")), ("dns:a.example", Some("certificate")));
    assert_eq!(identity.claim("role"), Some("admin"), "the plugin's");
    for (name, headers) in [(Some("dns:a.example"), &[][..]), (None, &[("x-user", "ann")][..])] {
        let fault = refused(&mut request(&fixture, name, headers), Body::Empty);
        assert_eq!(fault.kind, FaultKind::Unauthenticated);
    }
}

#[test]
fn what_a_native_binding_answers_is_validated_and_remembered_like_a_plugins_answer() {
    let (native, fixture) = fixture(Auth::Required);
    let refusal = through(&mut request(&fixture, Some("dns:revoked"), &[]), Response::default());
    assert_eq!(refusal.status(), StatusCode::FORBIDDEN);

    // A result is remembered when its inputs come for the second time, and used the third time.
    for _ in 0..10 {
        let mut exchange = request(&fixture, Some("dns:b.example"), &[]);
        forwarded(&mut exchange, Body::Empty);
        assert_eq!(identity(&exchange), Some(("dns:b.example", "certificate")));
    }
    assert!(native.calls() < 10, "{} calls", native.calls());

    let (native, mut fixture) = self::fixture(Auth::Required);
    let source = model::IdentitySource::Subject;
    fixture.config.gateway.identity_headers.insert("x-user".into(), source);
    let fault = refused(&mut request(&fixture, Some("dns:a\nb"), &[]), Body::Empty);
    assert_eq!(fault.kind, FaultKind::PluginFailed);
    assert_eq!(native.rejected.load(Ordering::Relaxed), 1);
}
