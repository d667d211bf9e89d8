//! Mirroring: copies of requests are sent to another upstream, and their responses are dropped.
//!
//! A request never waits for its copy. The copy is sent by a task of its own once the request's body has passed,
//! so that neither the latency nor the back-pressure of the other upstream affects the request. A copy is dropped
//! and counted if it would cost too much: too many are in flight, the body is too long to keep, or the memory for
//! bodies is used up.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::{HeaderName, HeaderValue, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use witgate_config::model::{Mirror, RouteRetry};
use witgate_exchange::body::Body;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::Fault;
use witgate_exchange::head::RequestHead;
use witgate_exchange::replay::{NoCopy, ReplayBuffer, Whole};

use super::forward::of_client;
use crate::admission::deliver_admitted;
use crate::deliver::{AttemptLog, Copied, Rules, within};
use crate::request::UpstreamRequest;
use crate::{Upstream, Upstreams};

/// Marks a copy, whose response nobody uses.
const SHADOW: HeaderName = HeaderName::from_static("x-shadow");

/// A copy is sent at most once.
const ONCE: RouteRetry = RouteRetry {
    attempts: Some(1),
    on: None,
    statuses: None,
    grpc_statuses: None,
    non_idempotent: None,
    safe_methods: None,
    per_try_timeout: None,
};

/// Copies a request, if it is sampled. Returns the body to be forwarded.
pub(crate) fn mirror(
    upstreams: &Arc<Upstreams>,
    facts: &Facts,
    settings: &Mirror,
    preserve_host: bool,
    body: Body,
) -> Body {
    // No random number is drawn if every request is copied.
    let chosen = settings.share >= 1.0 || fastrand::f64() < settings.share;
    let Some(upstream) = upstreams.get(settings.upstream.as_str()) else { return body };
    if facts.upgrade.is_some() || !chosen {
        return body;
    }
    let Some(place) = MirrorPermit::take(upstream, settings.max_concurrent) else { return body };
    let shadow = Shadow {
        place,
        head: facts.head.clone(),
        received: facts.version,
        preserve_host,
        timeout: settings.timeout,
        upstreams: upstreams.clone(),
    };
    match body {
        Body::Full(bytes) if bytes.len() <= settings.body_bytes => {
            shadow.send(Body::Full(bytes.clone()), None);
            Body::Full(bytes)
        }
        body if body.is_end_stream() => {
            shadow.send(Body::Empty, None);
            body
        }
        body if body.size_hint().lower() > settings.body_bytes as u64 => {
            shadow.place.drop_as(Copied::TooLong);
            body
        }
        body => {
            let memory = upstreams.body_memory();
            ReplayBuffer::copied(body, settings.body_bytes, memory, |whole| match whole {
                Ok(whole) => shadow.send(Body::from(whole.bytes.clone()), Some(whole)),
                Err(NoCopy::TooLong) => shadow.place.drop_as(Copied::TooLong),
                Err(NoCopy::NoMemory) => shadow.place.drop_as(Copied::NoMemory),
                Err(NoCopy::Cut) => shadow.place.drop_as(Copied::Cut),
            })
        }
    }
}

/// The right to have one copy in flight.
struct MirrorPermit(Arc<Upstream>);

impl MirrorPermit {
    fn take(upstream: &Arc<Upstream>, most: usize) -> Option<MirrorPermit> {
        let shadows = &upstream.carried.tries.shadows;
        if shadows.fetch_add(1, Ordering::AcqRel) < most {
            return Some(MirrorPermit(upstream.clone()));
        }
        shadows.fetch_sub(1, Ordering::AcqRel);
        upstream.carried.tries.counts.copied(Copied::Full);
        None
    }

    fn drop_as(self, copied: Copied) {
        self.0.carried.tries.counts.copied(copied);
    }
}

impl Drop for MirrorPermit {
    fn drop(&mut self) {
        self.0.carried.tries.shadows.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A copy of a request, without its body.
struct Shadow {
    place: MirrorPermit,
    head: Arc<RequestHead>,
    received: Version,
    preserve_host: bool,
    timeout: std::time::Duration,
    upstreams: Arc<Upstreams>,
}

impl Shadow {
    /// Sends the copy in a task of its own. `kept` counts the bytes of the body until the exchange has ended.
    fn send(self, body: Body, kept: Option<Whole>) {
        tokio::task::spawn_local(async move {
            let _kept = kept;
            let deadline = Instant::now() + self.timeout;
            let answered = within(Some(deadline), pin!(self.exchange(body, deadline))).await;
            self.place.drop_as(if answered.is_ok() { Copied::Answered } else { Copied::Failed });
        });
    }

    async fn exchange(&self, body: Body, deadline: Instant) -> Result<(), Fault> {
        let (upstream, head) = (&self.place.0, &self.head);
        let mut headers = head.headers.clone();
        headers.insert(SHADOW, HeaderValue::from_static("1"));
        let order = UpstreamRequest {
            rules: Rules::new(&upstream.config.retry, Some(&ONCE)),
            ..of_client(&self.upstreams, upstream, head, &headers, None, (self.received, self.preserve_host))
        };
        let mut notes = AttemptLog::default();
        let delivered = deliver_admitted(upstream, &order, body, Some(deadline), &mut notes).await;
        let mut response = delivered.map_err(|failure| failure.fault)?;
        // The response is read to its end, so that the connection can be reused.
        while let Some(frame) = response.body_mut().frame().await {
            if frame.is_err() {
                break;
            }
        }
        Ok(())
    }
}
