//! What only a state of kind `redis` can meet, with a real server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use witgate_config::model::Secret;
use witgate_exchange::contracts::counter::Unavailable;
use witgate_exchange::contracts::state::State;
use witgate_exchange::contracts::store::StoreError;
use witgate_state::redis::KIND;
use witgate_tests::{RedisServer, free_port};

use crate::conformance;
use crate::scene::{admits, admitted_by_many, all_admitted, build, draw, on_a_core, wait_for};

/// The secrets of the fleet that most tests are in.
pub(crate) fn secrets() -> Vec<Secret> {
    vec![Secret::new(*b"a secret of thirty-two bytes ...")]
}

/// Waits until a state can be used.
pub(crate) fn wait_until_up(state: &Arc<dyn State>) {
    wait_for("the state to be reached", || state.health().is_none_or(|health| health.problem.is_none()));
}

/// Settings for tests. A machine that is busy with other tests may need longer than the five milliseconds of the default.
fn settings(server: &RedisServer, more: Value) -> Value {
    let mut settings = json!({ "servers": [server.address()], "budget": "1s", "store_budget": "5s" });
    let table = settings.as_object_mut().expect("a table");
    table.extend(more.as_object().cloned().expect("a table"));
    settings
}

/// A state that is connected.
fn connected(server: &RedisServer, more: Value) -> Arc<dyn State> {
    let state = build(&KIND, &settings(server, more), &secrets()).expect("good settings");
    wait_until_up(&state);
    state
}

/// How often operations ended in a way.
pub(crate) fn count(state: &Arc<dyn State>, end: &str) -> u64 {
    let health = state.health().expect("it can be out of reach");
    health.operations.iter().find(|(name, _)| *name == end).expect("a known end").1
}

/// The names of all keys on a server.
fn keys(server: &RedisServer) -> Vec<String> {
    server.ask(&["KEYS", "*"]).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn conforms() {
    let Some(server) = RedisServer::start(&[]) else { return };
    conformance::holds(|| connected(&server, json!({})));
}

#[test]
fn gateways_that_share_a_server_admit_exactly_the_limit_together() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let gateways: Vec<_> = (0..3).map(|_| connected(&server, json!({}))).collect();
    // Two cores each.
    let counters: Vec<_> = gateways.iter().chain(&gateways).map(|gateway| gateway.counter()).collect();
    assert_eq!(admitted_by_many(&counters, draw(1, 1, 100), 50), 100);
    assert_eq!(gateways.iter().map(|gateway| count(gateway, "done")).sum::<u64>(), 300);
}

#[test]
fn every_key_has_an_end_and_a_name_that_tells_nothing() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let state = connected(&server, json!({ "longest_life": "1h" }));
    on_a_core(async {
        assert!(admits(state.counter().as_ref(), &[draw(1, 1, 10)]).await);
        let store = state.store("plugin-of-mine", 1 << 20);
        store.set("accounts", "alice@example.org", b"v".to_vec(), None).await.expect("whole");
        store.increment("accounts", "bob@example.org", 1, None).await.expect("whole");
    });
    // Bucket, two values, the two books of the plugin, and perhaps the trial of the connection.
    let keys = keys(&server);
    assert!(keys.len() >= 5, "{keys:?}");
    for key in keys {
        assert!(key.starts_with("witgate:{"), "{key}");
        for word in ["alice", "bob", "example", "accounts", "mine"] {
            assert!(!key.contains(word), "{key} tells {word}");
        }
        let life: i64 = server.ask(&["PTTL", &key]).parse().expect("a number");
        assert!(life > 0 || life == -2, "{key} has no end: {life}");
    }
}

#[test]
fn what_somebody_else_wrote_is_not_believed() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let state = connected(&server, json!({ "on_unavailable": "deny" }));
    let (counter, store) = (state.counter(), state.store("p", 1 << 20));
    on_a_core(async {
        assert!(admits(counter.as_ref(), &[draw(1, 1, 10)]).await);
        store.set("s", "k", b"v".to_vec(), None).await.expect("whole");
    });
    let found = |letter: &str| {
        let keys = keys(&server);
        keys.into_iter().find(|key| key.contains(letter)).expect("a key of that kind")
    };
    let (bucket, value) = (found("{0001}:c:"), found(":k:"));
    let before = server.ask(&["GET", &bucket]);
    let long = "9".repeat(40);
    for planted in ["x", "1", "1:2:3", "-1:0", "1:1000000000000", "123456789012:0", "1:0\n", long.as_str()] {
        server.ask(&["SET", &bucket, planted]);
        assert_eq!(on_a_core(counter.charge(&[draw(1, 1, 10)])), Err(Unavailable), "{planted:?}");
    }
    // The far future would lock a client out for ever. The most that a bucket can owe is as much again as it holds.
    server.ask(&["SET", &bucket, "9999999999:0"]);
    let states = on_a_core(counter.charge(&[draw(1, 1, 10)])).expect("a time is a time");
    assert!(states.as_slice()[0].reset <= Duration::from_secs(2 * 3600), "{states:?}");
    server.ask(&["DEL", &bucket]);
    server.ask(&["RPUSH", &bucket, "a", "list"]);
    assert_eq!(on_a_core(counter.charge(&[draw(1, 1, 10)])), Err(Unavailable));
    assert!(count(&state, "malformed") > 5, "{:?}", state.health());
    server.ask(&["DEL", &bucket]);
    server.ask(&["SET", &bucket, &before]);
    assert!(
        on_a_core(admits(counter.as_ref(), &[draw(1, 1, 10)])),
        "one bad bucket is no reason to give up the rest"
    );

    server.ask(&["SETRANGE", &value, "2000000", "x"]);
    assert_eq!(on_a_core(store.get("s", "k")), Err(StoreError::Unavailable));
    assert_eq!(on_a_core(store.set("s", "k", b"w".to_vec(), None)), Ok(()), "it can be replaced");
    assert_eq!(on_a_core(store.get("s", "k")), Ok(Some(b"w".to_vec())));
    assert_eq!(state.health().expect("health").problem, None);
}

#[test]
fn a_server_that_forgot_the_scripts_is_told_them_again() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let state = connected(&server, json!({}));
    for _ in 0..2 {
        assert_eq!(server.ask(&["SCRIPT", "FLUSH"]), "OK");
        assert!(on_a_core(admits(state.counter().as_ref(), &[draw(1, 1, 10)])));
        assert_eq!(on_a_core(state.store("p", 1 << 20).increment("s", "k", 0, None)), Ok(0));
    }
    assert_eq!(count(&state, "local"), 0);
}

#[test]
fn a_server_that_died_is_done_without_until_it_is_back() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let state = connected(&server, json!({ "gateways": 2 }));
    let counter = state.counter();
    assert!(on_a_core(admits(counter.as_ref(), &[draw(1, 1, 10)])));
    server.kill();
    let states = on_a_core(counter.charge(&[draw(1, 1, 10)])).expect("each gateway counts by itself");
    assert!(all_admitted(&states));
    wait_for("the connection to be given up", || {
        state.health().is_some_and(|health| health.problem.is_some())
    });
    // What it admits by itself is its part of the limit, the draw above included.
    let alone = admitted_by_many(&[Arc::clone(&counter)], draw(1, 1, 10), 20);
    assert_eq!(alone, 4);
    assert_eq!(on_a_core(state.store("p", 1 << 20).get("s", "k")), Err(StoreError::Unavailable));
    server.restart();
    wait_until_up(&state);
    let before = count(&state, "done");
    assert!(on_a_core(admits(counter.as_ref(), &[draw(1, 1, 10)])));
    assert_eq!(count(&state, "done"), before + 1);
}

#[test]
fn a_server_that_hangs_costs_a_few_requests_their_budget_and_then_none() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let state = connected(&server, json!({ "budget": "50ms", "on_unavailable": "deny" }));
    let counter = state.counter();
    server.pause();
    let begun = Instant::now();
    let mut waited = 0;
    while state.health().is_some_and(|health| health.problem.is_none()) {
        assert_eq!(on_a_core(counter.charge(&[draw(1, 1, 10)])), Err(Unavailable));
        waited += 1;
        assert!(waited <= 10, "the breaker has not opened after {waited} requests");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(count(&state, "timeout") <= 5);
    // Nobody waits any more: the answer is there at once.
    for _ in 0..100 {
        assert_eq!(counter.charge(&[draw(1, 1, 10)]).at_once(), Some(Err(Unavailable)));
    }
    server.resume();
    wait_until_up(&state);
    assert!(on_a_core(admits(counter.as_ref(), &[draw(1, 1, 10)])));
}

#[test]
fn what_happens_without_the_server_is_chosen() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let states: Vec<_> = ["local", "allow", "deny"]
        .map(|policy| (policy, connected(&server, json!({ "on_unavailable": policy, "gateways": 5 }))))
        .into();
    server.kill();
    for (policy, state) in states {
        wait_for("the connection to be given up", || {
            state.health().is_some_and(|health| health.problem.is_some())
        });
        let counter = state.counter();
        let admitted =
            (0..20).map(|_| counter.charge(&[draw(1, 1, 10)]).at_once().expect("nothing is waited for"));
        let admitted: Vec<_> = admitted.map(|states| states.map(|states| all_admitted(&states))).collect();
        let end = match policy {
            "local" => {
                assert_eq!(admitted.iter().filter(|admitted| **admitted == Ok(true)).count(), 2);
                "local"
            }
            "allow" => {
                assert!(admitted.iter().all(|admitted| *admitted == Ok(true)));
                "allowed"
            }
            _ => {
                assert!(admitted.iter().all(|admitted| *admitted == Err(Unavailable)));
                "denied"
            }
        };
        assert_eq!(count(&state, end), 20, "{policy}");
        assert_eq!(count(&state, "unreachable"), 20, "{policy}");
    }
}

#[test]
fn a_secret_can_be_changed_while_gateways_count() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let (old, new) = (Secret::new([1; 32]), Secret::new([2; 32]));
    let fleet = |secrets: &[&Secret]| {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| (*secret).clone()).collect();
        let state = build(&KIND, &settings(&server, json!({})), &secrets).expect("good settings");
        wait_until_up(&state);
        state
    };
    // While the change goes through the fleet, gateways have the two in either order.
    let (before, after) = (fleet(&[&old, &new]), fleet(&[&new, &old]));
    let counters = [before.counter(), after.counter(), before.counter(), after.counter()];
    assert_eq!(admitted_by_many(&counters, draw(1, 1, 50), 25), 50);
    on_a_core(async {
        for round in 0..3 {
            for state in [&before, &after] {
                let store = state.store("p", 2000);
                assert_eq!(store.increment("s", "n", 1, None).await.map(|sum| sum > 2 * round), Ok(true));
            }
        }
        assert_eq!(before.store("p", 2000).set("s", "k", vec![7; 700], None).await, Ok(()));
        assert_eq!(after.store("p", 2000).get("s", "k").await, Ok(Some(vec![7; 700])));
        let only_new = fleet(&[&new]);
        assert_eq!(only_new.store("p", 2000).get("s", "k").await, Ok(Some(vec![7; 700])));
        assert_eq!(
            only_new.store("p", 2000).set("s", "l", vec![7; 700], None).await,
            Err(StoreError::Full),
            "the books moved too"
        );
        assert_eq!(
            fleet(&[&old]).store("p", 2000).get("s", "k").await,
            Ok(None),
            "another fleet sees nothing"
        );
    });
}

#[test]
fn a_user_needs_no_more_rights_than_the_documents_say() {
    let acl = [
        "user",
        "gateway",
        "on",
        ">word",
        "~witgate:*",
        "-@all",
        "+@read",
        "+@write",
        "+@scripting",
        "+time",
        "-@dangerous",
    ];
    let Some(server) = RedisServer::start_with(&[&acl, &["requirepass", "root"]], &["-a", "root"]) else {
        return;
    };
    let state = connected(&server, json!({ "username": "gateway", "password": "word" }));
    assert!(on_a_core(admits(state.counter().as_ref(), &[draw(1, 1, 10)])));
    let stranger =
        build(&KIND, &settings(&server, json!({ "username": "gateway", "password": "wrong" })), &secrets());
    let stranger = stranger.expect("good settings");
    wait_for("the server's refusal", || {
        stranger
            .health()
            .and_then(|health| health.problem)
            .is_some_and(|problem| problem.contains("authentication failed"))
    });
    // Rights that are taken away while it runs.
    server.ask(&["ACL", "SETUSER", "gateway", "resetkeys"]);
    on_a_core(async { state.counter().charge(&[draw(1, 1, 10)]).await.expect("it counts by itself") });
    wait_for("the missing right to be noticed", || {
        state
            .health()
            .and_then(|health| health.problem)
            .is_some_and(|problem| problem.contains("no permissions"))
    });
}

#[test]
fn a_state_that_is_dropped_closes_its_connection() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let clients = || server.ask(&["CLIENT", "LIST"]).lines().filter(|line| line.contains("cmd=eval")).count();
    let state = connected(&server, json!({}));
    let counter = state.counter();
    drop(state);
    assert!(on_a_core(admits(counter.as_ref(), &[draw(1, 1, 10)])), "it lives as long as somebody counts");
    assert_eq!(clients(), 1);
    drop(counter);
    wait_for("the connection to be closed", || clients() == 0);
}

#[test]
fn a_memory_limit_of_the_server_is_a_full_store() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let state = connected(&server, json!({ "on_unavailable": "deny" }));
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let stored = on_a_core(state.store("p", 1 << 20).set("s", "k", vec![7; 100], None));
    assert_eq!(stored, Err(StoreError::Full));
    assert_eq!(on_a_core(state.counter().charge(&[draw(1, 1, 10)])), Err(Unavailable));
    assert!(count(&state, "out-of-memory") == 2);
}

#[test]
fn connections_are_encrypted_and_only_to_servers_that_can_prove_who_they_are() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name).to_str().expect("UTF-8").to_owned();
        std::fs::write(&path, text).expect("the scratch folder can be written");
        path
    };
    let identity = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        rcgen::generate_simple_self_signed(names).expect("a certificate")
    };
    let (server, stranger) = (identity(&["127.0.0.1"]), identity(&["127.0.0.1"]));
    let certificate = write("server.pem", &server.cert.pem());
    let key = write("server.key", &server.signing_key.serialize_pem());
    let other = write("stranger.pem", &stranger.cert.pem());
    let port = free_port().to_string();
    let options: [&[&str]; 5] = [
        &["tls-port", &port],
        &["tls-cert-file", &certificate],
        &["tls-key-file", &key],
        &["tls-ca-cert-file", &certificate],
        &["tls-auth-clients", "no"],
    ];
    let Some(_server) = RedisServer::start(&options) else { return };
    let with = |ca: &str| {
        let settings =
            json!({ "servers": [format!("127.0.0.1:{port}")], "tls": { "ca": ca }, "budget": "1s" });
        build(&KIND, &settings, &secrets()).expect("good settings")
    };
    let state = with(&certificate);
    wait_until_up(&state);
    assert!(on_a_core(admits(state.counter().as_ref(), &[draw(1, 1, 10)])));
    assert_eq!(count(&state, "done"), 1);
    let deceived = with(&other);
    wait_for("the certificate to be refused", || {
        deceived
            .health()
            .and_then(|health| health.problem)
            .is_some_and(|problem| problem.contains("certificate"))
    });
}
