//! What plugins do beside requests, in gateways as processes of their own: they see finished exchanges, are called by the clock,
//! and read files that change.

use rustix::process::Signal;
use witgate_tests::{Gateway, Origin, Scratch, eventually, guest, plugin};

/// A gateway with one plugin that tells the upstream `collector` what it sees, and when it is called by the clock.
fn config(origin: &Origin, collector: &Origin) -> String {
    format!(
        "[gateway]\nworkers = 2\nplugins = [\"b\"]\n\
         [data.table]\nfile = \"table\"\n\
         [plugins.background]\nfile = \"background.wasm\"\nunstable = true\n\
         [bindings.b]\nplugin = \"background\"\ntick = \"1h\"\n\
         settings = {{ act = \"fetch\", checks = \"table\" }}\n\
         grants = {{ fetch = [\"collector\"], store = [], data = [\"table\"], headers = [\"x-seen\"] }}\n\
         budget = {{ cpu = \"300ms\", wall = \"20s\" }}\n\
         [[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"origin\"\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n\
         [upstreams.collector]\nendpoints = [\"{}\"]\n",
        origin.address(),
        collector.address()
    )
}

async fn start(origin: &Origin, collector: &Origin) -> Gateway {
    let scratch = Scratch::new();
    scratch.install(&guest("background"), "background");
    scratch.write("table", b"good table");
    Gateway::start(scratch, &config(origin, collector)).await
}

/// The lines that the collector was told at a path.
fn told(collector: &Origin, path: &str) -> Vec<String> {
    let seen = collector.seen().into_iter().filter(|seen| seen.uri.path() == path);
    seen.flat_map(|seen| {
        String::from_utf8_lossy(&seen.body).lines().map(str::to_owned).collect::<Vec<String>>()
    })
    .collect()
}

#[tokio::test]
async fn every_exchange_that_ended_is_told_before_the_process_ends() {
    let (origin, collector) = (Origin::named("origin").await, Origin::named("collector").await);
    let mut gateway = start(&origin, &collector).await;
    let mut client = gateway.client().await;
    for number in 0..20 {
        assert_eq!(client.get(&format!("/{number}?token=secret"), &[]).await.status, 200);
    }
    drop(client);
    gateway.signal(Signal::TERM);
    let status = gateway.exit().await;
    let output = gateway.output();
    assert!(status.success(), "{output}");
    let lines = told(&collector, "/seen");
    assert_eq!(lines.len(), 20, "{lines:?}\n{output}");
    assert!(lines.iter().any(|line| line.starts_with("all GET /7 200 End::Complete 0 ")), "{lines:?}");
    assert!(
        lines.iter().all(|line| line.contains("b/rate-limiting") && !line.contains("secret")),
        "{lines:?}"
    );
    assert_eq!(told(&collector, "/ticks").len(), 1, "once a gateway, however many cores it has");
}

#[tokio::test]
async fn a_changed_file_reaches_the_plugin_and_a_bad_one_does_not() {
    let (origin, collector) = (Origin::named("origin").await, Origin::named("collector").await);
    let gateway = start(&origin, &collector).await;
    let reads = async |bytes: usize| {
        let mut client = gateway.client().await;
        eventually("the plugin to use the file", async || {
            assert_eq!(client.get("/", &[]).await.status, 200);
            told(&collector, "/seen")
                .last()
                .is_some_and(|line| line.ends_with(&format!("checked=Some({bytes})")))
        })
        .await;
    };
    reads(10).await;
    gateway.scratch.write("table", b"good longer table");
    reads(17).await;

    gateway.scratch.write("table", b"bad");
    eventually("the plugin to refuse it", async || {
        let status = gateway.admin_get("/status").await.json();
        status["bindings"][0]["state"] == "last-good"
            && status["bindings"][0]["problem"]
                .as_str()
                .unwrap_or_default()
                .contains("the table is malformed")
    })
    .await;
    reads(17).await;

    std::fs::remove_file(gateway.scratch.path().join("table")).expect("the file is there");
    eventually("the missing file to be told", async || {
        let problems = gateway.admin_get("/status").await.json()["last_change"]["problems"].to_string();
        problems.contains("data file `table`") && problems.contains("last good contents")
    })
    .await;
    reads(17).await;

    gateway.scratch.write("table", b"good again");
    reads(10).await;
}

/// Hashes of `myPassword`: bcrypt by crypt(3), APR1 by `openssl passwd -apr1`.
const USERS: &str = "alice:$2y$04$abcdefghijklmnopqrstuuN2f4ZDSoR8/TAG80qUYDM9bRnmRm0Zy\n\
                     bob:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/\n";

#[tokio::test]
async fn basic_auth_takes_its_users_from_a_file_and_heeds_its_changes() {
    // `alice:myPassword`, `bob:myPassword`, `alice:wrong`.
    let [alice, bob, wrong] = ["YWxpY2U6bXlQYXNzd29yZA==", "Ym9iOm15UGFzc3dvcmQ=", "YWxpY2U6d3Jvbmc="]
        .map(|token| format!("Basic {token}"));
    let origin = Origin::named("origin").await;
    let scratch = Scratch::new();
    scratch.install(&plugin("basic-auth"), "basic_auth");
    scratch.write("users.htpasswd", USERS);
    let config = format!(
        "[gateway]\nidentity_headers = {{ x-user = \"subject\" }}\n\
         [data.users]\nfile = \"users.htpasswd\"\n\
         [plugins.basic-auth]\nfile = \"basic_auth.wasm\"\nunstable = true\n\
         [bindings.basic-auth]\ngrants = {{ data = [\"users\"], credentials = [\"authorization\"] }}\nbudget.wall = \"20s\"\n\
         [[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"origin\"\nplugins = [\"basic-auth\"]\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n",
        origin.address()
    );
    let gateway = Gateway::start(scratch, &config).await;
    let mut client = gateway.client().await;
    let mut ask = async |authorization: &str| {
        let headers = [("authorization", authorization)];
        client.get("/", if authorization.is_empty() { &[] } else { &headers }).await
    };
    for (authorization, user) in [(&alice, "alice"), (&bob, "bob"), (&alice, "alice")] {
        assert_eq!(ask(authorization).await.status, 200, "{user}: {}", gateway.output());
        assert_eq!(origin.last().header("x-user"), user);
    }
    for refused in ["", &wrong, "Basic !", "Bearer x"] {
        let reply = ask(refused).await;
        assert_eq!(reply.status, 401, "{refused}");
        assert!(reply.header("www-authenticate").starts_with("Basic realm="), "{refused}");
    }
    gateway.scratch.write("users.htpasswd", USERS.lines().last().unwrap_or_default());
    eventually("alice to be gone", async || ask(&alice).await.status == 401).await;
    assert_eq!(ask(&bob).await.status, 200);
    gateway.scratch.write("users.htpasswd", "alice:no hash");
    eventually("the mistake to be told", async || {
        let status = gateway.admin_get("/status").await.json()["bindings"][0].to_string();
        status.contains("last-good") && status.contains("line 1 of the file")
    })
    .await;
    assert_eq!(ask(&bob).await.status, 200, "the last good file stays in use");
}
