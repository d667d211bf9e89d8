//! A real etcd, alone and as a cluster, and servers that are none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use witgate_tests::EtcdServer;

use super::*;
use crate::registry::testing::{Heard, during, failure, persistently};

fn settings(servers: &[&EtcdServer]) -> model::EtcdSource {
    let servers = servers.iter().map(|server| ("127.0.0.1".to_owned(), server.port())).collect();
    let servers = model::RegistryServers { servers, tls: None };
    model::EtcdSource { servers, prefix: "/users/".into(), user: None }
}

fn source(settings: model::EtcdSource) -> Box<dyn Source> {
    build(&model::DiscoverySource::Etcd(settings)).unwrap_or_else(|_| panic!("it can be built"))
}

fn with_user(settings: model::EtcdSource, name: &str, password: &str) -> model::EtcdSource {
    let password = model::Secret::new(password.as_bytes());
    model::EtcdSource { user: Some((name.into(), password)), ..settings }
}

#[tokio::test]
async fn keys_come_and_go_with_their_leases() {
    let Some(etcd) = EtcdServer::start() else { return };
    // More keys than fit on a page.
    for number in 0..3 {
        etcd.ctl(&["put", &format!("/users/{number}"), &format!("10.0.0.{number}:80")]);
    }
    etcd.ctl(&["put", "/usersx/a", "10.9.9.9:80"]);
    let heard = Heard::default();
    during(&mut *source(settings(&[&etcd])), &heard, async {
        heard.wait_for_hosts("10.0.0.0 10.0.0.1 10.0.0.2").await;
        assert_eq!(heard.set().unwrap()[1].name.as_deref(), Some("1"));
        etcd.ctl(&["put", "/users/1", "{\"address\": \"10.0.0.9:81\", \"weight\": 5}"]);
        heard.wait_for_hosts("10.0.0.0 10.0.0.9 10.0.0.2").await;
        etcd.ctl(&["del", "/users/2"]);
        heard.wait_for_hosts("10.0.0.0 10.0.0.9").await;
        let granted = etcd.ctl(&["lease", "grant", "1"]);
        let lease = granted.split(' ').nth(1).unwrap();
        etcd.ctl(&["put", "--lease", lease, "/users/3", "10.0.0.3:80"]);
        heard.wait_for_hosts("10.0.0.0 10.0.0.9 10.0.0.3").await;
        heard.wait_for_hosts("10.0.0.0 10.0.0.9").await;
        // A value that cannot be used is passed on without an address, for the sink to show.
        etcd.ctl(&["put", "/users/4", "nonsense"]);
        heard.wait_for_hosts("10.0.0.0 10.0.0.9 nonsense").await;
        etcd.ctl(&["del", "--prefix", "/users/"]);
        heard.wait_for_hosts("").await;
        heard.wait("progress confirms", |heard| heard.confirmed() > 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_list_of_several_pages_is_of_one_revision_and_a_compacted_watch_is_told() {
    let Some(etcd) = EtcdServer::start() else { return };
    let mut puts = String::new();
    for number in 0..PAGE + 20 {
        puts.push_str(&format!("put /users/{number:04} 10.0.{}.{}:80\n", number / 250, number % 250));
        if number % 100 == 99 || number == PAGE + 19 {
            transact(&etcd, &puts);
            puts.clear();
        }
    }
    let settings = settings(&[&etcd]);
    let heard = Heard::default();
    let mut follower = Follower { settings: &settings, sink: &heard, useful: false, accepted: false };
    let mut client = Grpc::open(&settings.servers, "127.0.0.1", etcd.port()).await.unwrap();
    let (keys, revision) = follower.list(&mut client).await.unwrap();
    assert_eq!(keys.endpoints().len(), PAGE + 20);
    etcd.ctl(&["compact", &revision.to_string()]);
    assert_eq!(follower.watch(&mut client, keys, 1).await, Ok(()), "the revision was compacted");
}

/// Puts many keys at once.
fn transact(etcd: &EtcdServer, puts: &str) {
    let mut ctl = std::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args([&format!("--endpoints={}", etcd.address()), "txn"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // No condition, these puts, and nothing otherwise.
    let text = format!("\n{puts}\n\n");
    std::io::Write::write_all(&mut ctl.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(ctl.wait().unwrap().success());
}

#[tokio::test]
async fn a_member_that_is_killed_or_falls_silent_is_followed_by_the_next() {
    let Some(mut cluster) = EtcdServer::cluster(3) else { return };
    cluster[0].ctl(&["put", "/users/a", "10.0.0.1:80"]);
    let all: Vec<&EtcdServer> = cluster.iter().collect();
    let settings = settings(&all);
    let heard = Heard::default();
    persistently(&mut *source(settings), &heard, async {
        heard.wait_for_hosts("10.0.0.1").await;
        cluster[0].kill();
        cluster[1].ctl(&["put", "/users/b", "10.0.0.2:80"]);
        heard.wait_for_hosts("10.0.0.1 10.0.0.2").await;
        cluster[0].restart();
        cluster[2].ctl(&["del", "/users/a"]);
        heard.wait_for_hosts("10.0.0.2").await;
    })
    .await;
}

#[tokio::test]
async fn bad_credentials_are_told_in_words() {
    let Some(mut etcd) = EtcdServer::start() else { return };
    let plain = settings(&[&etcd]);
    let heard = Heard::default();
    let why = failure(&mut *source(with_user(plain.clone(), "gateway", "secret")), &heard).await;
    assert!(why.contains("no authentication enabled"), "{why}");
    for command in [
        &["user", "add", "root:root"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "gateway:secret"],
        &["role", "add", "reader"],
        &["role", "grant-permission", "reader", "--prefix=true", "read", "/users/"],
        &["put", "/users/a", "10.0.0.1:80"],
        &["auth", "enable"],
    ] {
        etcd.ctl(command);
    }
    etcd.login = Some("--user=root:root".to_owned());
    for (settings, words) in [
        (plain.clone(), "set `user` and `password`"),
        (with_user(plain.clone(), "gateway", "wrong"), "refuses the user `gateway` or its password"),
        (with_user(plain.clone(), "nobody", "secret"), "refuses the user `nobody`"),
        (with_user(plain.clone(), "gateway", "secret"), "may not read the keys under `/users/`"),
        (with_user(plain.clone(), "gateway", "se\ncret"), "refuses the user `gateway`"),
    ] {
        let why = failure(&mut *source(settings), &heard).await;
        assert!(why.contains(words) && !why.contains("secret"), "{words}: {why}");
    }
    assert_eq!(heard.sets(), 0);
    etcd.ctl(&["user", "grant-role", "gateway", "reader"]);
    let known = with_user(plain, "gateway", "secret");
    persistently(&mut *source(known), &heard, async {
        heard.wait_for_hosts("10.0.0.1").await;
        // A password that was changed ends no watch; another start needs the new one.
        etcd.ctl(&["put", "/users/b", "10.0.0.2:80"]);
        heard.wait_for_hosts("10.0.0.1 10.0.0.2").await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_etcd_is_told_and_takes_no_set_away() {
    for (bytes, words) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..], "127.0.0.1:"),
        (b"\0", "no answer within"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "127.0.0.1:"),
        (b"", "127.0.0.1:"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let ended = Arc::<AtomicBool>::default();
        let seen = ended.clone();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(bytes).await;
            if !bytes.is_empty() {
                while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
            }
            seen.store(true, Ordering::SeqCst);
        });
        let servers = model::RegistryServers { servers: vec![("127.0.0.1".into(), port)], tls: None };
        let settings = model::EtcdSource { servers, prefix: "/users/".into(), user: None };
        let heard = Heard::default();
        let why = failure(&mut *source(settings), &heard).await;
        assert!(why.contains(words) && why.len() < 600, "{words}: {why}");
        assert_eq!(heard.sets(), 0);
    }
}
