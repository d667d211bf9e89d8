//! Redis in more than one server: sentinels, and a cluster.

use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::json;
use witgate_exchange::contracts::state::State;
use witgate_state::redis::KIND;
use witgate_tests::{RedisServer, free_port};

use crate::conformance;
use crate::redis::{count, secrets, wait_until_up};
use crate::scene::{admits, admitted_by_many, all_admitted, build, draw, on_a_core, wait_for};

#[test]
fn a_replica_that_becomes_the_master_goes_on_counting() {
    let Some(mut master) = RedisServer::start(&[]) else { return };
    let port = master.port().to_string();
    let Some(replica) = RedisServer::start(&[&["replicaof", "127.0.0.1", &port]]) else { return };
    wait_for("the replica to follow", || {
        replica.ask(&["INFO", "replication"]).contains("master_link_status:up")
    });
    let Some(sentinel) = RedisServer::sentinel(&master) else { return };
    wait_for("the sentinel to know the replica", || {
        sentinel.ask(&["SENTINEL", "REPLICAS", "fleet"]).contains(&replica.port().to_string())
    });
    let settings = json!({
        "servers": [sentinel.address()], "mode": "sentinel", "master": "fleet",
        "budget": "1s", "on_unavailable": "deny",
    });
    let state = build(&KIND, &settings, &secrets()).expect("good settings");
    wait_until_up(&state);
    let counter = state.counter();
    assert!(on_a_core(admits(counter.as_ref(), &[draw(1, 3, 5)])));
    assert_eq!(master.ask(&["WAIT", "1", "5000"]), "1", "the replica has it");
    master.kill();
    wait_for("the connection to be given up", || {
        state.health().is_some_and(|health| health.problem.is_some())
    });
    wait_for("the replica to become the master", || replica.ask(&["ROLE"]).starts_with("master"));
    wait_until_up(&state);
    assert_eq!(admitted_by_many(&[counter], draw(1, 1, 5), 10), 2, "three of five were drawn before");
}

#[test]
fn a_master_that_becomes_a_replica_is_left_for_the_new_one() {
    let Some(master) = RedisServer::start(&[]) else { return };
    let state = build(
        &KIND,
        &json!({ "servers": [master.address()], "budget": "1s", "on_unavailable": "deny" }),
        &secrets(),
    );
    let state = state.expect("good settings");
    wait_until_up(&state);
    let counter = state.counter();
    let other = RedisServer::start(&[]).expect("Redis is installed");
    master.ask(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    assert!(on_a_core(counter.charge(&[draw(1, 1, 5)])).is_err(), "a replica refuses to write");
    assert!(count(&state, "refused") >= 1);
    wait_for("the problem to be told", || {
        state
            .health()
            .and_then(|health| health.problem)
            .is_some_and(|problem| problem.to_lowercase().contains("read"))
    });
    master.ask(&["REPLICAOF", "NO", "ONE"]);
    wait_until_up(&state);
    assert!(on_a_core(admits(counter.as_ref(), &[draw(1, 1, 5)])));
}

/// A cluster of three masters.
fn cluster() -> Option<Vec<RedisServer>> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        let bus = free_port().to_string();
        let options: [&[&str]; 3] =
            [&["cluster-enabled", "yes"], &["cluster-port", &bus], &["cluster-node-timeout", "2000"]];
        servers.push(RedisServer::start(&options)?);
    }
    let addresses: Vec<String> = servers.iter().map(RedisServer::address).collect();
    let mut arguments = vec!["--cluster", "create"];
    arguments.extend(addresses.iter().map(String::as_str));
    arguments.extend(["--cluster-replicas", "0", "--cluster-yes"]);
    cli(&arguments);
    let is_whole = |server: &RedisServer| server.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
    wait_for("the cluster to be whole", || servers.iter().all(is_whole));
    Some(servers)
}

/// Runs `redis-cli`.
fn cli(arguments: &[&str]) {
    let output = Command::new("redis-cli")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("redis-cli can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn connected(servers: &[RedisServer]) -> Arc<dyn State> {
    let settings = json!({
        "servers": [servers[0].address()], "mode": "cluster", "allow_plaintext": true,
        "budget": "1s", "store_budget": "5s", "on_unavailable": "deny",
    });
    let state = build(&KIND, &settings, &secrets()).expect("good settings");
    wait_until_up(&state);
    state
}

#[test]
fn a_cluster_conforms() {
    let Some(servers) = cluster() else { return };
    conformance::holds(|| connected(&servers));
}

#[test]
fn a_refusal_in_one_slot_gives_back_what_others_were_charged() {
    let Some(servers) = cluster() else { return };
    let counter = connected(&servers).counter();
    on_a_core(async {
        assert!(admits(counter.as_ref(), &[draw(3, 1, 1)]).await);
        for _ in 0..10 {
            let states = counter.charge(&[draw(1, 1, 5), draw(2, 1, 5), draw(3, 1, 1)]).await.expect("whole");
            assert!(!all_admitted(&states));
            assert_eq!(states.as_slice().iter().map(|state| state.remaining).collect::<Vec<_>>(), [5, 5, 0]);
        }
        for bucket in [1, 2] {
            assert!(admits(counter.as_ref(), &[draw(bucket, 5, 5)]).await, "everything was given back");
            assert!(!admits(counter.as_ref(), &[draw(bucket, 1, 5)]).await, "and not more");
        }
    });
}

#[test]
fn a_cluster_that_is_resharded_admits_exactly_the_limit() {
    let Some(servers) = cluster() else { return };
    let gateways = [connected(&servers), connected(&servers)];
    let counters: Vec<_> = gateways.iter().map(|gateway| gateway.counter()).collect();
    let node = |server: &RedisServer| server.ask(&["CLUSTER", "MYID"]);
    let (from, to, entry) = (node(&servers[0]), node(&servers[1]), servers[0].address());
    let admitted = std::thread::scope(|scope| {
        let moved = scope.spawn(|| {
            cli(&[
                "--cluster",
                "reshard",
                &entry,
                "--cluster-from",
                &from,
                "--cluster-to",
                &to,
                "--cluster-slots",
                "1500",
                "--cluster-yes",
            ]);
        });
        let mut admitted = Vec::new();
        let mut bucket = 0;
        // Buckets all over the slots, for as long as slots move.
        while !moved.is_finished() {
            bucket += 1;
            admitted.push(admitted_by_many(&counters, draw(bucket * 257, 1, 10), 10));
        }
        moved.join().expect("the slots are moved");
        admitted
    });
    assert!(admitted.len() > 10, "{admitted:?}");
    assert!(admitted.iter().all(|admitted| *admitted == 10), "{admitted:?}");
}
