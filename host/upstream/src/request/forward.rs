//! Forwards a request to its upstream: builds the upstream request from the facts, delivers it, and records the
//! outcome in the facts.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use http::header::SET_COOKIE;
use http::{HeaderMap, Method, Response, Version};
use witgate_config::model;
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::destination::Destination;
use witgate_exchange::facts::{Facts, Switched};
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::head::{self, RequestHead};
use witgate_exchange::record::Record;
use witgate_exchange::turn;
use witgate_wire::proxy_protocol::{Addresses, Client};
use witgate_wire::stream::Side;

use super::deadline::{self, Allowance};
use super::mirror::mirror;
use crate::balancer::Caller;
use crate::deliver::{AttemptLog, Rules, deliver, within};
use crate::fallback::deliver_or_fall_back;
use crate::request::{ForwardingHeaders, UpstreamRequest};
use crate::{Upstream, Upstreams};

/// Forwards requests to the upstream that the facts name.
///
/// The upstream receives the method and target of the head (or those that stages have set) in origin form, the
/// end-to-end headers, `Host` (the client's or the endpoint's), `Via` (which RFC 9110 section 7.6.3 requires of
/// gateways), the request id, and the framing of the body. Other headers of the gateway are already in the head.
/// If spans are exported, the gateway also sets `traceparent` and `tracestate`, with one span for each attempt;
/// otherwise it forwards them like other end-to-end headers.
///
/// `deliver` decides how often the request is sent, and to which endpoints. Within one attempt the request is sent
/// again if nothing of it was written, if the endpoint says that it did not process it, or if a reused connection
/// ended without a byte of a response and the method is idempotent.
pub struct Forward {
    upstreams: Arc<Upstreams>,
    preserve_host: bool,
    retry: model::RouteRetry,
    mirror: Option<model::Mirror>,
}

impl Destination for Forward {
    /// # Errors
    /// Any fault with blame `Upstream`, `RequestTimeout`, or the fault with which the request's own body ended.
    fn serve<'a>(
        &'a self,
        facts: &'a mut Facts,
        body: Body,
    ) -> MaybeReady<'a, Result<Response<Body>, Fault>> {
        MaybeReady::waiting(self.forward(facts, body))
    }
}

impl Forward {
    /// Forwards to one of these upstreams, with the settings of a route.
    pub fn new(upstreams: Arc<Upstreams>, settings: &model::Forward) -> Self {
        Forward {
            upstreams,
            preserve_host: settings.preserve_host,
            retry: settings.retry.clone(),
            mirror: settings.mirror.clone(),
        }
    }

    /// Whether the calls of a gRPC method, by its path, are safe to repeat: the route or its upstream names it in
    /// `retry.safe_methods`.
    pub fn is_safe(&self, facts: &Facts, path: &str) -> bool {
        let upstream = facts.upstream.as_ref().and_then(|name| self.upstreams.get(name));
        let rules = upstream.map(|upstream| Rules::new(&upstream.config.retry, Some(&self.retry)));
        rules.is_some_and(|rules| rules.safe_methods().iter().any(|method| method.matches(path)))
    }

    async fn forward(&self, facts: &mut Facts, body: Body) -> Result<Response<Body>, Fault> {
        let name = facts.upstream.as_ref().ok_or_else(|| internal("no stage chose an upstream"))?;
        let upstream = self.upstreams.get(name).ok_or_else(|| internal("the upstream does not exist"))?;
        let allowance = allowance(upstream, facts)?;
        let body = match &self.mirror {
            Some(settings) => mirror(&self.upstreams, facts, settings, self.preserve_host, body),
            None => body,
        };
        let Facts { head, upgrade, hash_key, version, record, begun, .. } = facts;
        let mut attempts = Attempts { log: AttemptLog::default(), chosen: &upstream.name, record };
        let host = head.notes.as_ref().and_then(|notes| notes.host());
        let request = UpstreamRequest {
            authority: host.as_deref().or(self.preserve_host.then_some(&*head.authority)),
            upgrade: upgrade.as_ref(),
            rules: Rules::new(&upstream.config.retry, Some(&self.retry))
                .retried_by_sender(facts.retried_by_sender),
            allowance,
            informational: Some(&facts.informational),
            ..of_client(
                &self.upstreams,
                upstream,
                head,
                &head.headers,
                hash_key.as_deref(),
                (*version, self.preserve_host),
            )
        };
        let affinity = request.affinity.clone();
        let deadline = allowance.map(|allowance| allowance.deadline);
        let mut delivered = self.deliver(upstream, &request, body, deadline, &mut attempts.log).await;
        if let (Err(fault), Some(deadline)) = (&mut delivered, deadline)
            && fault.kind == FaultKind::RequestTimeout
        {
            upstream.tries().deadline_exceeded();
            let allowed = deadline.saturating_duration_since(*begun);
            fault.cause.get_or_insert_with(|| {
                format!("no response within {allowed:?} of the request, which is its deadline").into()
            });
        }
        let (local, switched) = (attempts.log.local, attempts.log.switched.take());
        let cookie = match &attempts.log {
            AttemptLog { endpoint: Some(endpoint), instead: None, local: false, .. } if delivered.is_ok() => {
                // Binds the client to the endpoint of the upstream that responded.
                upstream.session_cookie(&affinity, endpoint, head.scheme)
            }
            _ => None,
        };
        drop(attempts);
        facts.local_response |= local;
        facts.switched = switched.map(Side::Switched).map(Switched::new);
        facts.response_headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
        delivered
    }

    async fn deliver(
        &self,
        upstream: &Arc<Upstream>,
        request: &UpstreamRequest<'_>,
        body: Body,
        deadline: Option<Instant>,
        log: &mut AttemptLog,
    ) -> Result<Response<Body>, Fault> {
        if upstream.is_plain() {
            let delivering = deliver(upstream, request, body, deadline, log);
            return within(deadline, pin!(delivering)).await.map_err(|fault| upstream.noted(fault));
        }
        // Boxed, so that requests to upstreams without these features do not carry the state for them.
        let delivering = deliver_or_fall_back(&self.upstreams, upstream, request, body, deadline, log);
        within(deadline, Box::pin(delivering).as_mut()).await
    }
}

/// Builds the upstream request for a client's request with these headers. It is sent once, and has nothing that
/// only the client's own exchange may have. `received` is the HTTP version that the client spoke, and whether the
/// upstream should receive the client's `Host`.
pub(crate) fn of_client<'a>(
    upstreams: &'a Upstreams,
    upstream: &'a Upstream,
    head: &'a RequestHead,
    headers: &'a HeaderMap,
    hash_key: Option<&'a [u8]>,
    (received, preserve_host): (Version, bool),
) -> UpstreamRequest<'a> {
    let caller = Caller { headers, path: head.path(), client: Some(head.client.address), hash_key };
    UpstreamRequest {
        method: head.upstream_method.as_ref().unwrap_or(&head.method),
        target: head.upstream_target.as_ref().unwrap_or(&head.target),
        headers,
        authority: preserve_host.then_some(&*head.authority),
        upgrade: None,
        caller,
        affinity: upstream.affinity(&caller),
        without_cookie: upstream.config.sticky.as_ref().map(|sticky| &*sticky.cookie),
        forwarding: Some(ForwardingHeaders { request_id: &head.request_id, received }),
        trace: head.trace.as_ref(),
        rules: Rules::new(&upstream.config.retry, None),
        grpc: is_call(head.upstream_method.as_ref().unwrap_or(&head.method), headers),
        allowance: None,
        informational: None,
        body_memory: upstreams.body_memory(),
        client: upstream.config.proxy_protocol.map(|_| connection_of(&head.client)),
    }
}

/// What an endpoint is told by the PROXY protocol about the connection of a client.
fn connection_of(client: &head::Client) -> Client {
    let addresses = client.local.map(|destination| Addresses { source: client.peer, destination });
    Client { addresses, ..Client::default() }
}

/// Whether a request is a call of gRPC, which is always a POST.
pub(crate) fn is_call(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::POST && deadline::is_grpc(headers)
}

/// The deadline of the request, and how the endpoint is told of it. `None` if there is no deadline.
fn allowance<'a>(upstream: &'a Upstream, facts: &Facts) -> Result<Option<Allowance<'a>>, Fault> {
    let headers = &facts.head.headers;
    let (grpc, header) = (deadline::is_grpc(headers), upstream.deadline_header.as_ref());
    let asked_for = deadline::asked_for(headers, grpc, header)?;
    let timeout = facts.timeout.into_iter().chain(asked_for).min();
    let by_caller = asked_for.is_some() && timeout == asked_for;
    Ok(timeout.map(|timeout| Allowance { deadline: facts.begun + timeout, grpc, by_caller, header }))
}

/// The attempts of a request. When it is dropped they are recorded, so that they are also known of a request whose
/// client leaves while it waits for a response.
struct Attempts<'a> {
    log: AttemptLog,
    /// The upstream that was chosen.
    chosen: &'a Arc<str>,
    record: &'a mut Record,
}

impl Drop for Attempts<'_> {
    fn drop(&mut self) {
        let AttemptLog { endpoint, attempts, instead, repeats, .. } = &mut self.log;
        let asked = instead.take().unwrap_or_else(|| Arc::clone(self.chosen));
        self.record.attempts = *attempts;
        self.record.endpoint = endpoint.take().map(|endpoint| (asked, endpoint));
        self.record.repeats = std::mem::take(repeats);
        self.log.ended(turn::now());
        self.record.upstream_time = self.log.time;
    }
}

fn internal(cause: &'static str) -> Fault {
    Fault::new(FaultKind::Internal).cause(cause)
}
