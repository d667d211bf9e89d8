//! Translates calls of gRPC-Web and Connect to gRPC: a wrapper of the destination that forwards them.
//!
//! Filters and plugins see what the client has sent, and the response as the client gets it. Only the wrapped destination
//! sees gRPC.
//!
//! | file | what it translates |
//! |---|---|
//! | `grpc_web` | gRPC-Web, binary and in base64: unary calls and streams of the server |
//! | `connect` | unary calls of the Connect protocol, with POST and with GET |

mod connect;
mod grpc_web;

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response};
use witgate_config::model::GrpcBridge;
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::destination::Destination;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Dialect, Fault, FaultKind};
use witgate_exchange::grpc::{BridgedCall, is_grpc};
use witgate_upstream::Forward;

/// Translates to gRPC what the destination of a route gets in these protocols.
pub(super) struct Bridge {
    protocols: GrpcBridge,
    inner: Arc<dyn Destination>,
    /// Knows which methods are safe to call with GET.
    forward: Arc<Forward>,
}

/// What the wrapped destination gets in place of what the client has sent.
struct Translated {
    headers: HeaderMap,
    method: Method,
    target: PathAndQuery,
    body: Body,
}

impl Bridge {
    pub(super) fn new(protocols: GrpcBridge, inner: Arc<dyn Destination>, forward: Arc<Forward>) -> Self {
        Bridge { protocols, inner, forward }
    }

    /// The dialect of a request that is to be translated.
    fn dialect(&self, facts: &Facts) -> Option<Dialect> {
        // A stage, or what transcodes, may have made it gRPC.
        if is_grpc(&facts.head.headers) {
            return None;
        }
        match facts.dialect {
            Dialect::GrpcWeb(_) => self.protocols.web,
            Dialect::Connect => self.protocols.connect,
            Dialect::Grpc => false,
            Dialect::Problem => self.protocols.connect && connect::is_stream(&facts.head.headers),
        }
        .then_some(facts.dialect)
    }

    async fn translate(
        &self,
        dialect: Dialect,
        facts: &mut Facts,
        body: Body,
    ) -> Result<Response<Body>, Fault> {
        let path = facts.head.path();
        let call = BridgedCall::new(path.trim_start_matches('/').into());
        facts.record.bridged = Some(call.clone());
        match dialect {
            Dialect::GrpcWeb(text) => {
                let translated = grpc_web::request(facts, body, text)?;
                let response = self.call(facts, translated).await?;
                Ok(grpc_web::response(response, text, call))
            }
            Dialect::Connect => {
                let (translated, form) =
                    connect::request(facts, body, |path| self.forward.is_safe(facts, path)).await?;
                let response = self.call(facts, translated).await?;
                connect::response(response, form, &call).await
            }
            Dialect::Grpc | Dialect::Problem => {
                let fault = Fault::new(FaultKind::UnsupportedEncoding);
                Err(fault.detail("streams of the Connect protocol are not translated; use gRPC-Web or gRPC"))
            }
        }
    }

    /// Calls the wrapped destination. Afterwards the head is as the client has sent it again.
    async fn call(&self, facts: &mut Facts, translated: Translated) -> Result<Response<Body>, Fault> {
        let Translated { headers, method, target, body } = translated;
        let head = Arc::make_mut(&mut facts.head);
        let sent = std::mem::replace(&mut head.headers, headers);
        let (method, target) = (head.upstream_method.replace(method), head.upstream_target.replace(target));
        let response = self.inner.serve(facts, body).await;
        let head = Arc::make_mut(&mut facts.head);
        (head.headers, head.upstream_method, head.upstream_target) = (sent, method, target);
        response
    }
}

impl Destination for Bridge {
    fn choose(&self, facts: &mut Facts) -> Result<bool, Fault> {
        self.inner.choose(facts)
    }

    fn reads_body(&self) -> bool {
        self.inner.reads_body()
    }

    fn serve<'a>(
        &'a self,
        facts: &'a mut Facts,
        body: Body,
    ) -> MaybeReady<'a, Result<Response<Body>, Fault>> {
        match self.dialect(facts) {
            Some(dialect) => MaybeReady::waiting(self.translate(dialect, facts, body)),
            None => self.inner.serve(facts, body),
        }
    }
}

/// The path and query for the upstream.
fn upstream_target(facts: &Facts) -> &PathAndQuery {
    facts.head.upstream_target.as_ref().unwrap_or(&facts.head.target)
}

fn bad(detail: &'static str) -> Fault {
    Fault::new(FaultKind::BadRequest).detail(detail)
}
