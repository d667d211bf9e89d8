//! The first-party plugins as an operator runs them: real components in front of a real service.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use witgate_tests::{Client, Gateway, Origin, Scratch, eventually, plugin};

/// The plugins that use a draft version of the contracts.
const DRAFT: [&str; 6] = ["maintenance", "hmac", "forward-auth", "geo", "ship", "json-schema"];

/// A gateway with one plugin bound to every request to the upstream `origin`.
pub(crate) async fn with_plugin(name: &str, binding: &str, origin: &Origin, more: &str) -> Gateway {
    let scratch = Scratch::new();
    let file = name.replace('-', "_");
    scratch.install(&plugin(name), &file);
    let unstable = if DRAFT.contains(&name) { "unstable = true\n" } else { "" };
    let text = format!(
        "{more}\n[[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"origin\"\nplugins = [\"{name}\"]\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n\
         [plugins.{name}]\nfile = \"{file}.wasm\"\n{unstable}[bindings.{name}]\n{binding}\n",
        origin.address()
    );
    Gateway::start(scratch, &text).await
}

/// An issuer of ES256 tokens with one key.
struct Issuer {
    kid: &'static str,
    key: EcdsaKeyPair,
}

impl Issuer {
    fn new(kid: &'static str) -> Self {
        Issuer { kid, key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key") }
    }

    fn jwks(&self) -> String {
        let point = self.key.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        let kid = self.kid;
        format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"{kid}","use":"sig","alg":"ES256","x":"{x}","y":"{y}"}}]}}"#
        )
    }

    fn token(&self, claims: &str) -> String {
        let header = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, self.kid);
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

fn in_an_hour() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    now.as_secs() + 3600
}

/// An identity server that sends no response while `stuck` is true.
async fn sluggish(document: String, stuck: Arc<AtomicBool>, asked: Arc<AtomicUsize>) -> Origin {
    Origin::serving(move |_| {
        let (document, stuck) = (document.clone(), stuck.load(Ordering::SeqCst));
        asked.fetch_add(1, Ordering::SeqCst);
        async move {
            if stuck {
                std::future::pending::<()>().await;
            }
            Response::new(Full::from(document).boxed_unsync())
        }
    })
    .await
}

#[tokio::test]
async fn jwt_serves_with_the_keys_it_holds_while_the_identity_server_is_slow() {
    let issuer = Issuer::new("one");
    let (stuck, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let idp = sluggish(issuer.jwks(), Arc::clone(&stuck), Arc::clone(&asked)).await;
    let origin = Origin::named("origin").await;
    let binding = "grants = { fetch = [\"idp\"], store = [\"jwks\"] }\nbudget.wall = \"300ms\"\n\
         [bindings.jwt.settings]\nissuer = \"me\"\ncache_for = \"0s\"\n\
         jwks = { upstream = \"idp\", path = \"/keys\", refresh = \"100ms\", min_interval = \"100ms\" }";
    let more = format!("[upstreams.idp]\nendpoints = [\"{}\"]\n", idp.address());
    let gateway = with_plugin("jwt", binding, &origin, &more).await;
    let mut client = gateway.client().await;
    let claims = format!(r#"{{"iss":"me","sub":"ada","exp":{}}}"#, in_an_hour());
    let token = format!("Bearer {}", issuer.token(&claims));

    for _ in 0..8 {
        let reply = client.get("/", &[("authorization", &token)]).await;
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, "5"), "there is no key yet");
        assert!(!reply.text().contains("plugin-failed"), "the plugin has answered: {}", reply.text());
    }
    stuck.store(false, Ordering::SeqCst);
    eventually("keys", async || client.get("/", &[("authorization", &token)]).await.status == 200).await;

    stuck.store(true, Ordering::SeqCst);
    let before = asked.load(Ordering::SeqCst);
    // Newer keys are fetched once the current ones are older than `refresh`; the first requests may come earlier.
    eventually("newer keys are asked for", async || {
        assert_eq!(client.get("/", &[("authorization", &token)]).await.status, 200);
        asked.load(Ordering::SeqCst) > before
    })
    .await;
    for _ in 0..12 {
        assert_eq!(client.get("/", &[("authorization", &token)]).await.status, 200);
    }
    let failures = gateway.metric("witgate_plugin_failures_total", &["binding=\"jwt\""]).await;
    assert_eq!(failures, 0.0, "a wait is nobody's misbehaviour");
}

/// Sends requests from twelve clients at once, this many from each; returns how often each status occurred.
async fn ask_from_many(
    gateway: &Gateway,
    token: &str,
    rounds: usize,
) -> std::collections::BTreeMap<u16, usize> {
    let clients = (0..12).map(|_| {
        let (address, token) = (gateway.address(), token.to_owned());
        tokio::spawn(async move {
            let mut client = Client::http1(address).await;
            let mut statuses = Vec::new();
            for _ in 0..rounds {
                statuses.push(client.get("/", &[("authorization", &token)]).await.status.as_u16());
            }
            statuses
        })
    });
    let mut counts = std::collections::BTreeMap::new();
    for client in clients.collect::<Vec<_>>() {
        for status in client.await.expect("every request is answered") {
            *counts.entry(status).or_default() += 1;
        }
    }
    counts
}

#[tokio::test]
async fn jwt_turns_nobody_away_while_the_identity_server_is_slow() {
    let issuer = Issuer::new("one");
    let (stuck, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let idp = sluggish(issuer.jwks(), Arc::clone(&stuck), Arc::clone(&asked)).await;
    let origin = Origin::named("origin").await;
    let binding = "grants = { fetch = [\"idp\"], store = [\"jwks\"] }\nbudget.wall = \"300ms\"\n\
         [bindings.jwt.settings]\nissuer = \"me\"\ncache_for = \"0s\"\n\
         jwks = { upstream = \"idp\", path = \"/keys\", refresh = \"200ms\", min_interval = \"200ms\" }";
    let more = format!("[upstreams.idp]\nendpoints = [\"{}\"]\n", idp.address());
    let gateway = with_plugin("jwt", binding, &origin, &more).await;
    let claims = format!(r#"{{"iss":"me","sub":"ada","exp":{}}}"#, in_an_hour());
    let token = format!("Bearer {}", issuer.token(&claims));

    // The identity server works, there are no keys yet, and many requests come at once: none of them is lost.
    assert_eq!(ask_from_many(&gateway, &token, 1).await, [(200, 12)].into());
    stuck.store(true, Ordering::SeqCst);
    let begun = asked.load(Ordering::SeqCst);
    let since = std::time::Instant::now();
    while asked.load(Ordering::SeqCst) < begun + 4 {
        assert_eq!(ask_from_many(&gateway, &token, 20).await, [(200, 240)].into());
    }
    let intervals = since.elapsed().as_millis() / 200 + 1;
    let fetches = asked.load(Ordering::SeqCst) - begun;
    assert!(fetches as u128 <= intervals, "{fetches} fetches in {intervals} intervals");
}

/// Requests whose clients disconnect as soon as their calls fetch, or soon after if they do not fetch.
async fn leave_early(gateway: &Gateway, token: &str, count: usize) {
    for _ in 0..count {
        let mut client = tokio::net::TcpStream::connect(gateway.address()).await.expect("a connection");
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\r\n");
        client.write_all(request.as_bytes()).await.expect("room for a request");
        // Long enough for the call to begin; the counts below do not depend on it.
        let _ = tokio::time::timeout(Duration::from_millis(20), client.read_u8()).await;
    }
}

#[tokio::test]
async fn clients_that_leave_do_not_make_jwt_fetch_more_often_or_lose_its_keys() {
    let issuer = Issuer::new("one");
    let (stuck, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let idp = sluggish(issuer.jwks(), Arc::clone(&stuck), Arc::clone(&asked)).await;
    let origin = Origin::named("origin").await;
    let binding = "grants = { fetch = [\"idp\"], store = [\"jwks\"] }\n\
         [bindings.jwt.settings]\nissuer = \"me\"\ncache_for = \"0s\"\n\
         jwks = { upstream = \"idp\", path = \"/keys\", min_interval = \"2s\" }";
    let more = format!("[upstreams.idp]\nendpoints = [\"{}\"]\n", idp.address());
    let gateway = with_plugin("jwt", binding, &origin, &more).await;
    let claims = format!(r#"{{"iss":"me","sub":"ada","exp":{}}}"#, in_an_hour());
    let token = format!("Bearer {}", issuer.token(&claims));
    let unknown = format!("Bearer {}", Issuer::new("unknown").token(&claims));

    // There are no keys: a limited number of calls may fetch in parallel to the first one, and one more each
    // second.
    let begun = std::time::Instant::now();
    leave_early(&gateway, &unknown, 80).await;
    let most = 33 + begun.elapsed().as_secs() as usize;
    let fetches = asked.load(Ordering::SeqCst);
    assert!(fetches <= most, "{fetches} fetches for 80 clients that left, at most {most}");

    stuck.store(false, Ordering::SeqCst);
    let mut client = gateway.client().await;
    eventually("keys", async || client.get("/", &[("authorization", &token)]).await.status == 200).await;
    stuck.store(true, Ordering::SeqCst);
    let before = asked.load(Ordering::SeqCst);
    let begun = std::time::Instant::now();
    eventually("a fetch by a client that leaves", async || {
        leave_early(&gateway, &unknown, 4).await;
        asked.load(Ordering::SeqCst) > before
    })
    .await;
    leave_early(&gateway, &unknown, 30).await;
    let (fetches, most) = (asked.load(Ordering::SeqCst) - before, begun.elapsed().as_secs() as usize / 2 + 1);
    assert!(fetches <= most, "{fetches} fetches, at most {most}");
    assert_eq!(ask_from_many(&gateway, &token, 5).await, [(200, 60)].into(), "the keys are held");
}

#[tokio::test]
async fn jwt_has_the_cpu_time_to_find_a_key_set_too_large_or_full_of_junk() {
    let issuer = Issuer::new("one");
    let served = Arc::new(Mutex::new(issuer.jwks()));
    let document = Arc::clone(&served);
    let idp =
        Origin::with(move |_| Response::new(Full::from(document.lock().expect("a lock").clone()))).await;
    let origin = Origin::named("origin").await;
    let binding = "grants = { fetch = [\"idp\"], store = [\"jwks\"] }\n\
         [bindings.jwt.settings]\nissuer = \"me\"\ncache_for = \"0s\"\n\
         jwks = { upstream = \"idp\", path = \"/keys\", refresh = \"50ms\", min_interval = \"50ms\" }";
    let more = format!("[upstreams.idp]\nendpoints = [\"{}\"]\n", idp.address());
    let gateway = with_plugin("jwt", binding, &origin, &more).await;
    let mut client = gateway.client().await;
    let claims = format!(r#"{{"iss":"me","sub":"ada","exp":{}}}"#, in_an_hour());
    let token = format!("Bearer {}", issuer.token(&claims));
    assert_eq!(client.get("/", &[("authorization", &token)]).await.status, 200);

    let junk = |count: usize, more: &str| {
        let key = format!(r#"{{"kty":"X","a":[1,1,1]{more}}}"#);
        format!(r#"{{"keys":[{}]}}"#, vec![key; count].join(","))
    };
    let certificates = format!(r#","x5c":["{}"]"#, "M".repeat(4500));
    let lists = format!(r#","key_ops":[{}1]"#, "1,".repeat(200_000));
    for text in [junk(25_000, ""), junk(16_000, ""), junk(61, &certificates), junk(1, &lists)] {
        let (length, before) = (text.len(), idp.seen().len());
        *served.lock().expect("a lock") = text.replacen(r#"{"keys":["#, &issuer.jwks().replace("]}", ","), 1);
        eventually("two fetches of it", async || {
            assert_eq!(client.get("/", &[("authorization", &token)]).await.status, 200, "{length} bytes");
            idp.seen().len() >= before + 2
        })
        .await;
    }
    let failures = gateway.metric("witgate_plugin_failures_total", &["binding=\"jwt\""]).await;
    assert_eq!(failures, 0.0, "no call was killed");
}

#[tokio::test]
async fn jwt_takes_keys_by_fetch_and_follows_their_rotation() {
    let (one, two) = (Issuer::new("one"), Issuer::new("two"));
    let served = Arc::new(Mutex::new(one.jwks()));
    let document = Arc::clone(&served);
    let idp =
        Origin::with(move |_| Response::new(Full::from(document.lock().expect("a lock").clone()))).await;
    let origin = Origin::named("origin").await;
    let binding = "grants = { fetch = [\"idp\"], store = [\"jwks\"] }\n[bindings.jwt.settings]\nissuer = \"me\"\n\
         claims = [\"role\"]\njwks = { upstream = \"idp\", path = \"/keys\", min_interval = \"100ms\" }";
    let more = format!(
        "[gateway]\nidentity_headers = {{ x-user = \"subject\", x-role = \"claim:role\" }}\n\
         [upstreams.idp]\nendpoints = [\"{}\"]\n",
        idp.address()
    );
    let gateway = with_plugin("jwt", binding, &origin, &more).await;
    let mut client = gateway.client().await;

    let claims = format!(r#"{{"iss":"me","sub":"ada","role":"reader","exp":{}}}"#, in_an_hour());
    let token = format!("Bearer {}", one.token(&claims));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers =
        [("authorization", &*token), ("x-user", "root"), ("x-role", "admin"), ("traceparent", parent)];
    let reply = client.get("/", &headers).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!((origin.last().header("x-user"), origin.last().header("x-role")), ("ada", "reader"));
    assert_eq!(idp.last().uri, "/keys", "the keys came through the upstream");
    assert_eq!(idp.last().header("traceparent"), parent, "in the trace of the request");

    *served.lock().expect("a lock") = two.jwks();
    let token = format!("Bearer {}", two.token(&claims));
    eventually("the rotated key", async || client.get("/", &[("authorization", &token)]).await.status == 200)
        .await;

    let forged = format!("Bearer {}x", two.token(&claims));
    let expired = format!("Bearer {}", two.token(r#"{"iss":"me","sub":"ada","exp":1000}"#));
    let stranger = format!("Bearer {}", Issuer::new("two").token(&claims));
    let none = format!(
        "Bearer {}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        URL_SAFE_NO_PAD.encode(&claims)
    );
    for bad in [&forged, &expired, &stranger, &none] {
        let reply = client.get("/", &[("authorization", bad)]).await;
        assert_eq!(reply.status, 401, "{bad}");
        assert!(reply.header("www-authenticate").starts_with("Bearer"), "{bad}");
    }
    let reply = client.get("/", &[]).await;
    assert_eq!(reply.status, 401, "nobody is not somebody");
    assert!(reply.header("www-authenticate").starts_with("Bearer"));
}

#[tokio::test]
async fn a_limit_holds_over_all_cores_and_never_admits_more() {
    let origin = Origin::named("origin").await;
    let settings = "[bindings.rate-limit.settings]\npolicies = [\
         { name = \"all\", by = [], limit = 50, window = \"1h\" }]";
    let gateway = with_plugin("rate-limit", settings, &origin, "[gateway]\nworkers = 2\n").await;
    let address = gateway.address();
    let clients = (0..8).map(|_| {
        tokio::spawn(async move {
            let mut admitted = 0;
            for _ in 0..4 {
                let mut client = Client::http1(address).await;
                for _ in 0..10 {
                    let reply = client.get("/", &[]).await;
                    match reply.status.as_u16() {
                        200 => admitted += 1,
                        429 => {
                            assert!(reply.header("retry-after").parse::<u64>().expect("seconds") > 0);
                            assert!(reply.header("ratelimit").contains("\"all\""), "{:?}", reply.headers);
                        }
                        other => panic!("{other}: {}", reply.text()),
                    }
                    assert!(reply.header("ratelimit-policy").contains("q=50"), "{:?}", reply.headers);
                }
            }
            admitted
        })
    });
    let mut admitted = 0;
    for client in clients.collect::<Vec<_>>() {
        admitted += client.await.expect("every request is answered");
    }
    assert_eq!(admitted, 50);
    assert_eq!(origin.seen().len(), 50);
}

#[tokio::test]
async fn api_keys_are_known_by_their_hash() {
    let origin = Origin::named("origin").await;
    let hash: String = Sha256::digest(b"the-key").iter().map(|byte| format!("{byte:02x}")).collect();
    let settings = format!(
        "[bindings.api-key.settings]\nquery = \"key\"\nheader = \"x-api-key\"\n\
         keys = [{{ name = \"partner\", sha256 = \"{hash}\", claims = {{ plan = \"gold\" }} }}]"
    );
    let more = "[gateway]\nidentity_headers = { x-plan = \"claim:plan\", x-by = \"binding\" }\n";
    let gateway = with_plugin("api-key", &settings, &origin, more).await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/", &[("x-api-key", "the-key")]).await.status, 200);
    assert_eq!((origin.last().header("x-plan"), origin.last().header("x-by")), ("gold", "api-key"));
    assert_eq!(client.get("/?key=the-key", &[]).await.status, 200);
    assert_eq!(client.get("/", &[("x-api-key", "another")]).await.status, 401);
    assert_eq!(client.get("/", &[]).await.status, 401);
}

#[tokio::test]
async fn maintenance_answers_before_authentication_and_lets_the_excepted_through() {
    let origin = Origin::named("origin").await;
    let settings = "[bindings.maintenance.settings]\nretry_after = \"10m\"\nexcept = [\"/healthz\"]\n";
    let gateway = with_plugin("maintenance", settings, &origin, "").await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        let reply = client.post("/a", &[], "a body").await;
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, "600"));
        assert_eq!(reply.json()["title"], "Under maintenance");
    }
    assert_eq!(client.get("/healthz", &[]).await.status, 200);
    let open = std::fs::read_to_string(gateway.scratch.config()).expect("the configuration");
    gateway.reconfigure(&open.replace("except =", "allow = [\"127.0.0.0/8\"]\nexcept =")).await;
    assert_eq!(client.get("/a", &[]).await.status, 200);
}

#[tokio::test]
async fn a_signed_webhook_is_known_by_its_body_and_a_replayed_signature_does_not_fit_another() {
    let origin = Origin::named("origin").await;
    let settings = "budget = { cpu = \"1s\", wall = \"5s\", body_limit = \"64KiB\" }\n[bindings.hmac.settings]\n\
                    format = \"github\"\nsecrets = [\"It's a Secret to Everybody\"]\nsubject = \"github\"\n";
    let more = "[gateway]\nidentity_headers = { x-user = \"subject\" }\n";
    let gateway = with_plugin("hmac", settings, &origin, more).await;
    let mut client = gateway.client().await;
    let name = "x-hub-signature-256";
    let signed = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(client.post("/hook", &[(name, signed)], "Hello, World!").await.status, 200);
    let seen = origin.last();
    assert_eq!((&seen.body[..], seen.header("x-user")), (&b"Hello, World!"[..], "github"));
    for (headers, body, status) in [
        (vec![(name, signed)], "Hello, World?".to_owned(), 401),
        (vec![(name, signed)], String::new(), 401),
        (vec![], "Hello, World!".to_owned(), 401),
        (vec![(name, signed)], "x".repeat(64 * 1024 + 1), 413),
    ] {
        assert_eq!(client.post("/hook", &headers, body).await.status, status);
        client = gateway.client().await;
    }
    assert_eq!(origin.seen().len(), 1, "nothing else passed");
}

#[tokio::test]
async fn a_canary_goes_where_it_may_and_sticks() {
    let (origin, canary) = (Origin::named("stable").await, Origin::named("canary").await);
    let binding = "grants = { route_to = [\"canary\"] }\n[bindings.canary.settings]\nupstream = \"canary\"\n\
         header = { name = \"x-canary\", value = \"always\" }\npercent = 50\nsticky = { cookie = { name = \"place\" } }";
    let more = format!("[upstreams.canary]\nendpoints = [\"{}\"]\n", canary.address());
    let gateway = with_plugin("canary", binding, &origin, &more).await;
    let mut client = gateway.client().await;
    assert!(client.get("/", &[("x-canary", "always")]).await.text().starts_with("canary"));
    assert!(client.get("/", &[("x-canary", "never")]).await.text().starts_with("stable"));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let first = client.get("/", &[]).await;
        let name = first.text().split(' ').next().expect("a name").to_owned();
        let cookie = first.header("set-cookie").split(';').next().expect("a cookie").to_owned();
        assert!(cookie.starts_with("place="), "{cookie}");
        for _ in 0..3 {
            assert!(
                client.get("/", &[("cookie", &cookie)]).await.text().starts_with(&name),
                "the choice sticks"
            );
        }
        seen.insert(name);
    }
    assert_eq!(seen.len(), 2, "half go each way");

    // A use that is not granted is refused, and the route fails closed.
    let gateway = with_plugin("canary", &binding.replace("[\"canary\"]", "[]"), &origin, &more).await;
    let reply = gateway.client().await.get("/", &[("x-canary", "always")]).await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].as_str()), (503, Some("plugin-failed")));
}

#[tokio::test]
async fn json_bodies_are_edited_also_when_they_are_compressed() {
    let json = br#"{"user":{"name":"ada","password":"secret"},"mail":"a@b"}"#;
    let mut gzip = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip");
    gzip.stdin.take().expect("its input is ours").write_all(json).expect("gzip reads");
    let compressed = Bytes::from(gzip.wait_with_output().expect("gzip ends").stdout);
    let origin = Origin::with(move |seen| {
        let response =
            Response::builder().header("content-type", "application/json").header("etag", "\"v1\"");
        match seen.uri.path() {
            "/echo" => response.body(Full::new(seen.body.clone())),
            "/plain" => response.body(Full::from(json.as_slice())),
            _ => response.header("content-encoding", "gzip").body(Full::new(compressed.clone())),
        }
        .expect("a fixed head")
    })
    .await;
    let settings = "[bindings.json-body.settings]\nrequest = { remove = [\"/admin\"] }\n\
         response = { redact = [\"/**/password\"], rename = { \"/mail\" = \"email\" } }";
    let gateway = with_plugin("json-body", settings, &origin, "").await;
    for mut client in [gateway.client().await, Client::http2(gateway.address()).await] {
        for target in ["/plain", "/compressed"] {
            let reply = client.get(target, &[("accept-encoding", "gzip")]).await;
            assert_eq!(reply.status, 200, "{target}: {:?}", reply.body);
            assert_eq!(reply.header("content-encoding"), "", "{target} leaves decoded");
            let expected = r#"{"user":{"name":"ada","password":"[redacted]"},"email":"a@b"}"#;
            assert_eq!(reply.text(), expected, "{target}");
            assert_eq!(reply.header("etag"), "W/\"v1\"", "{target}: the same resource, other bytes");
        }
        let headers = [("content-type", "application/json")];
        let reply = client.post("/echo", &headers, r#"{"admin":true,"keep":1.50}"#).await;
        assert_eq!(reply.text(), r#"{"keep":1.50}"#);
        assert_eq!(origin.last().header("content-length"), "13");
    }
}

#[tokio::test]
async fn no_request_ever_sees_another_ones_bytes() {
    let origin = Origin::with(|seen| Response::new(Full::new(seen.body.clone()))).await;
    let settings = "[bindings.headers.settings]\nrequest = { set = { x-copy = \"{header.x-secret}\" } }\n\
         response = { set = { x-echo = \"{header.x-secret}\" } }";
    let gateway = with_plugin("headers", settings, &origin, "[gateway]\nworkers = 2\n").await;
    let address = gateway.address();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            tokio::spawn(async move {
                let mut connection =
                    if client % 2 == 0 { Client::http1(address).await } else { Client::http2(address).await };
                for round in 0..100 {
                    let secret = format!("canary-{client}-{round}");
                    // Every third request has no secret, and the header must then be absent.
                    let headers: &[(&str, &str)] =
                        if round % 3 == 0 { &[] } else { &[("x-secret", &secret)] };
                    let reply = connection.post("/", headers, secret.clone()).await;
                    let expected = if round % 3 == 0 { "" } else { &secret };
                    assert_eq!((reply.header("x-echo"), reply.text()), (expected, secret.as_str()));
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("every request saw its own bytes only");
    }
    for seen in origin.seen() {
        assert_eq!(seen.header("x-copy"), seen.header("x-secret"));
    }
}

#[tokio::test]
async fn a_key_flood_cannot_grow_the_table() {
    let origin = Origin::named("origin").await;
    let settings = "[bindings.rate-limit.settings]\npolicies = [\
         { name = \"by-header\", by = { header = \"x-key\" }, limit = 1000, window = \"1h\" }]";
    let gateway = with_plugin("rate-limit", settings, &origin, "").await;
    let mut client = gateway.client().await;
    for number in 0..500 {
        client.get("/", &[("x-key", &format!("warm-{number}"))]).await;
    }
    let before = gateway.resident();
    let begun = std::time::Instant::now();
    for number in 0..5000 {
        client.get("/", &[("x-key", &format!("flood-{number}"))]).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(gateway.resident() < before + (8 << 20), "{} KiB more", (gateway.resident() - before) >> 10);
}

#[tokio::test]
async fn a_body_whose_coding_is_a_lie_is_the_clients_mistake_and_one_of_the_upstream_is_the_upstreams() {
    let origin = Origin::with(|seen| {
        let coding = seen.uri.query().unwrap_or("identity");
        let response = Response::builder().header("content-type", "application/json");
        response.header("content-encoding", coding).body(Full::from("{\"a\":1}")).expect("a fixed head")
    })
    .await;
    let settings = "[bindings.json-body.settings]\nrequest = { remove = [\"/admin\"] }\n\
         response = { remove = [\"/admin\"] }";
    let gateway =
        with_plugin("json-body", settings, &origin, "[telemetry]\naccess_log = \"access.log\"\n").await;
    for http2 in [false, true] {
        // A refusal may end the connection, so each request has one of its own.
        let client = async || match http2 {
            true => Client::http2(gateway.address()).await,
            false => gateway.client().await,
        };
        let post = async |coding: &str| {
            let headers = [("content-type", "application/json"), ("content-encoding", coding)];
            client().await.post("/", &headers, r#"{"admin":true}"#).await
        };
        for coding in ["gzip", "br", "zstd"] {
            let reply = post(coding).await;
            assert_eq!(
                (reply.status.as_u16(), reply.json()["code"].clone()),
                (400, "bad-request".into()),
                "{coding}"
            );
            let of_upstream = client().await.get(&format!("/?{coding}"), &[]).await;
            let code = of_upstream.json()["code"].clone();
            assert_eq!((of_upstream.status.as_u16(), code), (502, "upstream-protocol".into()), "{coding}");
        }
        for coding in ["compress", "gzip, br"] {
            let reply = post(coding).await;
            let code = reply.json()["code"].clone();
            assert_eq!((reply.status.as_u16(), code), (415, "unsupported-encoding".into()), "{coding}");
            assert_eq!(reply.header("accept-encoding"), "gzip, br, zstd, identity");
        }
    }
    let log = || std::fs::read_to_string(gateway.scratch.path().join("access.log")).unwrap_or_default();
    eventually("a line for each", async || log().lines().count() == 16).await;
    assert!(!log().contains("client-gone") && !log().contains("plugin-failed"), "{}", log());
    assert!(log().contains("binding `json-body`, request-body"), "the log names the binding");
}

#[tokio::test]
async fn a_refusal_by_a_rate_limit_names_policy_and_binding() {
    let origin = Origin::named("origin").await;
    let settings = "[bindings.rate-limit.settings]\npolicies = [\
         { name = \"hourly\", by = [], limit = 1, window = \"1h\" }]";
    let gateway =
        with_plugin("rate-limit", settings, &origin, "[telemetry]\naccess_log = \"access.log\"\n").await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/", &[]).await.status, 200);
    let reply = client.get("/", &[]).await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.json()["detail"], "the limit of the policy `hourly` is used up");
    let log = || std::fs::read_to_string(gateway.scratch.path().join("access.log")).unwrap_or_default();
    eventually("the line", async || log().contains("rate-limited")).await;
    assert!(log().contains("policy `hourly` of binding `rate-limit`"), "{}", log());
}
