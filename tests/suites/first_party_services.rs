//! First-party plugins that ask, tell or read something, as an operator runs them: real components in front of real services.

#[path = "../../plugins/geo/src/tests/writer.rs"]
mod mmdb;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use witgate_tests::{Origin, Scratch, eventually};

use super::first_party::with_plugin;

/// What a service answers: status, headers, body.
type Answer = (u16, Vec<(&'static str, &'static str)>, &'static str);

/// A service that answers with what the lock holds.
async fn service(answer: &Arc<Mutex<Answer>>) -> Origin {
    let answer = Arc::clone(answer);
    Origin::with(move |_| {
        let (status, headers, body) = answer.lock().expect("a lock").clone();
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        response.body(Full::from(body)).expect("a fixed answer")
    })
    .await
}

fn set(place: &Arc<Mutex<Answer>>, answer: Answer) {
    *place.lock().expect("a lock") = answer;
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn introspection_asks_once_and_an_endpoint_that_fails_is_not_the_clients_fault() {
    let good = r#"{"active":true,"sub":"ada","scope":"read","aud":"api","role":"boss"}"#;
    let answer = Arc::new(Mutex::new((200, vec![JSON], good)));
    let (idp, origin) = (service(&answer).await, Origin::named("origin").await);
    let binding = "credentials = \"granted\"\ngrants = { fetch = [\"idp\"], store = [\"tokens\"], credentials = [\"authorization\"] }\n\
         [bindings.introspection.settings]\nupstream = \"idp\"\nclient_id = \"gateway\"\nclient_secret = \"s3cret\"\n\
         audience = [\"api\"]\nscopes = [\"read\"]\nclaims = [\"role\"]\n";
    let more = format!(
        "[gateway]\nidentity_headers = {{ x-user = \"subject\", x-role = \"claim:role\" }}\n\
         [upstreams.idp]\nendpoints = [\"{}\"]\n",
        idp.address()
    );
    let gateway = with_plugin("introspection", binding, &origin, &more).await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        let reply = client.get("/", &[("authorization", "Bearer tok~1"), ("x-role", "root")]).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert_eq!((origin.last().header("x-user"), origin.last().header("x-role")), ("ada", "boss"));
    assert_eq!(idp.seen().len(), 1, "the answer is used again");
    let asked = idp.last();
    assert_eq!(
        (asked.method.as_str(), asked.header("authorization")),
        ("POST", "Basic Z2F0ZXdheTpzM2NyZXQ=")
    );
    assert_eq!(&asked.body[..], b"token=tok%7E1&token_type_hint=access_token");

    for (index, (answer_now, status)) in [
        ((200, vec![JSON], r#"{"active":false}"#), 401),
        ((200, vec![JSON], r#"{"active":true,"sub":"ada","scope":"read","aud":"web"}"#), 401),
        ((200, vec![JSON], r#"{"active":true,"sub":"ada","scope":"reader","aud":"api"}"#), 403),
        ((200, vec![JSON], r#"{"active":true,"sub":"ada","scope":"read","aud":"api","exp":1000}"#), 401),
        ((500, vec![JSON], good), 503),
        ((401, vec![JSON], good), 503),
        ((200, vec![("content-type", "text/html")], good), 503),
        ((200, vec![JSON], "{"), 503),
    ]
    .into_iter()
    .enumerate()
    {
        set(&answer, answer_now);
        let before = idp.seen().len();
        let token = format!("Bearer other-{index}");
        for _ in 0..2 {
            let reply = client.get("/", &[("authorization", &token)]).await;
            assert_eq!(reply.status.as_u16(), status, "{index}: {}", reply.text());
            assert!(!reply.text().contains("plugin-failed"), "{index}: the plugin itself decides");
        }
        let asked = idp.seen().len() - before;
        // An answer that expired long ago cannot be used again; neither can one that is none.
        let expected = if index == 3 || status == 503 { 2 } else { 1 };
        assert_eq!(asked, expected, "{index}");
    }
    assert_eq!(client.get("/", &[]).await.status, 401);
    assert!(!gateway.output().contains("s3cret"));
}

#[tokio::test]
async fn forward_auth_passes_on_what_the_service_says_and_nothing_that_the_client_claims() {
    let answer = Arc::new(Mutex::new((200, vec![("x-auth-user", "ada"), ("set-cookie", "s=2")], "")));
    let (auth, origin) = (service(&answer).await, Origin::named("origin").await);
    let binding = "grants = { fetch = [\"auth\"], credentials = [\"authorization\", \"cookie\"] }\n\
         [bindings.forward-auth.settings]\nupstream = \"auth\"\npath = \"/verify\"\nsubject = \"x-auth-user\"\n\
         to_upstream = [\"x-auth-user\", \"x-groups\"]\nto_client = [\"set-cookie\"]\n";
    let more = format!("[upstreams.auth]\nendpoints = [\"{}\"]\n", auth.address());
    let gateway = with_plugin("forward-auth", binding, &origin, &more).await;
    let mut client = gateway.client().await;
    let headers =
        [("cookie", "s=1"), ("x-auth-user", "root"), ("x-groups", "admins"), ("x-forwarded-uri", "/public")];
    let reply = client.post("/orders//1?force=yes", &headers, "a body").await;
    assert_eq!((reply.status.as_u16(), reply.header("set-cookie")), (200, "s=2"), "{}", reply.text());
    let (asked, passed) = (auth.last(), origin.last());
    assert_eq!(
        (asked.method.as_str(), asked.uri.to_string().as_str(), asked.body.len()),
        ("GET", "/verify", 0)
    );
    assert_eq!((asked.header("x-forwarded-method"), asked.header("cookie")), ("POST", "s=1"));
    assert_eq!(asked.header("x-forwarded-for"), "127.0.0.1");
    let sent_on = passed.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    assert_eq!(asked.header("x-forwarded-uri"), sent_on, "service and upstream see the same path");
    assert_eq!((passed.header("x-auth-user"), passed.header("x-groups")), ("ada", ""));
    assert_eq!(&passed.body[..], b"a body");

    let served = origin.seen().len();
    let login = vec![("location", "/login"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-inner", "no")];
    for (status, body) in [(302, ""), (401, "who are you?"), (403, "not you"), (500, "broken")] {
        set(&answer, (status, login.clone(), body));
        let reply = client.get("/", &[]).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (status, body));
        let cookies = reply.headers.get_all("set-cookie").iter().count();
        assert_eq!((reply.header("location"), cookies, reply.header("x-inner")), ("/login", 2, ""));
    }
    assert_eq!(origin.seen().len(), served, "nothing passed");

    // With bodies: the service gets them, up to the limit.
    let open = std::fs::read_to_string(gateway.scratch.config()).expect("the configuration");
    gateway.reconfigure(&open.replace("path = \"/verify\"", "path = \"/verify\"\nmax_body = 16")).await;
    set(&answer, (204, vec![("x-auth-user", "eve")], ""));
    let reply = client.post("/", &[("content-type", "text/plain")], "a body").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!((auth.last().method.as_str(), &auth.last().body[..]), ("POST", &b"a body"[..]));
    assert_eq!((origin.last().header("x-auth-user"), &origin.last().body[..]), ("eve", &b"a body"[..]));
    assert_eq!(gateway.client().await.post("/", &[], "x".repeat(17)).await.status, 413);
}

#[tokio::test]
async fn forward_auth_without_an_answer_lets_nobody_on() {
    // A port that nobody listens on any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let origin = Origin::named("origin").await;
    let binding = "grants = { fetch = [\"auth\"], credentials = [\"authorization\", \"cookie\"] }\n\
         settings = { upstream = \"auth\" }\n";
    let more = format!("[upstreams.auth]\nendpoints = [\"{gone}\"]\n");
    let gateway = with_plugin("forward-auth", binding, &origin, &more).await;
    let reply = gateway.client().await.get("/", &[]).await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, "5"), "{}", reply.text());
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn geo_reads_lines_and_databases_and_keeps_the_last_good_one() {
    let (origin, files) = (Origin::named("origin").await, Scratch::new());
    let table = files.write("countries", "192.0.2.0/24,DE\n198.51.100.0/24,FR\n");
    let binding = "grants = { data = [\"countries\"] }\n[bindings.geo.settings]\nallow = [\"DE\"]\nheader = \"x-country\"\n\
         except = [\"10.0.0.0/8\"]\nunknown = \"deny\"\n";
    let more = format!(
        "[gateway]\ntrusted_proxies = [\"127.0.0.1\"]\n[data.countries]\nfile = \"{}\"\n",
        table.display()
    );
    let gateway = with_plugin("geo", binding, &origin, &more).await;
    let mut client = gateway.client().await;
    let mut status = async |address: &str| {
        let headers = [("x-forwarded-for", address), ("x-country", "XX")];
        client.get("/", &headers).await.status.as_u16()
    };
    for (address, expected) in
        [("192.0.2.1", 200), ("198.51.100.1", 403), ("203.0.113.1", 403), ("10.0.0.1", 200)]
    {
        assert_eq!(status(address).await, expected, "{address}");
    }
    assert_eq!(
        origin.last().header("x-country"),
        "",
        "an exception has no country, and none that the client says"
    );
    assert_eq!((status("192.0.2.9").await, origin.last().header("x-country")), (200, "DE"));

    let database = mmdb::database(28, &[("203.0.113.0", 24, "DE"), ("192.0.2.0", 24, "IT")]);
    files.write("countries", &database);
    eventually("the database", async || status("203.0.113.1").await == 200).await;
    assert_eq!(status("192.0.2.1").await, 403);

    files.write("countries", &database[..database.len() / 2]);
    eventually("a line about the damage", async || {
        gateway.output().contains("neither a database of MaxMind")
    })
    .await;
    assert_eq!(
        (status("203.0.113.1").await, status("192.0.2.1").await),
        (200, 403),
        "the last good one serves"
    );
}

#[tokio::test]
async fn quota_counts_admitted_requests_and_outlives_a_restart() {
    let (origin, files) = (Origin::named("origin").await, Scratch::new());
    let folder = files.path().join("kept");
    let binding = "grants = { store = [\"quota\"] }\n[bindings.quota.settings]\n\
         quotas = [{ name = \"monthly\", limit = 3, per = \"month\", by = \"all\" }]\n";
    let more =
        format!("[gateway]\nworkers = 2\n[state.kept]\nkind = \"file\"\nfolder = \"{}\"\n", folder.display());
    let mut gateway = with_plugin("quota", binding, &origin, &more).await;
    let configuration = std::fs::read_to_string(gateway.scratch.config()).expect("the configuration");
    let kept = configuration.replace("file = \"quota.wasm\"\n", "file = \"quota.wasm\"\nstate = \"kept\"\n");
    assert_ne!(kept, configuration);
    gateway.reconfigure(&kept).await;
    assert_eq!(gateway.client().await.get("/", &[]).await.status, 200);
    assert_eq!(gateway.client().await.get("/", &[]).await.status, 200);
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.exit().await.success());
    gateway.start_again().await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/", &[]).await.status, 200);
    for _ in 0..2 {
        let reply = client.get("/", &[]).await;
        assert_eq!((reply.status.as_u16(), reply.json()["code"].as_str()), (429, Some("rate-limited")));
        let seconds: u64 = reply.header("retry-after").parse().expect("seconds");
        assert!(seconds > 0 && seconds <= 31 * 24 * 3600, "{seconds}");
    }
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn ship_sends_what_was_chosen_again_if_that_may_help_and_no_secrets() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let collector = Origin::with(move |_| {
        // The first message is refused once.
        let status = if counted.fetch_add(1, Ordering::SeqCst) == 0 { 503 } else { 200 };
        Response::builder().status(status).body(Full::<Bytes>::default()).expect("a fixed answer")
    })
    .await;
    let origin = Origin::named("origin").await;
    let binding = "grants = { fetch = [\"logs\"], headers = [\"user-agent\"] }\nbudget = { cpu = \"1s\", wall = \"20s\" }\n\
         [bindings.ship.settings]\nupstream = \"logs\"\npath = \"/ingest\"\nfields = [\"path\", \"status\", \"route\"]\n\
         headers = [\"user-agent\"]\nlabels = { service = \"shop\" }\nauthorization = \"Bearer for-logs\"\n";
    let more = format!("[upstreams.logs]\nendpoints = [\"{}\"]\n", collector.address());
    let gateway = with_plugin("ship", binding, &origin, &more).await;
    let mut client = gateway.client().await;
    for number in 0..5 {
        let headers = [("authorization", "Bearer of-client"), ("user-agent", "test")];
        client.get(&format!("/{number}?token=hidden"), &headers).await;
    }
    let records = || -> Vec<serde_json::Value> {
        let bodies =
            collector.seen().into_iter().skip(1).map(|seen| String::from_utf8_lossy(&seen.body).into_owned());
        let text: String = bodies.collect();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    };
    eventually("five records", async || records().len() >= 5).await;
    let sent = records();
    let paths: Vec<&str> = sent.iter().filter_map(|record| record["path"].as_str()).collect();
    assert_eq!(paths, ["/0", "/1", "/2", "/3", "/4"]);
    let expected = serde_json::json!({
        "path": "/0", "status": 200, "route": "all", "service": "shop", "headers": { "user-agent": "test" },
    });
    assert_eq!(sent[0], expected);
    let seen = collector.last();
    assert_eq!(
        (seen.header("authorization"), seen.header("content-type")),
        ("Bearer for-logs", "application/x-ndjson")
    );
    let all: String =
        collector.seen().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect();
    assert!(!all.contains("of-client") && !all.contains("hidden"), "{all}");
    let labels = ["binding=\"ship\"", "\"records_sent\""];
    eventually("the count", async || gateway.metric("witgate_plugin_custom_total", &labels).await == 5.0)
        .await;
    assert_eq!(gateway.metric("witgate_plugin_failures_total", &labels[..1]).await, 0.0);
}

#[tokio::test]
async fn json_schema_refuses_what_does_not_fit_and_follows_its_document() {
    let (files, origin) =
        (Scratch::new(), Origin::with(|seen| Response::new(Full::new(seen.body.clone()))).await);
    let document = |kind: &str| {
        format!(
            r#"{{ "openapi": "3.1.0", "paths": {{ "/orders/{{id}}": {{ "put": {{ "requestBody": {{ "required": true,
                "content": {{ "application/json": {{ "schema": {{ "type": "object", "required": ["count"],
                "properties": {{ "count": {{ "type": "{kind}" }} }} }} }} }} }} }} }} }} }}"#
        )
    };
    let file = files.write("api", document("integer"));
    let binding = "grants = { data = [\"api\"] }\nbudget = { cpu = \"1s\", wall = \"5s\" }\n\
         settings = { document = \"api\", max_body = 1000 }\n";
    let more = format!("[data.api]\nfile = \"{}\"\n", file.display());
    let gateway = with_plugin("json-schema", binding, &origin, &more).await;
    let json = [("content-type", "application/json")];
    let put = async |body: &str| {
        let request =
            http::Request::put("/orders/7").header("host", "a").header("content-type", "application/json");
        let request = request.body(Full::from(body.to_owned())).expect("a request");
        gateway.client().await.send(request).await
    };
    let reply = put(r#"{"count":1}"#).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, r#"{"count":1}"#));
    let reply = put(r#"{"count":"one"}"#).await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].as_str()), (422, Some("schema-mismatch")));
    assert_eq!(reply.json()["errors"][0]["pointer"], "/count");
    for (body, status) in
        [("", 400), ("{", 400), (r#"{"count":1,"count":2}"#, 400), (&*" ".repeat(1001), 413)]
    {
        assert_eq!(put(body).await.status.as_u16(), status, "{body:.20}");
    }
    assert_eq!(gateway.client().await.post("/other", &json, "[]").await.status, 200, "nothing describes it");
    assert_eq!(origin.seen().len(), 2, "nothing else passed");

    files.write("api", document("string"));
    eventually("the other document", async || put(r#"{"count":"one"}"#).await.status == 200).await;
    files.write("api", "{");
    eventually("a line about the document", async || gateway.output().contains("the file is not JSON")).await;
    assert_eq!(put(r#"{"count":"one"}"#).await.status, 200, "the last good one serves");
}
