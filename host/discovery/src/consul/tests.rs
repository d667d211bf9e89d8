//! A scripted server that speaks Consul's documented protocol, with faults.

use std::sync::{Arc, Mutex};

use super::*;
use crate::registry::testing::{Heard, Replies, Reply, Scripted, answer, during, failure, persistently};

fn settings(server: &Scripted) -> model::ConsulSource {
    model::ConsulSource {
        servers: server.servers(),
        service: "users".into(),
        datacenter: None,
        tags: Vec::new(),
        passing: true,
        near: None,
        stale: None,
        token_file: None,
    }
}

fn source(settings: model::ConsulSource) -> Box<dyn Source> {
    build(&model::DiscoverySource::Consul(settings)).unwrap_or_else(|_| panic!("it can be built"))
}

fn instances(hosts: &[&str]) -> String {
    let instance = |host: &&str| {
        format!(
            r#"{{"Node": {{"Node": "n", "Address": "{host}"}}, "Service": {{"ID": "{host}", "Port": 80}}}}"#
        )
    };
    format!("[{}]", hosts.iter().map(instance).collect::<Vec<_>>().join(","))
}

fn at_index(index: u64, hosts: &[&str]) -> Reply {
    answer(200, &format!("X-Consul-Index: {index}\r\n"), &instances(hosts))
}

#[tokio::test]
async fn changes_are_waited_for_and_an_index_that_goes_backwards_begins_anew() {
    let paths = Arc::<Mutex<Vec<String>>>::default();
    let seen = paths.clone();
    let server = Scripted::start(move |asked| {
        seen.lock().unwrap().push(asked.path);
        match asked.count {
            0 => at_index(5, &["10.0.0.1"]),
            1 => at_index(9, &["10.0.0.1", "10.0.0.2"]),
            // Nothing has changed.
            2 => at_index(9, &["10.0.0.1", "10.0.0.2"]),
            // The cluster was restored from a snapshot.
            3 => at_index(3, &["10.0.0.3"]),
            // A fault of Consul: no index is 0.
            4 => at_index(0, &["10.0.0.4"]),
            _ => Reply::Hang(Vec::new()),
        }
    })
    .await;
    let settings = model::ConsulSource {
        tags: vec!["v 2".into(), "eu".into()],
        datacenter: Some("dc1".into()),
        near: Some(("_agent".into(), 1)),
        ..settings(&server)
    };
    let heard = Heard::default();
    during(&mut *source(settings), &heard, async {
        heard.wait_for_hosts("10.0.0.4").await;
        heard.wait("the next request", |_| paths.lock().unwrap().len() == 6).await;
    })
    .await;
    let usual = "/v1/health/service/users?passing=1&dc=dc1&tag=v%202&tag=eu&near=%5Fagent";
    let index = |index: u64| format!("{usual}&index={index}&wait=120s");
    let expected = [usual.to_owned(), index(5), index(9), index(9), usual.to_owned(), index(1)];
    assert_eq!(*paths.lock().unwrap(), expected);
    assert_eq!((heard.sets(), heard.confirmed()), (4, 1));
}

#[tokio::test]
async fn what_goes_wrong_is_told_in_words_and_takes_no_set_away() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "secret\n").unwrap();
    let index = "X-Consul-Index: 1\r\n";
    let cases: Vec<(Replies, bool, &str)> = vec![
        (Box::new(|| answer(403, "", "Permission denied")), true, "refuses the token"),
        (Box::new(|| answer(403, "", "Permission denied")), false, "wants a token"),
        (Box::new(|| answer(500, "", "No cluster leader")), false, "No cluster leader"),
        (Box::new(|| answer(429, "", "")), false, "429"),
        (Box::new(|| answer(200, "", "[]")), false, "no `X-Consul-Index`"),
        (Box::new(move || answer(200, index, "<html>\u{1}")), false, "not a list of instances"),
        (
            Box::new(|| {
                answer(200, "X-Consul-Index: 1\r\nX-Consul-Results-Filtered-By-ACLs: true\r\n", "[]")
            }),
            true,
            "may not read the service",
        ),
        (
            Box::new(|| {
                let huge = "HTTP/1.1 200 -\r\nX-Consul-Index: 1\r\ncontent-length: 99999999999\r\n\r\n[";
                Reply::Hang(huge.into())
            }),
            false,
            "more than 67108864 bytes",
        ),
        (
            Box::new(|| {
                let short = "HTTP/1.1 200 -\r\nX-Consul-Index: 1\r\ncontent-length: 9\r\n\r\n[";
                Reply::Break(short.into())
            }),
            false,
            "broke off",
        ),
        (Box::new(|| Reply::Break(Vec::new())), false, "the request failed"),
        (Box::new(|| Reply::Break(b"SSH-2.0-OpenSSH\r\n".to_vec())), false, "the request failed"),
    ];
    for (reply, has_token, words) in cases {
        let server = Scripted::start(move |_| reply()).await;
        let token_file = has_token.then(|| token_file.clone());
        let heard = Heard::default();
        let why =
            failure(&mut *source(model::ConsulSource { token_file, ..settings(&server) }), &heard).await;
        assert!(why.contains(words) && why.contains("127.0.0.1:") && why.len() < 600, "{words}: {why}");
        assert!(!why.contains("secret") && !why.contains(|c: char| c.is_control()), "{why}");
        assert_eq!(heard.sets(), 0, "{words}");
    }
}

#[tokio::test]
async fn another_server_takes_over_and_tokens_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "first").unwrap();
    let gone = Scripted::start(|_| answer(500, "", "no leader")).await;
    let file = token_file.clone();
    let server = Scripted::start(move |asked| match asked.count {
        0 => {
            assert!(asked.head.contains("x-consul-token: first"), "{}", asked.head);
            std::fs::write(&file, "second").unwrap();
            at_index(5, &["10.0.0.1"])
        }
        _ if asked.head.contains("x-consul-token: second") => at_index(6, &["10.0.0.2"]),
        _ => answer(403, "", ""),
    })
    .await;
    let servers = [gone.servers().servers, server.servers().servers].concat();
    let servers = model::RegistryServers { servers, tls: None };
    let settings = model::ConsulSource { servers, token_file: Some(token_file), ..settings(&server) };
    let heard = Heard::default();
    during(&mut *source(settings), &heard, heard.wait_for_hosts("10.0.0.2")).await;
}

#[tokio::test]
async fn an_answer_that_is_too_old_is_asked_of_the_leader() {
    let server = Scripted::start(|asked| {
        let (headers, host) = match asked.path.contains("stale") {
            true => (
                "X-Consul-Index: 1\r\nX-Consul-LastContact: 60000\r\nX-Consul-KnownLeader: true\r\n",
                "10.0.0.1",
            ),
            false => ("X-Consul-Index: 1\r\n", "10.0.0.2"),
        };
        answer(200, headers, &instances(&[host]))
    })
    .await;
    let heard = Heard::default();
    let settings = model::ConsulSource { stale: Some(Duration::from_secs(10)), ..settings(&server) };
    during(&mut *source(settings), &heard, heard.wait_for_hosts("10.0.0.2")).await;
    assert_eq!(heard.sets(), 1, "the old answer is not used");
}

#[tokio::test]
async fn a_server_that_comes_back_is_followed_and_one_that_does_not_wait_is_asked_slowly() {
    let count = Arc::<std::sync::atomic::AtomicUsize>::default();
    let seen = count.clone();
    let server = Scripted::start(move |asked| {
        seen.store(asked.count, std::sync::atomic::Ordering::SeqCst);
        match asked.count {
            0 | 1 => Reply::Break(Vec::new()),
            _ => at_index(7, &["10.0.0.1"]),
        }
    })
    .await;
    let heard = Heard::default();
    persistently(&mut *source(settings(&server)), &heard, async {
        heard.wait("it is confirmed", |heard| heard.confirmed() == 1).await;
        // If the pause were the usual one, there would be four more requests.
        tokio::time::sleep(PACE * 4).await;
        assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 3);
    })
    .await;
}
