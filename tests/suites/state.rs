//! State that outlives a process or is shared by a fleet, in gateways as processes of their own.

use rustix::process::Signal;
use witgate_tests::{Gateway, Origin, Scratch, plugin, witgate};
#[cfg(feature = "full")]
use {serde_json::Value, witgate_tests::RedisServer, witgate_tests::eventually};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A route with one limit for everybody, counted in the state `kept`.
fn config(origin: &Origin, limit: u32, state: &str) -> String {
    format!(
        "[gateway]\nworkers = 2\ncounter = \"kept\"\nsecret = [\"{SECRET}\"]\n\
         [state.kept]\n{state}\n\
         [[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"origin\"\nplugins = [\"rate-limit\"]\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n\
         [plugins.rate-limit]\nfile = \"rate_limit.wasm\"\n\
         [bindings.rate-limit.settings]\npolicies = [{{ name = \"all\", by = [], limit = {limit}, window = \"1h\" }}]\n",
        origin.address()
    )
}

/// Settings of a server for tests: a busy machine may need longer than the default budget.
#[cfg(feature = "full")]
fn redis(server: &RedisServer, more: &str) -> String {
    format!("kind = \"redis\"\nservers = [\"{}\"]\nbudget = \"1s\"\n{more}", server.address())
}

async fn start(config: &str) -> Gateway {
    let scratch = Scratch::new();
    scratch.install(&plugin("rate-limit"), "rate_limit");
    Gateway::start(scratch, config).await
}

/// How many of so many requests are let through.
async fn admitted(gateway: &Gateway, requests: usize) -> usize {
    let mut client = gateway.client().await;
    let mut admitted = 0;
    for _ in 0..requests {
        match client.get("/", &[]).await.status.as_u16() {
            200 => admitted += 1,
            429 => {}
            status => panic!("an unexpected response: {status}\n{}", gateway.output()),
        }
    }
    admitted
}

/// What `/status` tells of the state.
#[cfg(feature = "full")]
async fn state_of(gateway: &Gateway) -> Value {
    gateway.admin_get("/status").await.json()["states"][0].clone()
}

#[cfg(feature = "full")]
async fn until_available(gateway: &Gateway, available: bool) {
    let what = if available { "the state to be reached" } else { "the state to be given up" };
    eventually(what, async || state_of(gateway).await["available"] == available).await;
}

#[cfg(feature = "full")]
#[tokio::test]
async fn three_gateways_keep_one_limit_and_one_quota() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let origin = Origin::named("origin").await;
    let config = config(&origin, 30, &redis(&server, "gateways = 3\n"));
    let gateways = [start(&config).await, start(&config).await, start(&config).await];
    for gateway in &gateways {
        until_available(gateway, true).await;
    }
    let [one, two, three] = &gateways;
    let (a, b, c) = tokio::join!(admitted(one, 20), admitted(two, 20), admitted(three, 20));
    assert_eq!(a + b + c, 30, "{a} + {b} + {c}");
    assert_eq!(one.metric("witgate_state_available", &["state=\"kept\""]).await, 1.0);
    assert_eq!(one.metric("witgate_state_operations_total", &["end=\"done\""]).await, 20.0);

    // Without the server each admits its part, and says so.
    server.kill();
    for gateway in &gateways {
        admitted(gateway, 1).await;
        until_available(gateway, false).await;
        let problem = state_of(gateway).await["problem"].as_str().unwrap_or_default().to_owned();
        assert!(!problem.is_empty());
        assert_eq!(gateway.metric("witgate_state_available", &["state=\"kept\""]).await, 0.0);
        assert_eq!(
            admitted(gateway, 15).await,
            9,
            "a third of the limit, of which the first request took one"
        );
        assert!(gateway.metric("witgate_state_operations_total", &["end=\"local\""]).await >= 16.0);
    }
    server.restart();
    for gateway in &gateways {
        until_available(gateway, true).await;
    }
    // This server forgets when it dies, so a full limit is there again, for all of them together.
    let (a, b, c) = tokio::join!(admitted(one, 20), admitted(two, 20), admitted(three, 20));
    assert_eq!(a + b + c, 30, "{a} + {b} + {c}");
}

#[cfg(feature = "full")]
#[tokio::test]
async fn a_server_that_hangs_does_not_hang_requests() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let origin = Origin::named("origin").await;
    let state = redis(&server, "on_unavailable = \"allow\"\n").replace("1s", "50ms");
    let gateway = start(&config(&origin, 5, &state)).await;
    until_available(&gateway, true).await;
    server.pause();
    let begun = std::time::Instant::now();
    assert_eq!(admitted(&gateway, 200).await, 200);
    // Five wait for their budget; a request that waited for each would take ten seconds in all.
    assert!(begun.elapsed() < std::time::Duration::from_secs(8), "{:?}", begun.elapsed());
    until_available(&gateway, false).await;
    server.resume();
    until_available(&gateway, true).await;
    assert!(admitted(&gateway, 10).await <= 5);
}

#[tokio::test]
async fn a_quota_in_a_file_survives_a_kill() {
    let origin = Origin::named("origin").await;
    let folder = tempfile::tempdir().expect("a scratch folder");
    let state = format!("kind = \"file\"\nfolder = \"{}\"\n", folder.path().join("state").display());
    let config = config(&origin, 10, &state);
    let mut gateway = start(&config).await;
    assert_eq!(admitted(&gateway, 6).await, 6);
    gateway.signal(Signal::KILL);
    gateway.exit().await;
    let gateway = start(&config).await;
    assert_eq!(admitted(&gateway, 10).await, 4);
    // A reload that changes a setting of the state goes on with the same file.
    gateway
        .reconfigure(&Gateway::completed(
            &config.replace("kind = \"file\"", "kind = \"file\"\nsize = \"1MiB\""),
        ))
        .await;
    assert_eq!(admitted(&gateway, 3).await, 0);
    // While it is in use, no other process gets the file, and a check of the configuration does not need it.
    let checked = validate(&config);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let scratch = Scratch::new();
    scratch.install(&plugin("rate-limit"), "rate_limit");
    let mut second = Gateway::begin(scratch, &config);
    assert_eq!(second.exit().await.code(), Some(3), "{}", second.output());
    assert!(second.output().contains("is used by another process"), "{}", second.output());
}

#[cfg(feature = "full")]
#[tokio::test]
async fn a_shared_state_without_a_secret_is_refused() {
    let origin = Origin::named("origin").await;
    let state = "kind = \"redis\"\nservers = [\"127.0.0.1:6379\", \"10.0.0.1:6379\"]\n";
    let config = config(&origin, 10, state).replace(&format!("secret = [\"{SECRET}\"]\n"), "");
    let checked = validate(&config);
    let told =
        String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(3), "{told}");
    for part in ["needs a secret", "would not be encrypted", "a single server has one address"] {
        assert!(told.contains(part), "{part} is missing in:\n{told}");
    }
}

/// Runs `witgate validate` on a configuration.
fn validate(config: &str) -> std::process::Output {
    let scratch = Scratch::new();
    scratch.install(&plugin("rate-limit"), "rate_limit");
    scratch.write("witgate.toml", Gateway::completed(config));
    let mut command = std::process::Command::new(witgate());
    command.arg("validate").arg("--config").arg(scratch.config()).current_dir(scratch.path());
    command.output().expect("the gateway's binary can be run")
}
