//! A server that replays the documented protocol of lists and watches, with faults.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::*;
use crate::registry::testing::{
    Heard, Replies, Reply, Scripted, ScriptedRequest, answer, during, failure, persistently,
};

fn settings(server: &Scripted) -> model::KubernetesSource {
    model::KubernetesSource {
        servers: Some(server.servers()),
        service: "users".into(),
        namespace: Some("shop".into()),
        port: None,
        zone: None,
        token_file: None,
    }
}

fn source(settings: model::KubernetesSource) -> Box<dyn Source> {
    build(&model::DiscoverySource::Kubernetes(settings)).unwrap_or_else(|_| panic!("it can be built"))
}

fn slice(name: &str, version: u64, hosts: &[&str]) -> Value {
    let endpoints: Vec<Value> = hosts.iter().map(|host| json!({ "addresses": [host] })).collect();
    json!({
        "metadata": { "name": name, "resourceVersion": version.to_string(), "labels": { "a": "b" } },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
    })
}

fn list(version: &str, next_page: &str, slices: &[Value]) -> Reply {
    let metadata = json!({ "resourceVersion": version, "continue": next_page });
    answer(
        200,
        "",
        &json!({ "kind": "EndpointSliceList", "metadata": metadata, "items": slices }).to_string(),
    )
}

fn event(kind: &str, object: &Value) -> String {
    json!({ "type": kind, "object": object }).to_string()
}

/// A watch that sends these lines and ends.
fn lines(events: &[String]) -> Reply {
    let (sender, receiver) = unbounded_channel();
    events.iter().for_each(|event| sender.send(event.clone()).unwrap());
    Reply::Lines(receiver)
}

/// A watch to which the test sends lines.
#[derive(Default, Clone)]
struct Watch(Arc<Mutex<Option<UnboundedSender<String>>>>);

impl Watch {
    fn open(&self) -> Reply {
        let (sender, receiver) = unbounded_channel();
        *self.0.lock().unwrap() = Some(sender);
        Reply::Lines(receiver)
    }

    fn is_open(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }

    fn send(&self, line: String) {
        self.0.lock().unwrap().as_ref().unwrap().send(line).unwrap();
    }

    fn end(&self) {
        *self.0.lock().unwrap() = None;
    }
}

fn version_of(asked: &ScriptedRequest) -> Option<String> {
    let (_, rest) = asked.path.split_once("resourceVersion=")?;
    Some(rest.split('&').next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn slices_are_listed_page_by_page_and_watched_from_there_on() {
    let paths = Arc::<Mutex<Vec<String>>>::default();
    let (seen, watch) = (paths.clone(), Watch::default());
    let opened = watch.clone();
    let server = Scripted::start(move |asked| {
        seen.lock().unwrap().push(asked.path.clone());
        match asked.count {
            0 => list("7", "next/page", &[slice("a", 5, &["10.0.0.1"])]),
            1 => list("7", "", &[slice("b", 6, &["10.0.0.2"])]),
            _ => opened.open(),
        }
    })
    .await;
    let heard = Heard::default();
    during(&mut *source(settings(&server)), &heard, async {
        heard.wait_for_hosts("10.0.0.1 10.0.0.2").await;
        heard.wait("a watch", |_| watch.is_open()).await;
        watch.send(event("ADDED", &slice("c", 8, &["10.0.0.3"])));
        watch.send(event("MODIFIED", &slice("a", 9, &["10.0.0.4"])));
        heard.wait_for_hosts("10.0.0.4 10.0.0.2 10.0.0.3").await;
        watch.send(event("DELETED", &slice("b", 10, &[])));
        heard.wait_for_hosts("10.0.0.4 10.0.0.3").await;
        let before = heard.confirmed();
        watch.send(event("BOOKMARK", &json!({ "metadata": { "resourceVersion": "20" } })));
        heard.wait("a bookmark confirms", |heard| heard.confirmed() > before).await;
        // A watch that ends is continued from the bookmark on.
        watch.end();
        heard.wait("another watch", |_| watch.is_open()).await;
        watch.send(event("ADDED", &slice("d", 21, &["10.0.0.5"])));
        heard.wait_for_hosts("10.0.0.4 10.0.0.3 10.0.0.5").await;
    })
    .await;
    let paths = paths.lock().unwrap();
    let usual = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dusers&";
    assert_eq!(paths[0], format!("{usual}limit=250"));
    assert_eq!(paths[1], format!("{usual}limit=250&continue=next%2Fpage"));
    let watched = |version: &str| {
        format!("{usual}watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds=")
    };
    assert!(paths[2].starts_with(&watched("7")), "{}", paths[2]);
    assert!(paths[3].starts_with(&watched("20")), "{}", paths[3]);
}

#[tokio::test]
async fn a_version_that_is_gone_lists_all_slices_again() {
    let gone =
        json!({ "kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version" });
    let in_a_line = event("ERROR", &gone);
    let server = Scripted::start(move |asked| match (asked.count, version_of(&asked)) {
        (0, _) => list("7", "", &[slice("a", 5, &["10.0.0.1"])]),
        // As an event, which is how a server tells it once the watch is open.
        (1, Some(_)) => lines(std::slice::from_ref(&in_a_line)),
        (2, None) => list("8", "", &[slice("a", 8, &["10.0.0.2"])]),
        // As a status.
        (3, Some(_)) => answer(410, "", ""),
        (4, None) => list("9", "page", &[slice("a", 9, &["10.0.0.3"])]),
        // The list itself took too long.
        (5, None) => answer(410, "", ""),
        (6, None) if !asked.path.contains("continue") => list("10", "", &[slice("a", 10, &["10.0.0.4"])]),
        _ => Reply::Hang(b"HTTP/1.1 200 -\r\n\r\n".to_vec()),
    })
    .await;
    let heard = Heard::default();
    during(&mut *source(settings(&server)), &heard, heard.wait_for_hosts("10.0.0.4")).await;
    assert_eq!(heard.sets(), 3, "a list of which a page is missing is not used");
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_where_it_was() {
    let server = Scripted::start(move |asked| match version_of(&asked).as_deref() {
        None => list("7", "", &[slice("a", 5, &["10.0.0.1"])]),
        Some("7") => {
            let line = event("MODIFIED", &slice("a", 8, &["10.0.0.2"]));
            let chunk = format!("{:x}\r\n{line}\n\r\n10\r\n{{\"type\"", line.len() + 1);
            Reply::Break(format!("HTTP/1.1 200 -\r\ntransfer-encoding: chunked\r\n\r\n{chunk}").into_bytes())
        }
        Some("8") => lines(&[event("MODIFIED", &slice("a", 9, &["10.0.0.3"]))]),
        Some(_) => Reply::Hang(b"HTTP/1.1 200 -\r\n\r\n".to_vec()),
    })
    .await;
    let heard = Heard::default();
    during(&mut *source(settings(&server)), &heard, heard.wait_for_hosts("10.0.0.3")).await;
}

#[tokio::test]
async fn what_goes_wrong_is_told_in_words_and_takes_no_set_away() {
    let status = |code: u16| {
        json!({ "kind": "Status", "code": code, "message": "endpointslices is forbidden" }).to_string()
    };
    let (forbidden, refused) = (status(403), status(401));
    let endless = || list("7", "same", &[slice("a", 5, &["10.0.0.1"])]);
    let cases: Vec<(Replies, &str)> = vec![
        (Box::new(move || answer(403, "", &forbidden)), "namespace `shop`: grant `list` and `watch`"),
        (Box::new(move || answer(401, "", &refused)), "refuses the token"),
        (Box::new(|| answer(404, "", "404 page not found")), "older than Kubernetes 1.21"),
        (Box::new(|| answer(503, "", "")), "503"),
        (Box::new(|| answer(200, "", "{\"items\": 5}")), "not a list of EndpointSlices"),
        (Box::new(|| answer(200, "", &"[".repeat(100_000))), "not a list of EndpointSlices"),
        (Box::new(|| answer(200, "", "{}")), "without a version"),
        (Box::new(endless), "same page again"),
        (Box::new(|| Reply::Break(b"HTTP/1.1 200 -\r\n".to_vec())), "the request failed"),
    ];
    for (reply, words) in cases {
        let server = Scripted::start(move |_| reply()).await;
        let heard = Heard::default();
        let why = failure(&mut *source(settings(&server)), &heard).await;
        assert!(why.contains(words) && why.len() < 900 && !why.contains('\n'), "{words}: {why}");
        assert_eq!(heard.sets(), 0, "{words}");
    }
}

#[tokio::test]
async fn events_that_are_malformed_end_the_watch_and_the_set_stays() {
    let long = format!("{{\"type\": \"ADDED\", \"object\": \"{}", "x".repeat(9 << 20));
    for (line, words) in [
        ("{\"type\": \"ADDED\"}", "malformed"),
        ("{\"type\": \"ADDED\", \"object\": {\"metadata\": {\"name\": \"a\"}}}", "without a version"),
        (
            "{\"type\": \"ADDED\", \"object\": {\"metadata\": {\"name\": \"a\", \"resourceVersion\": \"8\"}, \"endpoints\": 1}}",
            "malformed",
        ),
        ("<html>", "malformed"),
        ("{\"type\": \"ERROR\", \"object\": {\"code\": 403, \"message\": \"no\"}}", "may not read"),
        (long.as_str(), "more than 8388608 bytes"),
    ] {
        let line = line.to_owned();
        let server = Scripted::start(move |asked| match version_of(&asked) {
            None => list("7", "", &[slice("a", 5, &["10.0.0.1"])]),
            Some(_) => lines(std::slice::from_ref(&line)),
        })
        .await;
        let heard = Heard::default();
        let why = failure(&mut *source(settings(&server)), &heard).await;
        assert!(why.contains(words), "{words}: {why}");
        assert_eq!((heard.hosts().as_deref(), heard.sets()), (Some("10.0.0.1"), 1));
    }
}

#[tokio::test]
async fn the_token_is_read_again_and_a_port_that_is_not_clear_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "first\n").unwrap();
    let file = token_file.clone();
    let server = Scripted::start(move |asked| {
        let expected =
            if asked.count == 0 { "authorization: bearer first" } else { "authorization: bearer second" };
        if !asked.head.contains(expected) {
            return answer(401, "", "");
        }
        std::fs::write(&file, "second").unwrap();
        match asked.count {
            0 => {
                let mut two = slice("a", 5, &["10.0.0.1"]);
                two["ports"] = json!([{ "name": "http", "port": 80 }, { "name": "grpc", "port": 81 }]);
                list("7", "", &[two])
            }
            1 => lines(&[event("MODIFIED", &slice("a", 9, &["10.0.0.2"]))]),
            _ => Reply::Hang(b"HTTP/1.1 200 -\r\n\r\n".to_vec()),
        }
    })
    .await;
    let heard = Heard::default();
    let settings = model::KubernetesSource { token_file: Some(token_file), ..settings(&server) };
    persistently(&mut *source(settings), &heard, heard.wait_for_hosts("10.0.0.2")).await;
    assert!(heard.failures().iter().any(|why| why.contains("several ports")), "{:?}", heard.failures());
}
