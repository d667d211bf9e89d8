//! Outbound exchanges of plugins, through the same pools, breakers, limits and TLS as forwarded requests.

use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::uri::PathAndQuery;
use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use witgate_exchange::contracts::Fetch;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::trace::TraceContext;

use crate::Upstreams;
use crate::balancer::Caller;
use crate::deliver::{AttemptLog, Rules, within};
use crate::fallback::deliver_or_fall_back;
use crate::request::UpstreamRequest;

impl Fetch for Upstreams {
    fn fetch<'a>(
        &'a self,
        upstream: &'a str,
        request: Request<Bytes>,
        trace: Option<&'a TraceContext>,
        timeout: Option<Duration>,
        limit: usize,
    ) -> LocalBoxFuture<'a, Result<Response<Bytes>, Fault>> {
        Box::pin(fetch(self, upstream, request, trace, timeout, limit))
    }
}

/// See [`Fetch::fetch`].
async fn fetch(
    upstreams: &Upstreams,
    upstream: &str,
    request: Request<Bytes>,
    trace: Option<&TraceContext>,
    timeout: Option<Duration>,
    limit: usize,
) -> Result<Response<Bytes>, Fault> {
    let unknown = || Fault::new(FaultKind::NoEndpoint).detail("there is no such upstream").unsent();
    let upstream = upstreams.get(upstream).ok_or_else(unknown)?;
    let (parts, body) = request.into_parts();
    let root = PathAndQuery::from_static("/");
    let (headers, path) = (&parts.headers, parts.uri.path());
    let caller = Caller { headers, path, client: None, hash_key: None };
    let order = UpstreamRequest {
        method: &parts.method,
        target: parts.uri.path_and_query().unwrap_or(&root),
        headers: &parts.headers,
        authority: None,
        upgrade: None,
        caller,
        affinity: upstream.affinity(&caller),
        without_cookie: None,
        forwarding: None,
        trace,
        rules: Rules::new(&upstream.config.retry, None),
        grpc: false,
        allowance: None,
        informational: None,
        body_memory: upstreams.body_memory(),
        client: None,
    };
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut notes = AttemptLog::default();
    let exchange = async {
        let body = body.into();
        let response = deliver_or_fall_back(upstreams, upstream, &order, body, deadline, &mut notes).await?;
        let (parts, body) = response.into_parts();
        let collected =
            Limited::new(body, limit).collect().await.map_err(|error| collecting(error, limit))?;
        Ok(Response::from_parts(parts, collected.to_bytes()))
    };
    within(deadline, pin!(exchange)).await
}

/// The fault for a response that could not be collected.
fn collecting(error: Box<dyn std::error::Error + Send + Sync>, limit: usize) -> Fault {
    match error.downcast::<Fault>() {
        Ok(fault) => *fault,
        Err(error) if error.is::<LengthLimitError>() => Fault::new(FaultKind::UpstreamProtocol)
            .detail("response too large")
            .cause(format!("more than {limit} bytes")),
        Err(error) => Fault::new(FaultKind::UpstreamReset).cause(error.to_string()),
    }
}
