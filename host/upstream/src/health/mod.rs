//! Active health checks: the gateway asks each endpoint whether it works, so that requests need not find out.
//!
//! | kind | module | an endpoint is healthy if it |
//! |---|---|---|
//! | `http` | [`http`] | responds to a request with an expected status and body |
//! | `grpc` | [`grpc`] | reports `SERVING` by the gRPC health protocol |
//! | `tcp` | [`tcp`] | accepts a connection, and sends the expected bytes |
//!
//! A check opens a connection of its own and uses none of the pool, because pooled connections do not show whether
//! new ones can be opened. The [keeper](super::keeper) runs the checks in one task for each endpoint ([`checks`]).
//! Their results are kept with the endpoint ([`state`]), where every core sees them.

pub(crate) mod checks;
mod grpc;
mod http;
pub(crate) mod state;
mod tcp;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use witgate_config::model::{self, UpstreamProtocol};
use witgate_config::{Problem, Problems};

use super::Upstream;
use super::endpoint::Endpoint;
use crate::connection::connect::{Destination, proxy_header, reach};
use crate::connection::socket::Socket;
use crate::connection::tls::Tls;

/// The checks of an upstream, prepared once for all its endpoints.
pub(crate) struct Plan {
    pub(crate) settings: model::Health,
    question: Question,
    tls: Option<Arc<ClientConfig>>,
    http2: bool,
}

/// The kinds of checks.
enum Question {
    Http(Box<http::Question>),
    Grpc(grpc::Question),
    Tcp(tcp::Question),
}

/// Why an endpoint is not healthy, in a few words.
type Why = String;

impl Plan {
    /// Prepares the checks of an upstream.
    ///
    /// # Errors
    /// Invalid headers, an invalid path or regular expression.
    pub(crate) fn build(
        upstream: &str,
        config: &model::Upstream,
        tls: Option<&Tls>,
    ) -> Result<Option<Plan>, Problems> {
        let Some(settings) = &config.health else { return Ok(None) };
        let http2 = config.protocol == UpstreamProtocol::Http2;
        let mut plan = Plan {
            settings: settings.clone(),
            question: match &settings.check {
                model::Check::Http(check) => {
                    let question = http::Question::build(check).map_err(|(key, message, hint)| {
                        let key = format!("upstreams.{upstream}.health.http.{key}");
                        vec![Problem { message, span: None, key, hint: Some(hint.to_owned()) }]
                    });
                    Question::Http(Box::new(question?))
                }
                model::Check::Grpc { service } => Question::Grpc(grpc::Question::new(service)),
                model::Check::Tcp { send, expect } => Question::Tcp(tcp::Question::new(send, expect)),
            },
            tls: tls.map(|tls| tls.config.clone()),
            http2,
        };
        if let (Question::Grpc(_), false) = (&plan.question, http2) {
            plan.http2 = true;
            // The upstream offers HTTP/1.1 in its TLS handshakes, but gRPC needs HTTP/2.
            if let Some(tls) = &mut plan.tls {
                Arc::make_mut(tls).alpn_protocols = vec![b"h2".to_vec()];
            }
        }
        Ok(Some(plan))
    }

    /// Checks an endpoint once.
    async fn check(&self, upstream: &Upstream, endpoint: &Endpoint) -> Result<(), Why> {
        let asked = async {
            let destination = Destination {
                endpoint,
                port: self.settings.port.unwrap_or(endpoint.port),
                tls: self.tls.as_ref(),
                server_name: upstream.config.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
                http2: self.http2 && !matches!(self.question, Question::Tcp(_)),
                // A port of its own is not the one that gets PROXY headers.
                proxy_header: match self.settings.port {
                    None => proxy_header(&upstream.config, None),
                    Some(_) => None,
                },
            };
            let transport = reach(&destination).await.map_err(|fault| fault.to_string())?;
            let socket = Socket::unlimited(transport);
            match &self.question {
                Question::Http(question) => question.ask(socket, endpoint, self.scheme()).await,
                Question::Grpc(question) => question.ask(socket, endpoint, self.scheme()).await,
                Question::Tcp(question) => question.ask(socket).await,
            }
        };
        let timeout = self.settings.timeout;
        tokio::time::timeout(timeout, asked)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
    }

    /// The URI scheme of HTTP/2 requests. `None` for HTTP/1.1, whose targets have no scheme.
    fn scheme(&self) -> Option<&'static str> {
        self.http2.then_some(if self.tls.is_some() { "https" } else { "http" })
    }
}

/// How long after the beginning of a check the next one begins. `chance` is between 0 and 1.
fn pause(settings: &model::Health, in_doubt: bool, chance: f64) -> Duration {
    let interval = if in_doubt { settings.recheck_interval } else { settings.interval };
    interval.mul_f64(1.0 - settings.jitter * chance)
}
