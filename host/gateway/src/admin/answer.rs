//! The responses of the admin listener.

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, VARY, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::oneshot;
use witgate_cache::Selector;
use witgate_config::model::LogLevel;
use witgate_telemetry::exposition::Exposition;

use super::Context;
use super::adjust::{self, Adjustment};
use super::cache;
use super::guard::{self, Entrance, Refusal};
use crate::control::handle;
use crate::control::status::Change;

type Answer = Response<Full<Bytes>>;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The longest target that is logged, in characters.
const LONGEST_TARGET: usize = 500;

/// The reason of a change, in log and status, if an admin request asked for it.
const ASKED: &str = "admin request";

/// Responds to one request of `who`. The body of a request is not read.
pub(super) async fn answer<B>(
    context: &Context,
    (entrance, who): (Entrance, &str),
    request: &Request<B>,
) -> Answer {
    let admin = context.admin.load_full();
    if let Err(refusal) = guard::check_host(&admin, entrance, request.headers()) {
        return refused(refusal);
    }
    let (method, path) = (request.method(), request.uri().path());
    match path {
        "/healthz" | "/readyz" | "/metrics" | "/status" | "/upstreams" | "/cache" | "/brokers" => {
            if method != Method::GET && method != Method::HEAD {
                return only("GET, HEAD");
            }
            match guard::check_read(&admin, entrance, path, request.headers()) {
                Ok(()) if path == "/cache" => shown(context, request.uri().query()).await,
                Ok(()) => read(context, path, request.headers()),
                Err(refusal) => refused(refusal),
            }
        }
        _ => match change(path, request.uri().query()) {
            None => plain(StatusCode::NOT_FOUND, "not found\n"),
            Some(wanted) => {
                let answer = match guard::check_change(&admin, entrance, method, request.headers()) {
                    Ok(()) => carry_out(context, wanted).await,
                    Err(refusal) => refused(refusal),
                };
                note_write(context, who, request, &answer);
                answer
            }
        },
    }
}

fn read(context: &Context, path: &str, headers: &HeaderMap) -> Answer {
    match path {
        "/healthz" => plain(StatusCode::OK, "alive\n"),
        "/readyz" if context.handle.is_ready() => plain(StatusCode::OK, "ready\n"),
        "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/metrics" => {
            let accept = headers.get_all(ACCEPT).iter().map(|value| value.to_str().unwrap_or_default());
            let exposition = Exposition::preferred(accept);
            let text = exposition.of(context.handle.telemetry().metrics().expose());
            let mut answer = with_type(StatusCode::OK, exposition.content_type(), text);
            answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
            answer
        }
        "/brokers" => json(StatusCode::OK, &context.handle.messages()),
        "/upstreams" => json(StatusCode::OK, &context.handle.upstreams()),
        _ => json(StatusCode::OK, &context.handle.status()),
    }
}

/// A change that a path asks for.
enum Wanted {
    Reload { force: bool },
    Rollback { binding: String },
    Drain,
    Adjust(Adjustment),
    Purge(Result<(Selector, bool), String>),
}

fn change(path: &str, query: Option<&str>) -> Option<Wanted> {
    match path {
        "/reload" => Some(Wanted::Reload { force: query == Some("force=true") }),
        "/drain" => Some(Wanted::Drain),
        "/cache/purge" => Some(Wanted::Purge(cache::read(query).and_then(|asked| {
            let nothing = "say what is purged: url=URL, prefix=URL, tag=TAG or all=true";
            Ok((asked.selector.ok_or(nothing)?, asked.soft))
        }))),
        _ => {
            if let Some(adjustment) = adjust::read(path, query) {
                return Some(Wanted::Adjust(adjustment));
            }
            let binding = path.strip_prefix("/plugins/")?.strip_suffix("/rollback")?;
            Some(Wanted::Rollback { binding: binding.to_owned() })
        }
    }
}

async fn carry_out(context: &Context, wanted: Wanted) -> Answer {
    let (reply, answer) = oneshot::channel();
    let taken = match wanted {
        Wanted::Reload { force } => context.handle.reload(ASKED.to_owned(), force, Some(reply)),
        Wanted::Rollback { binding } => context.handle.ask(handle::Request::Rollback { binding, reply }),
        Wanted::Drain => {
            context.handle.drain(ASKED);
            return plain(StatusCode::ACCEPTED, "draining\n");
        }
        Wanted::Adjust(adjustment) => return adjusted(context, adjustment).await,
        Wanted::Purge(asked) => return purged(context, asked).await,
    };
    if let Err(reason) = taken {
        return plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n"));
    }
    match answer.await {
        Ok(change) => told(&change),
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the gateway is shutting down\n"),
    }
}

/// 200 with the number of responses, 404 if there is no cache.
async fn purged(context: &Context, asked: Result<(Selector, bool), String>) -> Answer {
    let (selector, soft) = match asked {
        Ok(asked) => asked,
        Err(why) => return plain(StatusCode::BAD_REQUEST, &format!("{why}\n")),
    };
    match cache::purge(context.handle.cache(), selector, soft).await {
        Ok(purged) => json(StatusCode::OK, &purged),
        Err(why) => plain(StatusCode::NOT_FOUND, &format!("{why}\n")),
    }
}

/// 200 with the state of the cache, 404 if there is none.
async fn shown(context: &Context, query: Option<&str>) -> Answer {
    let asked = match cache::read(query) {
        Ok(asked) => asked,
        Err(why) => return plain(StatusCode::BAD_REQUEST, &format!("{why}\n")),
    };
    match cache::show(context.handle.cache(), asked.selector).await {
        Ok(status) => json(StatusCode::OK, &status),
        Err(why) => plain(StatusCode::NOT_FOUND, &format!("{why}\n")),
    }
}

/// Logs a request that changes something, whether it was carried out or refused: who asked for what, and the result.
fn note_write<B>(context: &Context, who: &str, request: &Request<B>, answer: &Answer) {
    let what = request.uri().path_and_query().map_or("/", |target| target.as_str());
    // A target of any length may come from a stranger.
    let what: String = what.chars().take(LONGEST_TARGET).collect();
    let (method, status) = (request.method(), answer.status().as_u16());
    let fields: [(&'static str, &dyn std::fmt::Display); 4] =
        [("who", &who), ("method", method), ("target", &what), ("status", &status)];
    context.handle.telemetry().log(LogLevel::Info, "admin write", &fields);
}

/// 200 with the state of the endpoint after the change, 404 if there is no such endpoint.
async fn adjusted(context: &Context, adjustment: Adjustment) -> Answer {
    let Adjustment { upstream, address, change } = adjustment;
    let change = match change {
        Ok(change) => change,
        Err(why) => return plain(StatusCode::BAD_REQUEST, &format!("{why}\n")),
    };
    let (reply, answer) = oneshot::channel();
    let request = handle::Request::Adjust { upstream, address, change, reply };
    if let Err(reason) = context.handle.ask(request) {
        return plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n"));
    }
    match answer.await {
        Ok(Ok(endpoint)) => json(StatusCode::OK, &endpoint),
        Ok(Err(why)) => plain(StatusCode::NOT_FOUND, &format!("{why}\n")),
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the gateway is shutting down\n"),
    }
}

/// 200 if the change is in service, 422 if it was refused and nothing has changed.
fn told(change: &Change) -> Answer {
    json(if change.applied { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }, change)
}

fn refused((status, reason): Refusal) -> Answer {
    let mut answer = plain(status, &format!("{reason}\n"));
    match status {
        StatusCode::UNAUTHORIZED => {
            drop(answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            drop(answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST")))
        }
        _ => {}
    }
    answer
}

fn only(methods: &'static str) -> Answer {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed here\n");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Answer {
    match serde_json::to_vec_pretty(value) {
        Ok(text) => with_type(status, JSON, text),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}

fn plain(status: StatusCode, text: &str) -> Answer {
    with_type(status, TEXT, text.to_owned())
}

fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
