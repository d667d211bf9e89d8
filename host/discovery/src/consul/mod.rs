//! Endpoints in Consul: the instances of a service that pass their checks.
//!
//! One agent is used at a time, with one kind of request: `/v1/health/service/NAME`, answered at once or, with the index
//! of the last answer, when something has changed (a "blocking query"). An index that goes backwards begins anew. A
//! server that answers at once although nothing has changed is asked more slowly. [`answer`] reads the answers.

mod answer;

use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, sleep_until};
use witgate_config::{Problems, model};
use witgate_exchange::contracts::discovery::{EndpointSink, Run, Source, SourceKind, SourceThread};

use crate::registry::http::{Credential, Http, LARGEST, refusal, token, whole};
use crate::registry::{ANSWER, Ended, check, one_after_the_other};
use crate::text::one_line;

/// The row of the table.
pub const KIND: SourceKind = SourceKind {
    kind: "consul",
    summary: "the instances of a service in Consul that pass their checks",
    thread: SourceThread::Own,
    build,
};

/// How long the server may keep a request for which nothing changes. It adds up to a sixteenth.
const WAIT: Duration = Duration::from_secs(120);
/// The shortest time between two requests.
const PACE: Duration = Duration::from_millis(250);
/// The same, if the server does not wait for changes.
const SLOW_PACE: Duration = Duration::from_secs(5);
/// An answer to a request that may wait, without a change, that arrives sooner than this did not wait.
const WAITED: Duration = Duration::from_secs(10);

fn build(source: &model::DiscoverySource) -> Result<Box<dyn Source>, Problems> {
    let model::DiscoverySource::Consul(settings) = source else { return Err(Problems::new()) };
    check(settings.servers.tls.as_ref())?;
    Ok(Box::new(ConsulSource { settings: settings.clone(), next: 0 }))
}

struct ConsulSource {
    settings: model::ConsulSource,
    /// The agent that is used next.
    next: usize,
}

impl Source for ConsulSource {
    fn run<'a>(&'a mut self, sink: &'a dyn EndpointSink) -> Run<'a> {
        Box::pin(async move {
            let ConsulSource { settings, next } = self;
            let session = async |host: &str, port: u16| {
                let mut follower = Follower { settings, sink, index: 0, useful: false, accepted: false };
                let Err(why) = follower.follow(host, port).await;
                Ended { why, useful: follower.useful }
            };
            Err(one_after_the_other(&settings.servers.servers, next, session).await)
        })
    }
}

/// Follows one agent.
struct Follower<'a> {
    settings: &'a model::ConsulSource,
    sink: &'a dyn EndpointSink,
    /// The index of the last answer; 0: the next request is answered at once.
    index: u64,
    /// Whether the agent has given a set.
    useful: bool,
    /// Whether the sink has accepted the last set.
    accepted: bool,
}

impl Follower<'_> {
    async fn follow(&mut self, host: &str, port: u16) -> Result<Infallible, String> {
        let mut http = Http::open(&self.settings.servers, host, port).await?;
        // A server that has not heard from the leader for too long is not asked for what it knows again.
        let mut may_be_stale = true;
        loop {
            let begun = Instant::now();
            if !http.is_open() {
                http = Http::open(&self.settings.servers, host, port).await?;
            }
            let asked = self.index;
            let path = self.path(may_be_stale);
            let token = token(self.settings.token_file.as_deref())?;
            let credential =
                token.as_deref().map_or(Credential::None, |token| Credential::Token("x-consul-token", token));
            let patience = if asked == 0 { ANSWER } else { WAIT + WAIT / 16 + ANSWER };
            let response = http.get(&path, credential, patience).await?;
            if response.status() != StatusCode::OK {
                return Err(words(refusal(response).await, token.is_some()));
            }
            let told = AnswerHeaders::of(response.headers())?;
            let body = whole(response, LARGEST).await?;
            if told.is_filtered {
                return Err(words((StatusCode::FORBIDDEN, String::new()), token.is_some()));
            }
            let too_old = |most: Duration| may_be_stale && told.last_contact > most;
            if self.settings.stale.is_some_and(too_old) {
                may_be_stale = false;
                continue;
            }
            may_be_stale = true;
            let same = asked != 0 && told.index == asked && self.accepted;
            if same {
                self.sink.confirm();
            } else {
                let nearest = self.settings.near.as_ref().map(|(_, nearest)| *nearest);
                let endpoints = answer::endpoints(&body, nearest)?;
                // What is refused is noted by the sink.
                self.accepted = self.sink.whole(endpoints).is_ok();
                self.useful = true;
            }
            self.index = next_index(asked, told.index);
            let did_not_wait = asked != 0 && told.index == asked && begun.elapsed() < WAITED;
            sleep_until(begun + if did_not_wait { SLOW_PACE } else { PACE }).await;
        }
    }

    /// The path and query of the next request.
    fn path(&self, may_be_stale: bool) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let settings = self.settings;
        let mut path = format!("/v1/health/service/{}?", encoded(&settings.service));
        if settings.passing {
            path.push_str("passing=1&");
        }
        // Writing to a string cannot fail.
        if let Some(datacenter) = &settings.datacenter {
            let _ = write!(path, "dc={}&", encoded(datacenter));
        }
        for tag in &settings.tags {
            let _ = write!(path, "tag={}&", encoded(tag));
        }
        if let Some((node, _)) = &settings.near {
            let _ = write!(path, "near={}&", encoded(node));
        }
        if settings.stale.is_some() && may_be_stale {
            path.push_str("stale&");
        }
        if self.index > 0 {
            let _ = write!(path, "index={}&wait={}s&", self.index, WAIT.as_secs());
        }
        path.pop();
        path
    }
}

/// What the headers of an answer tell.
struct AnswerHeaders {
    index: u64,
    /// The time since the server heard from the leader.
    last_contact: Duration,
    /// Whether instances were left out that the token may not read.
    is_filtered: bool,
}

impl AnswerHeaders {
    fn of(headers: &HeaderMap) -> Result<AnswerHeaders, String> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
        let index = number("x-consul-index")
            .ok_or("the answer has no `X-Consul-Index`: this is not Consul, or a proxy removes it")?;
        // Without a known leader the server cannot say how old its answer is.
        let has_leader = text("x-consul-knownleader") != Some("false");
        let last_contact = number("x-consul-lastcontact").unwrap_or_default();
        Ok(AnswerHeaders {
            index,
            last_contact: if has_leader { Duration::from_millis(last_contact) } else { Duration::MAX },
            is_filtered: text("x-consul-results-filtered-by-acls") == Some("true"),
        })
    }
}

/// The index for the next request. An index that went backwards, as after a restored snapshot, begins anew; an index of
/// 0, which Consul sends by mistake, would keep the next request from waiting.
fn next_index(asked: u64, told: u64) -> u64 {
    if told < asked { 0 } else { told.max(1) }
}

/// The words for an answer that is an error.
fn words((status, text): (StatusCode, String), has_token: bool) -> String {
    let text = one_line(&text);
    match (status, has_token) {
        (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, true) => {
            format!("Consul refuses the token, or it may not read the service and its nodes: {text}")
        }
        (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, false) => {
            format!("Consul wants a token: name its file under `token_file`: {text}")
        }
        _ => format!("Consul answers {status}: {text}"),
    }
    .trim_end_matches(": ")
    .to_owned()
}

#[cfg(test)]
mod tests;
