//! One test for each promise of the README.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::*;
use serde_json::Value;
use witgate_sdk::fetch::{Error, InboundResponse};
use witgate_sdk::{End, Step, test};

fn plugin(more: &str) -> Ship {
    test::configure(format!(r#"{{ "upstream": "logs"{more} }}"#)).expect("the settings are good")
}

fn exchange(path: &str, status: u16) -> Exchange {
    Exchange {
        ended_at: 1_767_225_600_123,
        microseconds: 1500,
        listener: "web".to_owned(),
        route: "all".to_owned(),
        request_id: "4711".to_owned(),
        trace_id: None,
        client_address: "192.0.2.1".to_owned(),
        subject: Some("ada".to_owned()),
        method: "GET".to_owned(),
        authority: "shop.example".to_owned(),
        path: path.to_owned(),
        headers: vec![
            ("user-agent".to_owned(), b"curl".to_vec()),
            ("authorization".to_owned(), b"Bearer secret".to_vec()),
            ("x-odd".to_owned(), b"\xff".to_vec()),
        ],
        status,
        end: End::Complete,
        received: 0,
        sent: 5,
        fault: None,
        upstream: Some("users".to_owned()),
        endpoint: Some("10.0.0.1:80".to_owned()),
        attempts: 1,
        upstream_microseconds: Some(900),
        steps: vec![Step {
            binding: "jwt".to_owned(),
            phase: "authentication".to_owned(),
            microseconds: 12,
            failure: None,
        }],
    }
}

/// A collector that gives these answers, then 200.
fn collector(gateway: &test::Gateway, answers: Vec<Result<u16, Error>>) {
    let answers = Rc::new(RefCell::new(VecDeque::from(answers)));
    gateway.upstream("logs", move |_| {
        let answer = answers.borrow_mut().pop_front().unwrap_or(Ok(200));
        answer.map(|status| InboundResponse::new(status, ""))
    });
}

#[test]
fn a_batch_is_one_message_in_each_format() {
    let gateway = test::Gateway::new();
    collector(&gateway, Vec::new());
    let batch = [exchange("/a", 200), exchange("/b", 502)];
    for format in ["json_lines", "json", "syslog"] {
        plugin(&format!(
            r#", "format": "{format}", "labels": {{ "service": "shop" }}, "headers": ["User-Agent", "x-odd"]"#
        ))
        .observe(&batch);
    }
    let sent: Vec<String> =
        gateway.fetched().into_iter().map(|message| String::from_utf8(message.body).expect("text")).collect();
    let lines: Vec<Value> = sent[0].lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["path"], &lines[1]["status"]), (&"/a".into(), &502.into()));
    assert_eq!(lines[0]["time"], "2026-01-01T00:00:00.123Z");
    assert_eq!((&lines[0]["service"], &lines[0]["headers"]["user-agent"]), (&"shop".into(), &"curl".into()));
    assert_eq!(lines[0]["headers"].as_object().map(serde_json::Map::len), Some(1), "no text, no header");
    assert_eq!(lines[0]["plugins"][0]["binding"], "jwt");
    let list: Value = serde_json::from_str(&sent[1]).expect("JSON");
    assert_eq!(list, Value::from(lines.clone()));
    let syslog: Vec<&str> = sent[2].lines().collect();
    assert!(syslog[0].starts_with("<134>1 2026-01-01T00:00:00.123Z web witgate - - - {"), "{}", syslog[0]);
    assert!(syslog[1].starts_with("<131>1 "), "{}", syslog[1]);
    assert!(!sent.concat().contains("secret"));
    assert_eq!(gateway.counted("records_sent"), 6);
}

#[test]
fn only_the_named_fields_are_sent() {
    let gateway = test::Gateway::new();
    collector(&gateway, Vec::new());
    plugin(r#", "fields": ["status", "path"]"#).observe(&[exchange("/a\n\"b", 200)]);
    assert_eq!(gateway.fetched()[0].body, b"{\"path\":\"/a\\n\\\"b\",\"status\":200}\n");
    let all: Vec<&str> = Field::ALL.iter().map(|field| field.name()).collect();
    let written = serde_json::to_string(&all).expect("JSON");
    assert_eq!(
        plugin(&format!(r#", "fields": {written}"#)).0.fields,
        Field::ALL,
        "names are those of the settings"
    );
}

#[test]
fn tries_are_bounded_and_what_is_dropped_is_counted() {
    for (answers, tries, sent) in [
        (vec![Ok(503), Err(Error::Timeout)], 3, 1),
        (vec![Ok(429); 3], 3, 0),
        (vec![Err(Error::Unavailable); 9], 3, 0),
        (vec![Ok(400)], 1, 0),
        (vec![Err(Error::Denied)], 1, 0),
        (vec![Err(Error::TooLarge)], 1, 1),
    ] {
        let gateway = test::Gateway::new();
        collector(&gateway, answers.clone());
        plugin("").observe(&[exchange("/", 200)]);
        assert_eq!(gateway.fetched().len(), tries, "{answers:?}");
        assert_eq!(
            (gateway.counted("records_sent"), gateway.counted("records_dropped")),
            (sent, 1 - sent),
            "{answers:?}"
        );
        assert_eq!(gateway.logged().len() as u64, 1 - sent);
    }
}

#[test]
fn a_long_batch_is_sent_in_several_messages() {
    let gateway = test::Gateway::new();
    collector(&gateway, Vec::new());
    let batch: Vec<Exchange> =
        (0..100).map(|number| exchange(&format!("/{number}/{}", "x".repeat(1000)), 200)).collect();
    let plugin = plugin(r#", "max_body": 16384, "format": "json""#);
    plugin.observe(&batch);
    let sent = gateway.fetched();
    assert!(sent.len() > 6 && sent.iter().all(|message| message.body.len() <= 16384), "{}", sent.len());
    let records = sent.iter().map(|message| {
        serde_json::from_slice::<Value>(&message.body).expect("JSON").as_array().map_or(0, Vec::len)
    });
    assert_eq!(records.sum::<usize>(), 100);
    plugin.observe(&[exchange(&"x".repeat(20_000), 200), exchange("/", 200)]);
    assert_eq!((gateway.counted("records_sent"), gateway.counted("records_dropped")), (101, 1));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (more, pointer) in [
        (r#", "path": "x""#, "/path"),
        (r#", "fields": []"#, "/fields"),
        (r#", "fields": ["query"]"#, "/fields/0"),
        (r#", "headers": ["accept", "Cookie"]"#, "/headers/1"),
        (r#", "labels": { "status": "x" }"#, "/labels/status"),
        (r#", "retries": 6"#, "/retries"),
        (r#", "max_body": 1"#, "/max_body"),
        (r#", "authorization": """#, "/authorization"),
    ] {
        let problems =
            test::configure::<Ship>(format!(r#"{{ "upstream": "logs"{more} }}"#)).err().expect("wrong");
        assert_eq!(problems[0].pointer, pointer, "{more}");
    }
}
