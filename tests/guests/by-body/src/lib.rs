//! A plugin with the contracts of version 0.2.0, written directly on them. The setting `reads`, e.g.
//! `raw whole 100` or `decoded peek 5`, says what its three decisions read of the body. What it does depends on
//! the body and on the header `x-do`.

wit_bindgen::generate!({
    path: ["../../../wit/0.1.0", "../../../wit/0.2.0"],
    inline: "
        package witgate:test-guest;
        world by-body {
            include witgate:plugin/imports@0.1.0;
            export witgate:plugin/lifecycle@0.1.0;
            export witgate:plugin/gate@0.2.0;
            export witgate:plugin/authentication-by-body@0.2.0;
            export witgate:plugin/refusal-by-body@0.2.0;
            export witgate:plugin/routing-by-body@0.2.0;
        }
    ",
    world: "witgate:test-guest/by-body",
    generate_all,
});

use std::sync::OnceLock;

use exports::witgate::plugin0_1_0::lifecycle::{BodyAccess, Interest, SettingsProblem};
use exports::witgate::plugin0_2_0::authentication_by_body::{Acceptance, Decision};
use exports::witgate::plugin0_2_0::routing_by_body::Destination;
use exports::witgate::plugin0_2_0::{authentication_by_body, gate, refusal_by_body, routing_by_body};
use witgate::plugin0_1_0::types::{Identity, Input, Request, RequestHead, Response};
use witgate::plugin0_2_0::request_body::{Content, Extent, Form, Reading};

struct ByBody;
export!(ByBody);

static SETTINGS: OnceLock<String> = OnceLock::new();

fn settings() -> &'static str {
    SETTINGS.get().map_or("", String::as_str)
}

fn reading() -> Reading {
    let form = if settings().contains("decoded") { Form::Decoded } else { Form::Raw };
    let number = settings().chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(100);
    let extent = if settings().contains("peek") { Extent::Peek(number) } else { Extent::Whole(number) };
    Reading { form, extent }
}

/// The value of `x-do`, the only declared header.
fn told(head: &RequestHead) -> &str {
    head.headers.first().and_then(|header| std::str::from_utf8(&header.value).ok()).unwrap_or_default()
}

/// What came in, as text.
fn shown(content: &Content) -> String {
    let Content { bytes, complete } = content;
    format!("{} {complete} {}", bytes.len(), String::from_utf8_lossy(&bytes[..bytes.len().min(32)]))
}

fn response(status: u16, body: &str) -> Response {
    Response { status, headers: Vec::new(), body: body.into() }
}

impl exports::witgate::plugin0_1_0::lifecycle::Guest for ByBody {
    fn settings_schema() -> String {
        "true".into()
    }

    fn configure(settings: String) -> Result<Interest, Vec<SettingsProblem>> {
        let _ = SETTINGS.set(settings);
        Ok(Interest {
            request_headers: vec!["x-do".into()],
            response_headers: vec![],
            request_body: BodyAccess::None,
            response_body: BodyAccess::None,
            response: false,
            authenticates_by: None,
            pure: vec![],
        })
    }
}

impl gate::Guest for ByBody {
    fn admits_by() -> Option<Vec<Input>> {
        if settings().contains("identity") {
            return Some(vec![Input::Identity]);
        }
        Some(vec![Input::Header("x-do".into())])
    }

    fn admit(head: RequestHead, request: &Request) -> gate::Outcome {
        match told(&head) {
            "close" => gate::Outcome::Respond(response(503, "closed")),
            "look" => gate::Outcome::Respond(response(403, &request.client_address())),
            "trap" => panic!("told to"),
            _ => gate::Outcome::Proceed,
        }
    }
}

impl authentication_by_body::Guest for ByBody {
    fn reads() -> Reading {
        reading()
    }

    fn authenticate(content: Content, head: RequestHead, _request: &Request) -> Decision {
        match told(&head) {
            "accept" => Decision::Accepted(Acceptance {
                identity: Identity { subject: shown(&content), claims: Vec::new() },
                response_headers: Vec::new(),
            }),
            "deny" => Decision::Refused(response(403, "denied")),
            _ => Decision::NotMine(vec!["Body".into()]),
        }
    }
}

impl refusal_by_body::Guest for ByBody {
    fn reads() -> Reading {
        reading()
    }

    fn check(content: Content, head: RequestHead, _request: &Request) -> refusal_by_body::Outcome {
        match told(&head) {
            "show" => refusal_by_body::Outcome::Refuse(response(422, &shown(&content))),
            _ if content.bytes.starts_with(b"bad") => {
                refusal_by_body::Outcome::Refuse(response(422, &shown(&content)))
            }
            _ => refusal_by_body::Outcome::Proceed,
        }
    }
}

impl routing_by_body::Guest for ByBody {
    fn reads() -> Reading {
        reading()
    }

    fn route(content: Content, _head: RequestHead, _request: &Request) -> Option<Destination> {
        content.bytes.starts_with(b"beta").then(|| Destination {
            upstream: None,
            path: Some("/beta".into()),
            hash_key: Some(b"key".to_vec()),
            timeout: Some(1500),
            response_headers: Vec::new(),
        })
    }
}
