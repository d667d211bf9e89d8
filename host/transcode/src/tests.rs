//! Requests with JSON to methods whose answers are made here.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Frame;
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use witgate_config::model::{JsonForm, StreamForm, Transcode};
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::destination::{Destination, Wrapper};
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::grpc::message::framed;
use witgate_exchange::testing;

use crate::{Transcoder, schema};

const PROTO: &str = r#"
syntax = "proto3";
package example;
import "google/api/annotations.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/any.proto";
enum Kind { ANY = 0; SMALL = 1; LARGE = 2; }
message Area { string city = 1; int64 code = 2; }
message Order {
  string order_id = 1;
  int64 amount = 2;
  Kind kind = 3;
  repeated string tags = 4;
  Area place = 5;
  google.protobuf.Timestamp at = 6;
  google.protobuf.Duration within = 7;
  google.protobuf.Int64Value limit = 8;
  google.protobuf.FieldMask mask = 9;
  google.protobuf.Struct more = 10;
  google.protobuf.Any any = 11;
  bytes data = 12;
  double price = 13;
  bool paid = 14;
  map<string, int32> counts = 15;
  repeated Kind kinds = 16;
  google.protobuf.BoolValue wanted = 17;
}
service Orders {
  rpc Create(Order) returns (Order) { option (google.api.http) = { post: "/v1/orders" body: "*" }; }
  rpc Get(Order) returns (Order) {
    option (google.api.http) = {
      get: "/v1/orders/{order_id}"
      additional_bindings { get: "/v1/{order_id=shops/*/orders/*}" }
      additional_bindings { get: "/v1/files/{order_id=**}:read" }
      additional_bindings { get: "/v1/cities/{place.city}" }
    };
  }
  rpc Move(Order) returns (Order) {
    option (google.api.http) = { put: "/v1/orders/{order_id}/place" body: "place" response_body: "place" };
  }
  rpc Find(Order) returns (Order) { option (google.api.http) = { get: "/v1/find" response_body: "tags" }; }
  rpc Cancel(Order) returns (Order) { option (google.api.http) = { post: "/v1/orders/{order_id}:cancel" }; }
  rpc Custom(Order) returns (Order) { option (google.api.http) = { custom { kind: "REPORT" path: "/v1/orders" } }; }
  rpc Watch(Order) returns (stream Order) { option (google.api.http) = { get: "/v1/watch" }; }
  rpc Upload(stream Order) returns (Order);
  rpc Plain(Order) returns (Order);
}
"#;

/// What the destination got: path, content type and message.
type Got = Arc<Mutex<Option<(String, Bytes)>>>;

/// A destination that answers with messages and a status.
struct Service {
    got: Got,
    answers: Option<Vec<Bytes>>,
    status: (u16, &'static str),
    pool: DescriptorPool,
}

/// Frames as the body of an answer.
struct Frames(Vec<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frames = &mut self.get_mut().0;
        std::task::Poll::Ready(if frames.is_empty() { None } else { Some(Ok(frames.remove(0))) })
    }
}

impl Destination for Service {
    fn serve<'a>(
        &'a self,
        facts: &'a mut Facts,
        body: Body,
    ) -> MaybeReady<'a, Result<Response<Body>, Fault>> {
        MaybeReady::waiting(async move {
            let head = &facts.head;
            assert_eq!(head.upstream_method, Some(Method::POST));
            assert_eq!(head.headers["content-type"], "application/grpc+proto");
            let path = head.upstream_target.as_ref().expect("a path").path().to_owned();
            let sent = testing::bytes(body).await.expect("a body");
            self.got.lock().unwrap().replace((path, sent.slice(5..)));
            let mut response = Response::new(Body::Empty);
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            response.headers_mut().insert("x-shard", HeaderValue::from_static("7"));
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from(self.status.0));
            trailers.insert("grpc-message", HeaderValue::from_static(self.status.1));
            trailers.insert("x-cost", HeaderValue::from_static("3"));
            let echo = || vec![framed(false, &sent[5..])];
            let answers = self.answers.clone().unwrap_or_else(echo);
            let mut frames: Vec<_> = answers.into_iter().map(Frame::data).collect();
            frames.push(Frame::trailers(trailers));
            *response.body_mut() = Body::wrap(Frames(frames));
            Ok(response)
        })
    }
}

/// A transcoder with the declarations above.
fn transcoder(folder: &Path, change: impl FnOnce(&mut Transcode)) -> (Transcoder, DescriptorPool) {
    let file = folder.join("orders.proto");
    std::fs::write(&file, PROTO).expect("a file");
    let mut settings = Transcode {
        descriptors: Vec::new(),
        protos: vec![file],
        includes: Vec::new(),
        services: Vec::new(),
        auto: false,
        streams: StreamForm::Ndjson,
        ignore_unknown_query: false,
        json: JsonForm::default(),
    };
    change(&mut settings);
    let loaded = Transcoder::load(&settings).unwrap_or_else(|error| panic!("{error:?}"));
    (loaded, schema::load(&settings).expect("it was loaded"))
}

/// A gateway with one route that transcodes.
struct Bench {
    _folder: tempfile::TempDir,
    transcoder: Transcoder,
    pool: DescriptorPool,
    answers: Option<Vec<Bytes>>,
    status: (u16, &'static str),
}

/// What came of a request: the status of the response, its body, and the call with its message as JSON.
struct Outcome {
    status: u16,
    headers: HeaderMap,
    body: String,
    call: Option<(String, Value)>,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Transcode)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (transcoder, pool) = transcoder(folder.path(), change);
        Bench { _folder: folder, transcoder, pool, answers: None, status: (0, "") }
    }

    fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Outcome, Fault> {
        let got = Got::default();
        let service = Service {
            got: got.clone(),
            answers: self.answers.clone(),
            status: self.status,
            pool: self.pool.clone(),
        };
        let pool = service.pool.clone();
        let destination = self.transcoder.wrap(Arc::new(service));
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut facts = testing::facts(testing::head(method.clone(), target, headers));
        let body = Body::from(Bytes::copy_from_slice(body.as_bytes()));
        let served = testing::run(async {
            let response = destination.serve(&mut facts, body).await?;
            let (parts, body) = response.into_parts();
            let body =
                testing::bytes(body).await.map_err(|error| *error.downcast::<Fault>().expect("a fault"))?;
            Ok((parts, body))
        });
        assert_eq!(
            (&facts.head.method, &facts.head.upstream_method),
            (&method, &None),
            "the head is as it was"
        );
        let (parts, body) = served?;
        let call = got.lock().unwrap().take().map(|(path, message)| {
            let kind = pool.get_message_by_name("example.Order").expect("a message");
            let message = DynamicMessage::decode(kind, message).expect("a message");
            (path, serde_json::to_value(&message).expect("JSON"))
        });
        let body = String::from_utf8(body.to_vec()).expect("text");
        Ok(Outcome { status: parts.status.as_u16(), headers: parts.headers, body, call })
    }

    /// The call of a request, which succeeds.
    fn call(&self, method: &str, target: &str, body: &str) -> (String, Value) {
        let outcome = self.ask(method, target, &[], body);
        outcome.unwrap_or_else(|fault| panic!("{target}: {fault}")).call.expect("a call")
    }

    /// The kind and the detail of the fault of a request.
    fn fault(&self, method: &str, target: &str, body: &str) -> (FaultKind, String) {
        let headers = if body.is_empty() { &[][..] } else { &[("content-type", "application/json")] };
        let Err(fault) = self.ask(method, target, headers, body) else { panic!("{target} is no fault") };
        (fault.kind, fault.detail.unwrap_or_default().into_owned())
    }
}

fn order(pool: &DescriptorPool, json: Value) -> Bytes {
    let kind = pool.get_message_by_name("example.Order").expect("a message");
    framed(false, &DynamicMessage::deserialize(kind, json).expect("a message").encode_to_vec())
}

#[test]
fn paths_and_queries_become_fields() {
    let bench = Bench::new(|_| {});
    for (method, target, name, expected) in [
        ("GET", "/v1/orders/7", "Get", json!({"orderId": "7"})),
        ("HEAD", "/v1/orders/a%2Fb", "Get", json!({"orderId": "a/b"})),
        ("GET", "/v1/shops/1/orders/2", "Get", json!({"orderId": "shops/1/orders/2"})),
        ("GET", "/v1/files/a/b%2Fc:read", "Get", json!({"orderId": "a/b%2Fc"})),
        ("GET", "/v1/cities/Bonn?place.code=5", "Get", json!({"place": {"city": "Bonn", "code": "5"}})),
        (
            "GET",
            "/v1/orders/7?tags=a&tags=b+c&kind=LARGE",
            "Get",
            json!({"orderId": "7", "tags": ["a", "b c"], "kind": "LARGE"}),
        ),
        (
            "GET",
            "/v1/orders/7?kind=1&kinds=1&kinds=LARGE",
            "Get",
            json!({"orderId": "7", "kind": "SMALL", "kinds": ["SMALL", "LARGE"]}),
        ),
        (
            "GET",
            "/v1/orders/7?amount=9007199254740993&price=1.5&paid=true",
            "Get",
            json!({"orderId": "7", "amount": "9007199254740993", "price": 1.5, "paid": true}),
        ),
        (
            "GET",
            "/v1/orders/7?at=2026-01-02T03:04:05Z&within=1.5s&limit=8&wanted=true&mask=place.city,orderId",
            "Get",
            json!({"orderId": "7", "at": "2026-01-02T03:04:05Z", "within": "1.500s", "limit": "8", "wanted": true, "mask": "place.city,orderId"}),
        ),
        ("GET", "/v1/orders/7?data=_w", "Get", json!({"orderId": "7", "data": "/w=="})),
        ("REPORT", "/v1/orders", "Custom", json!({})),
        ("POST", "/v1/orders/7:cancel", "Cancel", json!({"orderId": "7"})),
    ] {
        let expected = (format!("/example.Orders/{name}"), expected);
        assert_eq!(bench.call(method, target, ""), expected, "{method} {target}");
    }
}

#[test]
fn bodies_become_messages_or_fields() {
    let bench = Bench::new(|_| {});
    let whole = json!({
        "orderId": "7", "amount": "5", "kind": 2, "tags": ["a"], "place": {"city": "Bonn"}, "at": "2026-01-02T03:04:05.5Z",
        "limit": 3, "more": {"a": [1, null, {"b": "c"}]}, "counts": {"x": 1}, "data": "/w==",
        "any": {"@type": "type.googleapis.com/example.Area", "city": "Köln"},
    });
    let (_, message) = bench.call("POST", "/v1/orders", &whole.to_string());
    let read = json!({
        "orderId": "7", "amount": "5", "kind": "LARGE", "tags": ["a"], "place": {"city": "Bonn"}, "at": "2026-01-02T03:04:05.500Z",
        "limit": "3", "more": {"a": [1.0, null, {"b": "c"}]}, "counts": {"x": 1}, "data": "/w==",
        "any": {"@type": "type.googleapis.com/example.Area", "city": "Köln"},
    });
    assert_eq!(message, read);
    let (_, message) = bench.call("PUT", "/v1/orders/7/place?paid=true", r#"{"city": "Bonn", "code": 3}"#);
    assert_eq!(message, json!({"orderId": "7", "paid": true, "place": {"city": "Bonn", "code": "3"}}));
    let (_, message) = bench.call("POST", "/v1/orders", r#"{"order_id": "names of the source file too"}"#);
    assert_eq!(message["orderId"], "names of the source file too");
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    let bench = Bench::new(|_| {});
    let deep = format!("{}1{}", "{\"more\":".repeat(10_000), "}".repeat(10_000));
    for (method, target, body, told) in [
        ("POST", "/v1/orders", r#"{"place": {"code": "x"}}"#, "`place.code`"),
        ("POST", "/v1/orders", r#"{"tags": ["a", 5]}"#, "`tags[1]`"),
        ("POST", "/v1/orders", r#"{"unknown": 1}"#, "unknown"),
        ("POST", "/v1/orders", r#"{"place": {"street": 1}}"#, "street"),
        ("POST", "/v1/orders", "{", "EOF"),
        ("POST", "/v1/orders", "{} {}", "trailing"),
        ("POST", "/v1/orders", "[]", ""),
        ("POST", "/v1/orders", deep.as_str(), "recursion limit"),
        ("PUT", "/v1/orders/7/place", r#"{"city": "a"}, "orderId": {"#, "trailing"),
        ("PUT", "/v1/orders/7/place", r#"{"cities": 1}"#, "cities"),
        ("GET", "/v1/orders/7?amount=many", "", "`amount`: `many` is not a valid int64"),
        ("GET", "/v1/orders/7?no.such=1", "", "`no.such`"),
        ("GET", "/v1/orders/7?order_id=8", "", "`order_id` is set by the path"),
        ("GET", "/v1/orders/7?counts=1", "", "`counts`"),
        ("GET", "/v1/orders/7?place=x", "", "`place`"),
        ("GET", "/v1/orders/7?kind=HUGE", "", "`kind`"),
        ("GET", "/v1/orders/7?at=yesterday", "", "`at`"),
        ("POST", "/v1/orders?order_id=1", "{}", "`order_id` is set by the path or the body"),
        ("GET", "/v1/orders/7", "{}", "no field for a body"),
    ] {
        let (kind, detail) = bench.fault(method, target, body);
        assert_eq!(kind, FaultKind::BadRequest, "{target} {detail}");
        assert!(detail.contains(told), "{method} {target}: {detail}");
    }
    assert_eq!(bench.fault("GET", "/v1/nothing", "").0, FaultKind::NoRoute);
    assert_eq!(bench.fault("DELETE", "/v1/orders", "").0, FaultKind::MethodNotAllowed);
    assert_eq!(bench.fault("POST", "/example.Orders/Plain", "{}").0, FaultKind::NoRoute, "only with `auto`");
    let Err(fault) = bench.ask("POST", "/v1/orders", &[("content-type", "text/plain")], "{}") else {
        panic!("a fault")
    };
    assert_eq!(fault.kind, FaultKind::UnsupportedEncoding);
    let ignoring = Bench::new(|settings| settings.ignore_unknown_query = true);
    assert_eq!(ignoring.call("GET", "/v1/orders/7?utm=1", "").1, json!({"orderId": "7"}));
}

#[test]
fn answers_are_json_with_the_metadata_as_headers() {
    let mut bench = Bench::new(|_| {});
    let answer = json!({"orderId": "7", "amount": 9_007_199_254_740_993i64, "kind": "LARGE", "tags": ["a"], "place": {"city": "B"}});
    bench.answers = Some(vec![order(&bench.pool, answer)]);
    let outcome = bench.ask("GET", "/v1/orders/7", &[], "").unwrap();
    assert_eq!(outcome.status, 200);
    assert_eq!(
        serde_json::from_str::<Value>(&outcome.body).unwrap(),
        json!({"orderId": "7", "amount": "9007199254740993", "kind": "LARGE", "tags": ["a"], "place": {"city": "B"}})
    );
    let header = |name: &str| outcome.headers[name].to_str().unwrap().to_owned();
    assert_eq!(
        (header("content-type"), header("x-shard"), header("trailer-x-cost")),
        ("application/json".into(), "7".into(), "3".into())
    );
    assert_eq!(bench.ask("GET", "/v1/find", &[], "").unwrap().body, r#"["a"]"#);
    assert_eq!(bench.ask("PUT", "/v1/orders/7/place", &[], "{}").unwrap().body, r#"{"city":"B"}"#);
    bench.answers = Some(vec![order(&bench.pool, json!({}))]);
    assert_eq!(bench.ask("GET", "/v1/find", &[], "").unwrap().body, "[]", "the default of the field");
    let mut other = Bench::new(|settings| {
        settings.json = JsonForm { defaults: true, proto_names: true, enum_numbers: true }
    });
    other.answers = Some(vec![order(&bench.pool, json!({"orderId": "7", "kind": "LARGE"}))]);
    let body: Value = serde_json::from_str(&other.ask("GET", "/v1/orders/7", &[], "").unwrap().body).unwrap();
    assert_eq!((&body["order_id"], &body["kind"], &body["paid"]), (&json!("7"), &json!(2), &json!(false)));
}

#[test]
fn errors_have_the_status_of_http_and_the_form_of_google_rpc() {
    let mut bench = Bench::new(|_| {});
    for (code, status) in [
        (3, 400),
        (5, 404),
        (6, 409),
        (7, 403),
        (8, 429),
        (12, 501),
        (13, 500),
        (14, 503),
        (16, 401),
        (99, 500),
    ] {
        bench.answers = Some(Vec::new());
        bench.status = (code, "not%20so");
        let outcome = bench.ask("GET", "/v1/orders/7", &[], "").unwrap();
        assert_eq!(outcome.status, status, "{code}");
        let told = if code == 99 { 2 } else { code };
        assert_eq!(
            serde_json::from_str::<Value>(&outcome.body).unwrap(),
            json!({"code": told, "message": "not so", "details": []})
        );
    }
    // What an upstream must not send is a fault.
    bench.status = (0, "");
    let two = vec![order(&bench.pool, json!({})), order(&bench.pool, json!({}))];
    for wrong in [
        two,
        vec![framed(true, b"")],
        vec![framed(false, b"\xff\xff")],
        vec![Bytes::from_static(b"\0\xff\xff\xff\xff")],
    ] {
        bench.answers = Some(wrong);
        assert_eq!(bench.fault("GET", "/v1/orders/7", "").0, FaultKind::UpstreamProtocol);
    }
}

#[test]
fn streams_are_lines_events_or_an_array_with_the_error_in_them() {
    let mut bench = Bench::new(|_| {});
    let answers = [json!({"orderId": "1"}), json!({"orderId": "2"})];
    bench.answers = Some(answers.into_iter().map(|answer| order(&bench.pool, answer)).collect());
    let ask = |bench: &Bench, accept: &str| {
        let outcome = bench.ask("GET", "/v1/watch", &[("accept", accept)], "").unwrap();
        (outcome.headers["content-type"].to_str().unwrap().to_owned(), outcome.body)
    };
    let error = json!({"error": json!({"code": 14, "message": "gone", "details": []})}).to_string();
    for (status, lines, events, array) in [
        ((0, ""), String::new(), String::new(), String::new()),
        ((14, "gone"), format!("{error}\n"), format!("event: error\ndata: {error}\n\n"), format!(",{error}")),
    ] {
        bench.status = status;
        let ndjson = format!("{{\"orderId\":\"1\"}}\n{{\"orderId\":\"2\"}}\n{lines}");
        assert_eq!(ask(&bench, "*/*"), ("application/x-ndjson".to_owned(), ndjson));
        let sse = format!("data: {{\"orderId\":\"1\"}}\n\ndata: {{\"orderId\":\"2\"}}\n\n{events}");
        assert_eq!(ask(&bench, "text/event-stream"), ("text/event-stream".to_owned(), sse));
        let whole = format!("[{{\"orderId\":\"1\"}},{{\"orderId\":\"2\"}}{array}]");
        assert_eq!(ask(&bench, "application/json"), ("application/json".to_owned(), whole));
    }
    bench.status = (0, "");
    bench.answers = Some(Vec::new());
    assert_eq!(ask(&bench, "application/json").1, "[]");
}

#[test]
fn methods_can_be_called_by_name_and_connect_has_its_own_errors() {
    let mut bench = Bench::new(|settings| settings.auto = true);
    let call = bench.call("POST", "/example.Orders/Plain", r#"{"orderId": "7"}"#);
    assert_eq!(call, ("/example.Orders/Plain".to_owned(), json!({"orderId": "7"})));
    assert_eq!(bench.fault("GET", "/example.Orders/Plain", "").0, FaultKind::MethodNotAllowed);
    assert_eq!(
        bench.fault("POST", "/example.Orders/Upload", "{}").0,
        FaultKind::NoRoute,
        "a stream of requests"
    );
    bench.status = (5, "none");
    bench.answers = Some(Vec::new());
    let connect = [("content-type", "application/json"), ("connect-protocol-version", "1")];
    let outcome = bench.ask("POST", "/example.Orders/Plain", &connect, "{}").unwrap();
    assert_eq!((outcome.status, outcome.body.as_str()), (404, r#"{"code":"not_found","message":"none"}"#));
}

#[test]
fn settings_that_cannot_be_meant_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.proto");
    let load = |source: &str, change: &dyn Fn(&mut Transcode)| {
        std::fs::write(&file, source).expect("a file");
        let mut settings = Transcode {
            descriptors: Vec::new(),
            protos: vec![file.clone()],
            includes: Vec::new(),
            services: Vec::new(),
            auto: false,
            streams: StreamForm::Ndjson,
            ignore_unknown_query: false,
            json: JsonForm::default(),
        };
        change(&mut settings);
        Transcoder::load(&settings).err().map(|(key, told)| format!("{key}: {told}")).unwrap_or_default()
    };
    let rule = |rule: &str| {
        PROTO.replace(
            "option (google.api.http) = { get: \"/v1/find\" response_body: \"tags\" };",
            &format!("option (google.api.http) = {{ {rule} }};"),
        )
    };
    for (source, told) in [
        ("syntax = \"proto3\"; message A { B b = 1; }".to_owned(), "protos: "),
        ("import \"not/there.proto\";".to_owned(), "not/there.proto"),
        (rule("get: \"/v1/{nothing}\""), "`example.Order` has no field `nothing`"),
        (rule("get: \"/v1/{tags}\""), "several values"),
        (rule("get: \"v1\""), "does not begin with `/`"),
        (rule("get: \"/v1\" body: \"nothing\""), "has no field `nothing`"),
        (rule("body: \"*\""), "no pattern"),
    ] {
        let error = load(&source, &|_| {});
        assert!(error.contains(told), "{error}");
    }
    let error = load(PROTO, &|settings| settings.services = vec!["example.Other".to_owned()]);
    assert!(error.contains("there is no service `example.Other`; the files have example.Orders"), "{error}");
    let error = load("syntax = \"proto3\"; message A {} service S { rpc M(A) returns (A); }", &|_| {});
    assert!(error.contains("`auto = true`"), "{error}");
    let error = load(PROTO, &|settings| settings.descriptors = std::mem::take(&mut settings.protos));
    assert!(error.contains("FileDescriptorSet"), "{error}");
}

#[test]
fn a_descriptor_set_does_the_same_as_its_sources() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, pool) = transcoder(folder.path(), |_| {});
    let set = folder.path().join("orders.pb");
    std::fs::write(&set, pool.encode_to_vec()).expect("a file");
    let bench = Bench::new(|settings| (settings.protos, settings.descriptors) = (Vec::new(), vec![set]));
    assert_eq!(bench.call("GET", "/v1/orders/7", "").1, json!({"orderId": "7"}));
}
