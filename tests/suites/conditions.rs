//! Bindings with conditions, and credentials that are granted: real components in front of a real service.

use witgate_tests::{Gateway, Origin, Scratch, eventually, plugin};

/// SHA-256 of `open-sesame`.
const KEYS: &str = "settings = { keys = [{ name = \"partner\", sha256 = \"d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7\" }] }";

/// The configuration of a gateway with these bindings on every request to the origin.
fn config(origin: &Origin, bindings: &str, names: &str) -> String {
    format!(
        "[[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"origin\"\nplugins = [{names}]\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n[plugins.headers]\n[plugins.api-key]\nfile = \"api_key.wasm\"\n{bindings}\n",
        origin.address()
    )
}

async fn start(origin: &Origin, bindings: &str, names: &str) -> Gateway {
    let scratch = Scratch::new();
    scratch.install(&plugin("headers"), "headers");
    scratch.install(&plugin("api-key"), "api_key");
    Gateway::start(scratch, &config(origin, bindings, names)).await
}

/// The value of a header of the latest request that the origin got.
fn got(origin: &Origin, name: &str) -> Option<String> {
    let seen = origin.seen();
    let value = seen.last().expect("a request").headers.get(name).cloned();
    value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[tokio::test]
async fn a_binding_is_called_only_for_the_requests_that_it_is_for() {
    let origin = Origin::named("origin").await;
    let bindings = |more: &str| {
        format!(
            "[bindings.api-key]\nunless = {{ path = \"/open/*\" }}\n{KEYS}\n\
             [bindings.mark]\nplugin = \"headers\"\nsettings = {{ request = {{ set = {{ x-mark = \"yes\" }} }} }}\n{more}\n"
        )
    };
    let names = "\"api-key\", \"mark\"";
    let partner =
        "when = { subject = \"partner\", client = \"127.0.0.0/8\" }\nunless = { method = \"POST\" }";
    let gateway = start(&origin, &bindings(partner), names).await;
    let mut client = gateway.client().await;
    let key = ("x-api-key", "open-sesame");
    assert_eq!(client.get("/a", &[key]).await.status, 200);
    assert_eq!(got(&origin, "x-mark").as_deref(), Some("yes"), "the identity is known by then");
    assert_eq!(client.get("/open/a", &[key]).await.status, 401, "left out is not admitted");
    assert_eq!(client.get("/a", &[]).await.status, 401);

    // The same versions go on: only the conditions change.
    let calls = gateway.metric("witgate_plugin_calls_total", &["binding=\"mark\""]).await;
    gateway
        .reconfigure(&Gateway::completed(&config(&origin, &bindings("when = { path = \"/b\" }"), names)))
        .await;
    assert_eq!(client.get("/a", &[key]).await.status, 200);
    assert_eq!(got(&origin, "x-mark"), None);
    assert_eq!(gateway.metric("witgate_plugin_calls_total", &["binding=\"mark\""]).await, calls);
    assert_eq!(client.get("/b?x=1", &[key]).await.status, 200);
    assert_eq!(got(&origin, "x-mark").as_deref(), Some("yes"));
}

#[tokio::test]
async fn credentials_that_are_not_granted_can_be_neither_read_nor_removed() {
    let origin = Origin::named("origin").await;
    let settings =
        "settings = { request = { set = { x-auth = \"{header.authorization}\", x-query = \"{query}\" } } }";
    let removing = "settings = { request = { remove = [\"cookie\"] } }";
    let binding = |more: &str| format!("[bindings.headers]\n{more}\n");
    let gateway = start(&origin, &binding(settings), "\"headers\"").await;
    let sent = [("authorization", "Bearer a"), ("cookie", "b=c")];
    let mut client = gateway.client().await;
    let reconfigure = async |more: &str| {
        gateway.reconfigure(&Gateway::completed(&config(&origin, &binding(more), "\"headers\""))).await;
    };

    assert_eq!(client.get("/?apikey=d&x=1", &sent).await.status, 200);
    assert_eq!(got(&origin, "x-auth").as_deref(), Some("Bearer a"), "a component of 0.1 sees what it saw");

    reconfigure(&format!("credentials = {{ query = [\"apikey\"] }}\n{settings}")).await;
    assert_eq!(client.get("/?apikey=d&x=1", &sent).await.status, 200);
    assert_eq!((got(&origin, "x-auth"), got(&origin, "x-query").as_deref()), (None, Some("x=1")));
    assert_eq!(got(&origin, "authorization").as_deref(), Some("Bearer a"), "the upstream gets it");

    reconfigure(&format!("credentials = \"granted\"\n{removing}")).await;
    let reply = client.get("/", &sent).await;
    assert!(reply.status == 503 && reply.text().contains("plugin-failed"), "{}", reply.text());

    reconfigure(&format!("credentials = \"granted\"\ngrants = {{ credentials = [\"cookie\"] }}\n{removing}"))
        .await;
    assert_eq!(client.get("/", &sent).await.status, 200);
    assert_eq!(got(&origin, "cookie"), None);
}

#[tokio::test]
async fn a_first_party_plugin_serves_with_the_credential_that_it_needs() {
    let origin = Origin::named("origin").await;
    let granted = "credentials = { headers = [\"x-api-key\"] }\ngrants = { credentials = [\"x-api-key\"] }";
    let gateway = start(&origin, &format!("[bindings.api-key]\n{granted}\n{KEYS}\n"), "\"api-key\"").await;
    let mut client = gateway.client().await;
    for _ in 0..4 {
        assert_eq!(client.get("/", &[("x-api-key", "open-sesame")]).await.status, 200);
        assert_eq!(client.get("/", &[("x-api-key", "wrong")]).await.status, 401);
    }
    // The grant is withdrawn: the plugin looks at a credential that it may not see, so the change is refused.
    let without = format!("[bindings.api-key]\ncredentials = {{ headers = [\"x-api-key\"] }}\n{KEYS}\n");
    let text = Gateway::completed(&config(&origin, &without, "\"api-key\""));
    std::fs::write(gateway.scratch.config(), text).expect("a file");
    eventually("the change is refused", async || {
        gateway.admin_get("/status").await.text().contains("grants.credentials = ")
    })
    .await;
    assert_eq!(
        client.get("/", &[("x-api-key", "open-sesame")]).await.status,
        200,
        "the last good state serves"
    );
}
