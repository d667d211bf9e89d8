//! A plugin with every contract, written directly on the contracts, that does what the header `x-do` of a request
//! says.
//!
//! The tests of the runtime use it to observe the runtime from inside.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hint::black_box;

wit_bindgen::generate!({ path: "../../../wit/0.1.0", world: "plugin", generate_all });

use exports::witgate::plugin::authentication::{Acceptance, Decision};
use exports::witgate::plugin::lifecycle::{BodyAccess, Function, Interest, PureFunction, SettingsProblem};
use exports::witgate::plugin::rate_limiting::Bucket;
use exports::witgate::plugin::routing::Destination;
use exports::witgate::plugin::transformation::{
    BodyResult, RequestChanges, RequestOutcome, ResponseChanges, ResponseHead, ResponseOutcome,
};
use witgate::plugin::types::{
    ComposedHeader, Header, HeaderChange, Identity, Input, Request, RequestHead, Response, ResponseView, ValuePart,
};
use witgate::plugin::{crypto, log, metrics, store};

struct Probe;
export!(Probe);

thread_local! {
    /// Number of calls of this instance.
    static CALLS: Cell<u32> = const { Cell::new(0) };
    /// Whether acceptances name their inputs.
    static NAMES_INPUTS: Cell<bool> = const { Cell::new(true) };
    /// Data that an earlier call kept.
    static KEPT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Position of `x-do` in the declared headers.
const DO: u16 = 0;

/// Position of `x-with`.
const WITH: u16 = 1;

fn header(headers: &[witgate::plugin::types::DeclaredHeader], index: u16) -> String {
    let found = headers.iter().find(|header| header.index == index);
    found.map(|header| String::from_utf8_lossy(&header.value).into_owned()).unwrap_or_default()
}

/// Does what the header says; the result is a line of text.
fn act(deed: &str, with: &str, request: &Request) -> String {
    CALLS.set(CALLS.get() + 1);
    match deed {
        "" => String::new(),
        "panic" => panic!("told to"),
        "exit" => std::process::exit(3),
        "sleep" => {
            std::thread::sleep(std::time::Duration::from_secs(1));
            "awake".into()
        }
        "loop" => loop {
            std::hint::spin_loop();
        },
        "recurse" => recurse(0).to_string(),
        "memory" => {
            let mut taken = Vec::new();
            loop {
                taken.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "storm" => {
            for number in 0..100_000 {
                log::write(log::Level::Info, &format!("line {number}"));
            }
            "written".into()
        }
        "host-calls" => {
            for _ in 0..10_000_000 {
                black_box(request.scheme());
            }
            "called".into()
        }
        "huge" => "x".repeat(with.parse().unwrap_or(8 << 20)),
        "std" => standard_library(),
        "print" => {
            println!("printed {with}");
            eprint!("half a line");
            "printed".into()
        }
        "log" => {
            log::write(log::Level::Warn, with);
            log::enabled(log::Level::Debug).to_string()
        }
        "metrics" => {
            metrics::count("seen", 2);
            metrics::gauge("level", 1.5);
            metrics::observe("size", 3.0);
            "counted".into()
        }
        "calls" => CALLS.get().to_string(),
        "keep" => {
            KEPT.with_borrow_mut(|kept| *kept = with.as_bytes().to_vec());
            "kept".into()
        }
        "kept" => KEPT.with_borrow(|kept| String::from_utf8_lossy(kept).into_owned()),
        "look" => look(request),
        "head" => format!("{} {} {:?} {}", request.method(), request.path(), request.query(), request.authority()),
        "header" => first(request, with),
        "parameter" => format!("{:?}", request.path_parameter(with)),
        "scheme" => request.scheme(),
        "id" => request.request_id(),
        "digest" => hex(&crypto::digest(crypto::Hash::Sha256, with.as_bytes())),
        "time" => format!("{:?}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)),
        "chance" => format!("{:?}", std::collections::hash_map::RandomState::new()),
        "store" => stored(with),
        "crypto" => crypto_of(with),
        other => format!("no such deed: {other}"),
    }
}

fn recurse(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    if depth == u64::MAX { 0 } else { recurse(depth + 1) + room[0] }
}

fn standard_library() -> String {
    let mut map = HashMap::new();
    map.insert("key", 1);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let elapsed = std::time::Instant::now().elapsed();
    let environment = std::env::vars().count() + std::env::args().count();
    format!("{} {} {} {}", map["key"], since.as_secs() > 1_600_000_000, elapsed.as_secs() == 0, environment)
}

/// Everything that can be read from the borrowed request.
fn look(request: &Request) -> String {
    let all = request.headers().len();
    let twice = request.header("X-Twice").len();
    let identity = request.identity().map(|known| known.subject).unwrap_or_default();
    format!(
        "{} {} {:?} {} {} {} {all} {twice} {identity} {} {:?} {} {} {}",
        request.method(),
        request.path(),
        request.query(),
        request.authority(),
        request.scheme(),
        request.client_address(),
        request.route(),
        request.path_parameter("id"),
        request.original_path(),
        request.request_id(),
        request.trace_parent(),
    )
}

fn stored(with: &str) -> String {
    let mut words = with.split(' ');
    let (operation, space, key) =
        (words.next().unwrap_or(""), words.next().unwrap_or(""), words.next().unwrap_or(""));
    let value = words.next().unwrap_or("").as_bytes().to_vec();
    match operation {
        "get" => format!("{:?}", store::get(space, key).map(|value| value.map(|v| String::from_utf8_lossy(&v).into_owned()))),
        "set" => format!("{:?}", store::set(space, key, &value, None)),
        "big" => format!("{:?}", store::set(space, key, &vec![7; (1 << 20) + 1], None)),
        "increment" => format!("{:?}", store::increment(space, key, 1, None)),
        "remove" => format!("{:?}", store::remove(space, key)),
        "swap" => format!("{:?}", store::compare_and_swap(space, key, None, Some(&value), None)),
        _ => "no such operation".into(),
    }
}

/// Runs `hmac-verify HASH KEY DATA TAG`, `verify ALGORITHM KIND KEY MESSAGE SIGNATURE` or `digest HASH DATA`; all
/// but the names are in hexadecimal.
fn crypto_of(with: &str) -> String {
    let words: Vec<&str> = with.split(' ').collect();
    let bytes = |index: usize| unhex(words.get(index).copied().unwrap_or(""));
    let hash = || match words.get(1).copied() {
        Some("sha384") => crypto::Hash::Sha384,
        Some("sha512") => crypto::Hash::Sha512,
        _ => crypto::Hash::Sha256,
    };
    match words[0] {
        "digest" => hex(&crypto::digest(hash(), &bytes(2))),
        "hmac" => hex(&crypto::hmac(hash(), &bytes(2), &bytes(3))),
        "hmac-verify" => crypto::hmac_verify(hash(), &bytes(2), &bytes(3), &bytes(4)).to_string(),
        "equal" => crypto::equal(&bytes(1), &bytes(2)).to_string(),
        "verify" => {
            let key = match words[2] {
                "ed25519" => crypto::PublicKey::Ed25519(bytes(3)),
                "ec" => crypto::PublicKey::Ec(bytes(3)),
                "spki" => crypto::PublicKey::Spki(bytes(3)),
                _ => crypto::PublicKey::Rsa(crypto::RsaKey { n: bytes(3), e: vec![1, 0, 1] }),
            };
            format!("{:?}", crypto::verify(algorithm(words[1]), &key, &bytes(4), &bytes(5)))
        }
        _ => "no such operation".into(),
    }
}

fn algorithm(name: &str) -> crypto::SignatureAlgorithm {
    use crypto::SignatureAlgorithm as A;
    match name {
        "rs256" => A::Rs256,
        "rs384" => A::Rs384,
        "rs512" => A::Rs512,
        "ps256" => A::Ps256,
        "ps384" => A::Ps384,
        "ps512" => A::Ps512,
        "es256" => A::Es256,
        "es384" => A::Es384,
        _ => A::Eddsa,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap_or(0)).collect()
}

fn run(head: &RequestHead, request: &Request) -> String {
    act(&header(&head.headers, DO), &header(&head.headers, WITH), request)
}

/// The parts of the head that were passed with a call, without the headers.
fn shown(head: &RequestHead) -> String {
    format!("{:?} {:?} {:?} {:?} {}", head.method, head.path, head.query, head.authority, head.headers.len())
}

fn every_part() -> Vec<ValuePart> {
    vec![
        ValuePart::Text("text".into()),
        ValuePart::Method,
        ValuePart::Path,
        ValuePart::Query,
        ValuePart::Authority,
        ValuePart::Scheme,
        ValuePart::OriginalPath,
        ValuePart::ClientAddress,
        ValuePart::Route,
        ValuePart::PathParameter("id".into()),
        ValuePart::RequestHeader("x-do".into()),
        ValuePart::RequestId,
        ValuePart::TraceParent,
        ValuePart::Subject,
        ValuePart::Claim("role".into()),
        ValuePart::Status,
        ValuePart::ResponseHeader("server".into()),
    ]
}

fn first(request: &Request, name: &str) -> String {
    request.header(name).first().map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

fn later(request: &Request) -> String {
    act(&first(request, "x-do"), &first(request, "x-with"), request)
}

impl exports::witgate::plugin::lifecycle::Guest for Probe {
    fn settings_schema() -> String {
        r#"{"type": "object", "properties": {"deed": {"type": "string"}}, "additionalProperties": false}"#.into()
    }

    fn configure(settings: String) -> Result<Interest, Vec<SettingsProblem>> {
        let told = |deed: &str| settings.contains(&format!("\"{deed}\""));
        if told("panic") {
            panic!("told to");
        }
        if told("loop") {
            loop {
                std::hint::spin_loop();
            }
        }
        if told("refuse") {
            return Err(vec![SettingsProblem { pointer: "/deed".into(), message: "not this deed".into() }]);
        }
        let header = |name: &str| Input::Header(name.into());
        // The header decides whether the promise is true.
        let promise = |function| PureFunction { function, inputs: vec![header("x-do"), header("x-with")] };
        let pure = if told("pure") {
            [Function::Draw, Function::Route, Function::OnRequest, Function::OnResponse].map(promise).into()
        } else if told("pure twice") {
            vec![promise(Function::Draw), promise(Function::Draw)]
        } else if told("pure by no header") {
            vec![PureFunction { function: Function::Draw, inputs: vec![header("no header")] }]
        } else if told("pure by too much") {
            vec![PureFunction { function: Function::Draw, inputs: vec![Input::Path; 33] }]
        } else {
            Vec::new()
        };
        NAMES_INPUTS.set(!told("names no inputs") && !told("names and declares no inputs"));
        let authenticates_by = match () {
            () if told("authenticates by header") || told("names no inputs") => {
                Some(vec![header("x-do"), Input::Query])
            }
            () if told("authenticates by no header") => Some(vec![header("no header")]),
            () => None,
        };
        let names = if told("upper-case") { vec!["X-Do".to_string()] } else { vec!["x-do".into(), "x-with".into()] };
        Ok(Interest {
            request_headers: names,
            response_headers: vec!["x-origin".into()],
            request_body: BodyAccess::Buffered,
            response_body: BodyAccess::Streamed,
            response: true,
            authenticates_by,
            pure,
        })
    }
}

impl exports::witgate::plugin::authentication::Guest for Probe {
    fn authenticate(head: RequestHead, request: &Request) -> Decision {
        match run(&head, request).as_str() {
            "" => Decision::NotMine(vec!["Probe".into()]),
            "refuse" | "no such deed: refuse" => Decision::Refused(Response {
                status: 401,
                headers: vec![Header { name: "set-cookie".into(), value: b"a=1".into() }],
                body: b"no".into(),
            }),
            answer => Decision::Accepted(Acceptance {
                identity: Identity { subject: answer.into(), claims: vec![("shown".into(), shown(&head))] },
                response_headers: vec![],
                cacheable_for: 1500,
                inputs: if NAMES_INPUTS.get() { vec![Input::Header("x-do".into()), Input::Path] } else { vec![] },
            }),
        }
    }
}

impl exports::witgate::plugin::rate_limiting::Guest for Probe {
    fn draw(head: RequestHead, request: &Request) -> Vec<Bucket> {
        let key = run(&head, request);
        vec![Bucket { policy: "probe".into(), key, cost: 1, limit: 10, window: 60_000, burst: Some(5) }]
    }
}

impl exports::witgate::plugin::routing::Guest for Probe {
    fn route(head: RequestHead, request: &Request) -> Option<Destination> {
        let upstream = run(&head, request);
        (!upstream.is_empty()).then(|| Destination {
            upstream: Some(upstream),
            path: Some("/there?a=1".into()),
            hash_key: Some(b"hash".into()),
            timeout: Some(250),
            response_headers: vec![],
        })
    }
}

impl exports::witgate::plugin::transformation::Guest for Probe {
    fn on_request(head: RequestHead, request: &Request) -> RequestOutcome {
        let answer = run(&head, request);
        if answer == "no such deed: respond" {
            return RequestOutcome::Respond(Response { status: 418, headers: vec![], body: b"short".into() });
        }
        RequestOutcome::Proceed(RequestChanges {
            headers: vec![
                HeaderChange::Set(Header { name: "x-answer".into(), value: answer.into_bytes() }),
                HeaderChange::Append(Header {
                    name: "x-more".into(),
                    value: head.authority.unwrap_or_default().into_bytes(),
                }),
                HeaderChange::Remove("x-do".into()),
                HeaderChange::SetComposed(ComposedHeader { name: "x-all".into(), value: every_part() }),
                HeaderChange::AppendComposed(ComposedHeader { name: "x-none".into(), value: vec![] }),
            ],
            path: head.query,
            // A function that is pure by other inputs does not get the method.
            method: head.method,
            context: b"context".into(),
        })
    }

    fn on_request_body(content: Vec<u8>, end: bool, context: Vec<u8>, request: &Request) -> BodyResult {
        body(content, end, &context, &later(request))
    }

    fn on_response(head: ResponseHead, context: Vec<u8>, request: &Request, response: &ResponseView) -> ResponseOutcome {
        let answer = format!(
            "{} {} {} {} {} {}",
            later(request),
            head.status,
            head.headers.len(),
            response.headers().len(),
            response.status(),
            response.is_local()
        );
        ResponseOutcome::Proceed(ResponseChanges {
            headers: vec![HeaderChange::Set(Header { name: "x-answer".into(), value: answer.into_bytes() })],
            status: Some(299),
            context: Some(context.into_iter().rev().collect()),
        })
    }

    fn on_response_body(content: Vec<u8>, end: bool, context: Vec<u8>, request: &Request, _response: &ResponseView) -> BodyResult {
        body(content, end, &context, &later(request))
    }
}

/// The content in upper case, with the result of the call appended at the end; the context grows by one byte.
fn body(content: Vec<u8>, end: bool, context: &[u8], answer: &str) -> BodyResult {
    let mut output = content.to_ascii_uppercase();
    if end {
        output.extend_from_slice(answer.as_bytes());
    }
    let mut context = context.to_vec();
    context.push(b'+');
    BodyResult { output: Some(output), context: Some(context) }
}
