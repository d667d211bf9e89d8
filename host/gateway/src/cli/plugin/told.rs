//! Results of plugins, as JSON for people.

use serde_json::{Value, json};
use witgate_exchange::contracts::{
    BodyResult, Bucket, Decision, Destination, Header, HeaderChange, Input, LocalResponse, RequestOutcome,
    ResponseOutcome, ValuePart,
};

/// The result of `authentication`.
pub(super) fn decision(decision: &Decision) -> Value {
    match decision {
        Decision::Accepted(acceptance) => json!({ "accepted": {
            "subject": acceptance.subject,
            "claims": pairs(&acceptance.claims),
            "response_headers": headers(&acceptance.response_headers),
            "cacheable_for_ms": milliseconds(acceptance.cacheable_for),
            "inputs": acceptance.inputs.iter().map(input).collect::<Vec<_>>(),
        }}),
        Decision::Refused(response) => json!({ "refused": local(response) }),
        Decision::NotMine(challenges) => json!({ "not_mine": { "challenges": challenges } }),
    }
}

/// The result of `rate-limiting`.
pub(super) fn buckets(buckets: &[Bucket]) -> Value {
    let bucket = |bucket: &Bucket| {
        json!({
            "policy": bucket.policy, "key": bucket.key, "cost": bucket.cost, "limit": bucket.limit,
            "window_ms": milliseconds(bucket.window), "burst": bucket.burst,
        })
    };
    json!({ "draws": buckets.iter().map(bucket).collect::<Vec<_>>() })
}

/// The result of `routing`.
pub(super) fn destination(destination: Option<&Destination>) -> Value {
    let Some(destination) = destination else { return json!("as the route says") };
    json!({ "destination": {
        "upstream": destination.upstream,
        "path": destination.path,
        "hash_key": destination.hash_key.as_deref().map(text),
        "timeout_ms": destination.timeout.map(milliseconds),
        "response_headers": headers(&destination.response_headers),
    }})
}

/// The result of a contract that lets a request go on (`None`) or answers it.
pub(super) fn answer(answer: Option<&LocalResponse>) -> Value {
    match answer {
        Some(response) => json!({ "respond": local(response) }),
        None => json!("go on"),
    }
}

/// The result of `transformation.on-request`.
pub(super) fn request_outcome(outcome: &RequestOutcome) -> Value {
    match outcome {
        RequestOutcome::Proceed(changes) => json!({ "proceed": {
            "headers": changes.headers.iter().map(change).collect::<Vec<_>>(),
            "path": changes.path,
            "method": changes.method,
            "context_bytes": changes.context.len(),
        }}),
        RequestOutcome::Respond(response) => json!({ "respond": local(response) }),
    }
}

/// The result of `transformation.on-response`.
pub(super) fn response_outcome(outcome: &ResponseOutcome) -> Value {
    match outcome {
        ResponseOutcome::Proceed(changes) => json!({ "proceed": {
            "headers": changes.headers.iter().map(change).collect::<Vec<_>>(),
            "status": changes.status,
            "context_bytes": changes.context.as_ref().map(bytes::Bytes::len),
        }}),
        ResponseOutcome::Respond(response) => json!({ "respond": local(response) }),
    }
}

/// What is done with a body.
pub(super) fn body(result: &BodyResult) -> Value {
    match &result.output {
        Some(output) => json!({ "replace": text(output) }),
        None => json!("unchanged"),
    }
}

fn local(response: &LocalResponse) -> Value {
    json!({ "status": response.status, "headers": headers(&response.headers), "body": text(&response.body) })
}

fn headers(headers: &[Header]) -> Vec<String> {
    headers.iter().map(|header| format!("{}: {}", header.name, text(&header.value))).collect()
}

fn change(change: &HeaderChange) -> String {
    match change {
        HeaderChange::Set(header) => format!("set {}: {}", header.name, text(&header.value)),
        HeaderChange::Append(header) => format!("append {}: {}", header.name, text(&header.value)),
        HeaderChange::Remove(name) => format!("remove {name}"),
        HeaderChange::SetComposed(header) => format!("set {}: {}", header.name, composed(&header.value)),
        HeaderChange::AppendComposed(header) => {
            format!("append {}: {}", header.name, composed(&header.value))
        }
    }
}

/// The parts of a value, as a template of the filter or plugin `headers` writes them.
fn composed(parts: &[ValuePart]) -> String {
    parts.iter().map(ValuePart::to_template).collect()
}

fn input(input: &Input) -> String {
    match input {
        Input::Header(name) => format!("header {name}"),
        Input::Method => "method".to_owned(),
        Input::Path => "path".to_owned(),
        Input::Query => "query".to_owned(),
        Input::Authority => "authority".to_owned(),
        Input::Scheme => "scheme".to_owned(),
        Input::OriginalPath => "original path".to_owned(),
        Input::ClientAddress => "client address".to_owned(),
        Input::ClientCertificate => "client certificate".to_owned(),
        Input::Identity => "identity".to_owned(),
        Input::Route => "route".to_owned(),
        Input::PathParameter(name) => format!("path parameter {name}"),
    }
}

fn pairs(pairs: &[(String, String)]) -> Value {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
