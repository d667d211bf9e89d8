//! Remembered results of plugin functions, through a real gateway.

use witgate_tests::{Client, Gateway, Origin, Scratch, eventually, guest, plugin};

const AGAIN: &str = "witgate_plugin_answers_remembered_total";

fn config(origin: &Origin, server: &str, headers: &str) -> String {
    format!(
        r#"
[gateway]
workers = 1

[[routes]]
path = "/*"
upstream = "origin"
plugins = ["rate-limit", "headers"]

[upstreams.origin]
endpoints = ["{}"]

[plugins.rate-limit]
[bindings.rate-limit]
settings.policies = [{{ name = "all", by = {{ header = "x-key" }}, limit = 3, window = "1h" }}]

[plugins.headers]
[bindings.headers]
{headers}
settings.request = {{ set = {{ "x-asked" = "{{header.x-key}}" }} }}
settings.response = {{ set = {{ "server" = "{server}" }} }}
"#,
        origin.address()
    )
}

async fn start(text: &str) -> Gateway {
    let scratch = Scratch::new();
    for name in ["rate-limit", "headers"] {
        scratch.install(&plugin(name), name);
    }
    Gateway::start(scratch, text).await
}

async fn ask(client: &mut Client, origin: &Origin, key: &str) -> (u16, String, String) {
    let reply = client.get("/", &[("x-key", key)]).await;
    let asked = if reply.status == 200 { origin.last().header("x-asked").to_owned() } else { String::new() };
    (reply.status.as_u16(), reply.header("server").to_owned(), asked)
}

#[tokio::test]
async fn calls_are_made_once_for_equal_inputs_and_again_after_a_swap() {
    let origin = Origin::named("origin").await;
    let gateway = start(&config(&origin, "one", "")).await;
    let mut client = gateway.client().await;
    for _ in 0..2 {
        assert_eq!(ask(&mut client, &origin, "ann").await, (200, "one".into(), "ann".into()));
        assert_eq!(ask(&mut client, &origin, "bob").await, (200, "one".into(), "bob".into()));
    }
    // Two results of the draw, and three of each of the edits of requests and responses, which are always the
    // same.
    let again = async |binding: &str| gateway.metric(AGAIN, &[&format!("binding=\"{binding}\"")]).await;
    assert_eq!((again("rate-limit").await, again("headers").await), (2.0, 6.0));
    // A remembered draw counts against the limit like a call.
    assert_eq!(ask(&mut client, &origin, "ann").await.0, 200);
    assert_eq!(ask(&mut client, &origin, "ann").await.0, 429);

    gateway.reconfigure(&Gateway::completed(&config(&origin, "two", ""))).await;
    assert_eq!(ask(&mut client, &origin, "bob").await, (200, "two".into(), "bob".into()));
    gateway.reconfigure(&Gateway::completed(&config(&origin, "two", "remember = false"))).await;
    let before = again("headers").await;
    for _ in 0..2 {
        assert_eq!(ask(&mut client, &origin, "eve").await, (200, "two".into(), "eve".into()));
    }
    assert_eq!(again("headers").await, before);
}

#[tokio::test]
async fn a_promise_that_is_not_kept_is_told_once_and_nothing_is_remembered() {
    let origin = Origin::named("origin").await;
    let scratch = Scratch::new();
    scratch.install(&guest("probe"), "probe");
    let text = format!(
        r#"
[[routes]]
path = "/*"
upstream = "origin"
plugins = ["probe"]
auth = "optional"

[upstreams.origin]
endpoints = ["{}"]

[plugins.probe]
[bindings.probe]
on_failure = "skip"
grants = {{ store = [], route_to = ["origin"] }}
settings.deed = "pure"
"#,
        origin.address()
    );
    let gateway = Gateway::start(scratch, &text).await;
    let mut client = gateway.client().await;
    for _ in 0..4 {
        let headers = [("x-do", "header"), ("x-with", "x-other"), ("x-other", "origin")];
        assert_eq!(client.get("/", &headers).await.status, 200);
        assert_eq!(origin.last().header("x-answer"), "origin", "every function did what it was told");
    }
    // Reading the request id says that a result is for one request only, so nothing is logged.
    client.get("/", &[("x-do", "id")]).await;
    assert_eq!(gateway.metric(AGAIN, &["binding=\"probe\""]).await, 0.0);
    let told = || {
        let output = gateway.output();
        output
            .lines()
            .filter(|line| line.contains("are not remembered: the call used"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    eventually("the log says it", async || told().len() >= 5).await;
    let told = told();
    for function in ["`authenticate`", "`draw`", "`route`", "`on-request`", "`on-response`"] {
        let of_it: Vec<_> = told.iter().filter(|line| line.contains(function)).collect();
        assert_eq!(of_it.len(), 1, "{function}: {told:#?}");
        assert!(of_it[0].contains("probe"), "{told:#?}");
    }
    assert!(told[0].contains("`header(x-other)`"), "{told:#?}");
    assert_eq!(told.len(), 5, "{told:#?}");
}
