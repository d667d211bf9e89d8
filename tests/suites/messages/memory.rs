//! The whole way with the broker in memory.

use std::time::Duration;

use rustix::process::Signal;
use witgate_tests::{Gateway, Mood, MoodyOrigin, Scratch, eventually, plugin};

use super::{judge, post, received, there_and_back};

const MEMORY: &str = "kind = \"memory\"";
const TO_JOBS: &str = "to = \"jobs\", key = \"{id}\"";
const TO_DEAD: &str = "dead_letter = { to = \"dead\" }";

/// The lines of the access log about requests that messages became.
fn log_lines(gateway: &Gateway) -> Vec<serde_json::Value> {
    let log = std::fs::read_to_string(gateway.scratch.path().join("access.log")).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter(|line| line["route"] == "hook").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_delivered_once_x_by_the_status_of_the_destination() {
    let origin = judge().await;
    let toml = there_and_back(MEMORY, TO_JOBS, origin.address(), TO_DEAD);
    let gateway = Gateway::start(Scratch::new(), &toml).await;
    let mut client = gateway.client().await;
    let mut ids = Vec::new();
    for id in ["200-a", "204-a", "302-a", "404-a", "429-a", "503-a"] {
        let reply = post(&mut client, id, &[], id).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
        ids.push(reply.json()["id"].as_str().expect("an id").to_owned());
    }
    eventually("all messages to be delivered or dead-lettered", async || {
        received(&origin, "/hook").values().sum::<usize>() == 10 && received(&origin, "/dead").len() == 4
    })
    .await;
    let tries = received(&origin, "/hook");
    let expected = [("200-a", 1), ("204-a", 1), ("302-a", 1), ("404-a", 1), ("429-a", 3), ("503-a", 3)];
    assert_eq!(tries, expected.map(|(id, tries)| (id.to_owned(), tries)).into());
    for seen in origin.seen() {
        assert_eq!(seen.body, seen.header("x-id").as_bytes(), "the body is the message's");
        assert!(ids.contains(&seen.header("witgate-message-id").to_owned()));
        assert_eq!(seen.method, "POST");
    }
    let dead =
        origin.seen().into_iter().find(|seen| seen.header("x-id") == "503-a" && seen.uri.path() == "/dead");
    let dead = dead.expect("it was delivered from the dead letters");
    // The headers of a dead letter are read at the broker; requests do not have them, since any producer could send them.
    assert!(dead.headers.keys().all(|name| !name.as_str().starts_with("witgate-dead-letter")));
    assert_eq!((dead.header("witgate-consumer"), dead.header("witgate-attempt")), ("dead", "1"));
    let count = async |state: &str| {
        gateway
            .metric("witgate_consumer_messages_total", &["consumer=\"jobs\"", &format!("state=\"{state}\"")])
            .await
    };
    assert_eq!(
        (count("acknowledged").await, count("dead-lettered").await, count("tried-again").await),
        (2.0, 4.0, 4.0)
    );
    eventually("a line for each try", async || log_lines(&gateway).len() == 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_chooses_no_identity_host_path_or_forwarding() {
    let origin = judge().await;
    let mut toml =
        there_and_back(MEMORY, TO_JOBS, origin.address(), &format!("{TO_DEAD}\nidentity = \"worker\""));
    toml.insert_str(0, "[gateway]\nidentity_headers = { x-user = \"subject\" }\n");
    let gateway = Gateway::start(Scratch::new(), &toml).await;
    let mut client = gateway.client().await;
    let forged = [
        ("x-forged", "kept"),
        ("x-user", "root"),
        ("x-forwarded-for", "10.0.0.1"),
        ("authorization", "Bearer x"),
    ];
    assert_eq!(post(&mut client, "a", &forged, "body").await.status, 202);
    eventually("the message", async || !origin.seen().is_empty()).await;
    let seen = origin.last();
    assert_eq!((seen.header("x-forged"), seen.header("x-user")), ("kept", "worker"));
    assert_eq!((seen.header("x-forwarded-for"), seen.header("authorization")), ("", ""));
    assert_eq!((seen.header("host"), seen.uri.path()), ("jobs.internal", "/hook"));
    assert_eq!(seen.header("witgate-message-key"), "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_or_a_broken_upstream_pauses_and_loses_nothing() {
    let origin = MoodyOrigin::start();
    origin.set(Mood::Killed);
    let toml = there_and_back(MEMORY, TO_JOBS, origin.address(), &format!("{TO_DEAD}\ntimeout = \"5s\""))
        .replace(
            "[[routes]]\nname = \"in\"",
            "breaker = { consecutive_failures = 2, open_for = \"100ms\" }\n[[routes]]\nname = \"in\"",
        )
        .replace("attempts = 3", "attempts = 200");
    let gateway = Gateway::start(Scratch::new(), &toml).await;
    let mut client = gateway.client().await;
    for number in 0..50 {
        assert_eq!(post(&mut client, &format!("m-{number}"), &[], "").await.status, 202);
    }
    let count = async |state: &str| {
        gateway
            .metric("witgate_consumer_messages_total", &["consumer=\"jobs\"", &format!("state=\"{state}\"")])
            .await
    };
    eventually("a first failure", async || count("tried-again").await > 0.0).await;
    origin.set(Mood::Well);
    eventually("every message", async || origin.seen().len() == 50).await;
    eventually("every acknowledgement", async || count("acknowledged").await == 50.0).await;
    assert_eq!(count("dead-lettered").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_consumers_that_did_not_change_and_their_queues() {
    let origin = judge().await;
    let toml = there_and_back(MEMORY, TO_JOBS, origin.address(), TO_DEAD);
    let gateway = Gateway::start(Scratch::new(), &toml).await;
    let mut client = gateway.client().await;
    let without = |toml: &str| toml.replace("from = \"jobs\"", "from = \"elsewhere\"");
    gateway.reconfigure(&Gateway::completed(&without(&toml))).await;
    assert_eq!(post(&mut client, "kept", &[], "").await.status, 202);
    gateway.reconfigure(&Gateway::completed(&toml)).await;
    eventually("the message that waited", async || received(&origin, "/hook").len() == 1).await;
    gateway
        .reconfigure(&Gateway::completed(&format!("{toml}\n[[routes]]\npath = \"/more\"\nrespond = {{}}\n")))
        .await;
    assert_eq!(post(&mut client, "after", &[], "").await.status, 202);
    eventually("the next message", async || received(&origin, "/hook").len() == 2).await;
    let delivered = gateway
        .metric("witgate_consumer_messages_total", &["consumer=\"jobs\"", "state=\"delivered\""])
        .await;
    assert_eq!(delivered, 2.0, "it is the same consumer as before the last reload");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_under_way() {
    let origin = MoodyOrigin::start();
    origin.set(Mood::Slow(Duration::from_millis(700)));
    let toml = there_and_back(MEMORY, TO_JOBS, origin.address(), TO_DEAD);
    let mut gateway = Gateway::start(Scratch::new(), &toml).await;
    let mut client = gateway.client().await;
    assert_eq!(post(&mut client, "slow", &[], "").await.status, 202);
    eventually("the request", async || origin.seen().len() == 1).await;
    gateway.signal(Signal::TERM);
    assert!(gateway.exit().await.success(), "{}", gateway.output());
    let statuses: Vec<_> = log_lines(&gateway).iter().map(|line| line["status"].clone()).collect();
    assert_eq!(statuses, [200], "it was not cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_and_a_large_message_are_refused_and_targets_are_checked() {
    let origin = judge().await;
    let full = "kind = \"memory\"\nmax_messages = 2\nmax_bytes = \"100B\"";
    let toml = there_and_back(full, "to = \"{id}\", allow = [\"other\"]", origin.address(), TO_DEAD);
    let gateway = Gateway::start(Scratch::new(), &toml).await;
    let mut client = gateway.client().await;
    let large = post(&mut client, "other", &[], &"x".repeat(101)).await;
    assert_eq!((large.status.as_u16(), large.json()["code"].clone()), (413, "message-too-large".into()));
    for expected in [202, 202, 503] {
        assert_eq!(post(&mut client, "other", &[], "").await.status, expected);
    }
    let refused = post(&mut client, "other", &[], "").await;
    assert_eq!(
        (refused.json()["code"].clone(), refused.header("retry-after")),
        ("broker-overloaded".into(), "1")
    );
    let elsewhere = post(&mut client, "dead", &[], "").await;
    assert_eq!((elsewhere.status.as_u16(), elsewhere.json()["code"].clone()), (400, "bad-message".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn first_party_plugins_run_on_messages_as_on_requests() {
    let origin = judge().await;
    let scratch = Scratch::new();
    scratch.install(&plugin("rate-limit"), "rate_limit");
    let mut toml = there_and_back(MEMORY, TO_JOBS, origin.address(), TO_DEAD);
    toml = toml.replace("path = \"/hook\"\nupstream", "path = \"/hook\"\nplugins = [\"rate\"]\nupstream");
    toml.push_str("[plugins.rate_limit]\n[bindings.rate]\nplugin = \"rate_limit\"\nsettings = { policies = [{ name = \"all\", by = [], limit = 3, window = \"1s\" }] }\n");
    let gateway = Gateway::start(scratch, &toml).await;
    let mut client = gateway.client().await;
    for number in 0..7 {
        assert_eq!(post(&mut client, &format!("m-{number}"), &[], "").await.status, 202);
    }
    eventually("every message, in the time that the limit allows", async || {
        received(&origin, "/hook").len() == 7
    })
    .await;
    let count = async |state: &str| {
        gateway
            .metric("witgate_consumer_messages_total", &["consumer=\"jobs\"", &format!("state=\"{state}\"")])
            .await
    };
    eventually("every acknowledgement", async || count("acknowledged").await == 7.0).await;
    assert_eq!(
        (count("tried-again").await, count("dead-lettered").await),
        (0.0, 0.0),
        "a limit delays, and is no attempt"
    );
    assert!(gateway.metric("witgate_faults_total", &["rate-limited"]).await >= 1.0);
}
