//! Which callers a route admits, and the identity that a client certificate gives.

use witgate_config::scalar::{CallerPattern, Scalar};
use witgate_exchange::contracts::Decision;
use witgate_exchange::fault::FaultKind;
use witgate_exchange::head::{CERTIFICATE_BINDING, ClientCertificate, RequestHead};
use witgate_exchange::identity::Identity;

use super::authentication::acceptance;
use super::*;

const SHOP: &str = "spiffe://d/shop";

fn patterns(written: &[&str]) -> Vec<CallerPattern> {
    written.iter().map(|text| CallerPattern::read(text).expect("a pattern")).collect()
}

/// A route that admits these callers.
fn fixture(allow: &[&str], deny: &[&str]) -> Fixture {
    let mut fixture = Fixture::new([]);
    fixture.route.auth = Auth::Optional;
    fixture.route.callers = model::Callers { allow: patterns(allow), deny: patterns(deny), dry_run: false };
    fixture
}

/// A request over a connection with the certificate of a workload. `identified`: it is the caller's identity, too.
fn request(fixture: &Fixture, spiffe_id: Option<&str>, identified: bool) -> Routed {
    let mut exchange = fixture.get("/", &[]);
    exchange.route.by_certificate = identified;
    let identity = |id: &str| {
        let (subject, claims) = (id.to_owned(), Vec::new());
        Arc::new(Identity { subject, claims, binding: CERTIFICATE_BINDING.into() })
    };
    Arc::make_mut(&mut exchange.facts.head).client.certificate = spiffe_id.map(|id| {
        let identity = identified.then(|| identity(id));
        Arc::new(ClientCertificate { spiffe_id: Some(id.to_owned()), identity, ..Default::default() })
    });
    exchange
}

#[test]
fn deny_is_stronger_than_allow_and_without_allow_everybody_else_is_admitted() {
    let admitted = |allow: &[&str], deny: &[&str], id: Option<&str>| {
        let fixture = fixture(allow, deny);
        let mut exchange = request(&fixture, id, false);
        outcome(&mut exchange)
    };
    assert_eq!(admitted(&[SHOP], &[], Some(SHOP)), None);
    assert_eq!(admitted(&["spiffe://d/*"], &[], Some(SHOP)), None);
    assert_eq!(admitted(&["*"], &[], Some(SHOP)), None);
    assert_eq!(admitted(&[], &["spiffe://d/other"], Some(SHOP)), None);
    assert_eq!(admitted(&[], &["spiffe://d/other"], None), None);
    for (allow, deny, id) in [
        (&[SHOP][..], &[][..], Some("spiffe://d/shop2")),
        (&[SHOP], &[], None),
        (&["*"], &[], None),
        (&[SHOP], &["spiffe://d/*"], Some(SHOP)),
        (&["*"], &[SHOP], Some(SHOP)),
    ] {
        assert_eq!(admitted(allow, deny, id), Some(FaultKind::Forbidden), "{allow:?} {deny:?} {id:?}");
    }
}

/// The kind of fault with which the way down ends; `None`: the request has passed.
fn outcome(exchange: &mut Routed) -> Option<FaultKind> {
    testing::run(descend(exchange, Body::Empty)).err().map(|fault| fault.kind)
}

#[test]
fn a_dry_run_refuses_nobody_and_records_whom_it_would_have_refused() {
    let mut fixture = fixture(&[SHOP], &[]);
    fixture.route.callers.dry_run = true;
    let mut exchange = request(&fixture, Some("spiffe://d/other"), false);
    assert_eq!(outcome(&mut exchange), None);
    let recorded = exchange.facts.record.dry_run_refusal;
    assert_eq!(recorded, Some("the route's `allow` does not name the caller"));
    let mut exchange = request(&fixture, Some(SHOP), false);
    assert_eq!(outcome(&mut exchange), None);
    assert_eq!(exchange.facts.record.dry_run_refusal, None);
}

#[test]
fn a_subject_that_looks_like_a_spiffe_id_is_none() {
    let fixture = |subject: &'static str, allow: &[&str]| {
        let plugin = Fake::new("plugin")
            .authenticate(move |_: Arc<RequestHead>| Ok(Decision::Accepted(acceptance(subject))));
        let mut fixture = Fixture::new([plugin]);
        fixture.route.callers.allow = patterns(allow);
        outcome(&mut fixture.get("/", &[]))
    };
    assert_eq!(fixture(SHOP, &[SHOP]), Some(FaultKind::Forbidden));
    assert_eq!(fixture("ann", &["ann"]), None);
    assert_eq!(fixture("ann", &["*"]), None);
    assert_eq!(fixture("ann", &["bob"]), Some(FaultKind::Forbidden));
}

#[test]
fn the_certificate_is_the_identity_where_the_listener_says_so_and_required_unless_it_is_optional() {
    let mut fixture = fixture(&[], &[]);
    let mut exchange = request(&fixture, Some(SHOP), true);
    assert_eq!(outcome(&mut exchange), None);
    let identity = exchange.facts.head.identity.clone().expect("an identity");
    assert_eq!((&*identity.subject, &*identity.binding), (SHOP, CERTIFICATE_BINDING));
    assert_eq!(outcome(&mut request(&fixture, None, true)), None, "optional");
    for auth in [Auth::Required, Auth::All] {
        fixture.route.auth = auth;
        assert_eq!(outcome(&mut request(&fixture, Some(SHOP), true)), None);
        assert_eq!(outcome(&mut request(&fixture, None, true)), Some(FaultKind::Unauthenticated));
    }
}
