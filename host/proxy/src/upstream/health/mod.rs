//! Active checks: the gateway asks each endpoint how it is, so that requests need not find out.
//!
//! | kind | module | healthy is who |
//! |---|---|---|
//! | `http` | [`http`] | answers a request with an expected status and body |
//! | `grpc` | [`grpc`] | says `SERVING` by the gRPC health protocol |
//! | `tcp` | [`tcp`] | takes a connection, and sends what is expected |
//!
//! A check has a connection of its own, never one of the pool: a pool shows how connections were, a check how they
//! would be. Checks are run by the [keeper](super::keeper), one task for each endpoint ([`checks`]); what they find is
//! in the endpoint ([`state`]), where every core sees it.

pub(super) mod checks;
mod grpc;
mod http;
pub(super) mod state;
mod tcp;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use witgate_config::model::{self, UpstreamProtocol};
use witgate_config::{Problem, Problems};

use super::Upstream;
use super::connect::{Destination, reach};
use super::endpoint::Endpoint;
use super::socket::Socket;
use super::tls::Tls;

/// The checks of an upstream, prepared once for all of them.
pub(super) struct Plan {
    pub(super) settings: model::Health,
    question: Question,
    tls: Option<Arc<ClientConfig>>,
    http2: bool,
}

/// What is asked: a row for each kind.
enum Question {
    Http(Box<http::Question>),
    Grpc(grpc::Question),
    Tcp(tcp::Question),
}

/// Why an endpoint does not count as healthy, in a few words.
type Why = String;

impl Plan {
    /// Prepares the checks of an upstream.
    ///
    /// # Errors
    /// Headers, a path or a regular expression that are none.
    pub(super) fn build(
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
            // The upstream offers HTTP/1.1 in its handshakes; gRPC needs HTTP/2 all the same.
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

    /// The URI scheme of HTTP/2 requests; none: HTTP/1.1 is spoken, whose targets have none.
    fn scheme(&self) -> Option<&'static str> {
        self.http2.then_some(if self.tls.is_some() { "https" } else { "http" })
    }
}

/// How long after the begin of a check the next one begins. `chance` is from 0 to 1.
fn pause(settings: &model::Health, in_doubt: bool, chance: f64) -> Duration {
    let interval = if in_doubt { settings.recheck_interval } else { settings.interval };
    interval.mul_f64(1.0 - settings.jitter * chance)
}
