//! Services that know each other by the SPIFFE ids in their certificates: one gateway beside each.

use witgate_tests::{Client, Gateway, Origin, Scratch, eventually};

const SHOP: &str = "spiffe://prod.test/shop";
const BILLING: &str = "spiffe://prod.test/billing";

/// The certificate authority of the trust domain.
struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("valid parameters");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        Authority { issuer: rcgen::CertifiedIssuer::self_signed(parameters, key).expect("a certificate") }
    }

    /// Writes NAME.crt and NAME.key for a workload with these ids, and the authority's certificate.
    fn issue(&self, scratch: &Scratch, name: &str, ids: &[&str]) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("valid parameters");
        parameters.subject_alt_names =
            ids.iter().map(|id| rcgen::SanType::URI((*id).try_into().expect("ASCII"))).collect();
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        scratch.write(&format!("{name}.key"), key.serialize_pem());
        scratch.write(&format!("{name}.crt"), certificate.pem());
        scratch.write("ca.crt", self.issuer.pem());
    }
}

/// The gateway in front of the billing service. Only the shop may use it; `/open` admits every workload, `/trial` would
/// admit nobody but the accounts.
async fn billing(authority: &Authority, origin: &Origin, own: &[&str]) -> Gateway {
    let scratch = Scratch::new();
    authority.issue(&scratch, "billing", own);
    let config = format!(
        r#"
[gateway.identity_headers]
x-caller = "subject"
x-trust-domain = "claim:trust_domain"
x-forwarded-client-cert = "client-certificate"

[telemetry]
access_log = "access.log"

[[listeners]]
name = "secure"
address = "127.0.0.1:0"
[listeners.tls]
certificate = "billing.crt"
key = "billing.key"
client_ca = "ca.crt"
client_identity = {{ spiffe = "prod.test" }}

[[routes]]
path = "/*"
allow = ["{SHOP}"]
upstream = "service"

[[routes]]
path = "/open/*"
allow = ["spiffe://prod.test/*"]
deny = ["spiffe://prod.test/intern"]
upstream = "service"

[[routes]]
path = "/trial"
allow = ["spiffe://prod.test/accounts"]
dry_run = true
upstream = "service"

[upstreams.service]
endpoints = ["{}"]
"#,
        origin.address()
    );
    Gateway::start(scratch, &config).await
}

/// The gateway of a caller with these ids, which expects the billing service at the other end.
async fn caller(authority: &Authority, billing: &Gateway, ids: &[&str]) -> Gateway {
    let scratch = Scratch::new();
    authority.issue(&scratch, "own", ids);
    let config = format!(
        r#"
[[listeners]]
name = "local"
address = "127.0.0.1:0"

[[routes]]
path = "/*"
upstream = "billing"

[upstreams.billing]
endpoints = ["{}"]
retry = {{ attempts = 1 }}
[upstreams.billing.tls]
ca = "ca.crt"
client_certificate = {{ certificate = "own.crt", key = "own.key" }}
spiffe_ids = ["{BILLING}"]
"#,
        billing.listener("secure")
    );
    Gateway::start(scratch, &config).await
}

#[tokio::test]
async fn only_the_callers_that_a_route_allows_reach_the_service_and_it_is_told_who_they_are() {
    let (authority, origin) = (Authority::new(), Origin::named("service").await);
    let billing = billing(&authority, &origin, &[BILLING]).await;
    let shop = caller(&authority, &billing, &[SHOP]).await;
    let mut client = Client::http1(shop.listener("local")).await;
    let forged = [
        ("x-caller", "spiffe://prod.test/admin"),
        ("x-forwarded-client-cert", "URI=spiffe://prod.test/admin"),
    ];
    assert_eq!(client.get("/", &forged).await.status, 200);
    assert_eq!(origin.last().header("x-caller"), SHOP);
    assert_eq!(origin.last().header("x-trust-domain"), "prod.test");
    let shown = origin.last().header("x-forwarded-client-cert").to_owned();
    assert!(shown.starts_with("Hash=") && shown.ends_with(&format!(";URI={SHOP}")), "{shown}");

    for (name, path, expected) in [
        ("spiffe://prod.test/warehouse", "/", 403),
        ("spiffe://prod.test/shop/front", "/", 403),
        ("spiffe://prod.test/warehouse", "/open/", 200),
        ("spiffe://prod.test/intern", "/open/", 403),
        ("spiffe://prod.test/intern", "/trial", 200),
    ] {
        let other = caller(&authority, &billing, &[name]).await;
        let mut client = Client::http1(other.listener("local")).await;
        assert_eq!(client.get(path, &[]).await.status, expected, "{name} {path}");
    }
    eventually("the log lines", async || {
        let log = std::fs::read_to_string(billing.scratch.path().join("access.log")).unwrap_or_default();
        let line = |path: &str, field: &str| {
            log.lines().any(|line| line.contains(&format!("\"path\":\"{path}\"")) && line.contains(field))
        };
        line("/trial", "\"dry_run_refusal\":\"the route's `allow` does not name the caller\"")
            && line("/trial", "\"spiffe_id\":\"spiffe://prod.test/intern\"")
            && line("/open/", "\"cause\":\"the route's `deny` names the caller\"")
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_is_not_that_of_one_workload_of_the_trust_domain_fails_the_handshake() {
    let (authority, origin) = (Authority::new(), Origin::named("service").await);
    let billing = billing(&authority, &origin, &[BILLING]).await;
    for ids in
        [&["spiffe://other.test/shop"][..], &[SHOP, "spiffe://prod.test/b"], &[], &["https://prod.test/shop"]]
    {
        let other = caller(&authority, &billing, ids).await;
        let mut client = Client::http1(other.listener("local")).await;
        let response = client.get("/open/", &[]).await;
        assert!(response.status.is_server_error(), "{ids:?}: {}", response.status);
    }
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn an_endpoint_with_another_identity_gets_no_request() {
    let (authority, origin) = (Authority::new(), Origin::named("service").await);
    for own in [&["spiffe://prod.test/imposter"][..], &[BILLING, SHOP], &[]] {
        let imposter = billing(&authority, &origin, own).await;
        let shop = caller(&authority, &imposter, &[SHOP]).await;
        let mut client = Client::http1(shop.listener("local")).await;
        let response = client.get("/", &[]).await;
        assert_eq!(
            (response.status.as_u16(), response.json()["code"].as_str()),
            (502, Some("upstream-tls")),
            "{own:?}"
        );
    }
    let stranger = Authority::new();
    let imposter = billing(&stranger, &origin, &[BILLING]).await;
    let shop = caller(&authority, &imposter, &[SHOP]).await;
    assert_eq!(Client::http1(shop.listener("local")).await.get("/", &[]).await.status, 502);
    assert_eq!(origin.seen().len(), 0);
}
