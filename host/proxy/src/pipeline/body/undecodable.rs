//! Bodies that cannot be decoded for a binding, and whose mistake that is.
//!
//! A body is in the coding that its `Content-Encoding` names, or it is not, and then somebody has made a mistake: the client,
//! the upstream, or a binding that changed the field. Each gets a fault of its own.

use std::sync::Arc;

use http::header::ACCEPT_ENCODING;
use http::{HeaderValue, Response};
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};

use super::caller::Caller;
use super::coding::{Coding, Undecodable};
use crate::pipeline::exchange::Exchange;

/// The codings that are decoded, for `Accept-Encoding` in a response (RFC 9110 section 15.5.16).
pub(super) const DECODED: HeaderValue = HeaderValue::from_static("gzip, br, zstd, identity");

/// How the bytes of a body are coded, and who said so.
pub(in crate::pipeline) struct Coded {
    /// The coding; `None` if it is unknown or if there are several.
    pub(super) coding: Option<Coding>,
    pub(super) origin: Origin,
}

/// Who is to blame if a body is not in the coding that its head names.
#[derive(Clone)]
pub(super) enum Origin {
    Client,
    Upstream,
    /// The gateway itself, or a binding that responded in place of the upstream.
    Local,
    /// The binding of this name, which changed `Content-Encoding`.
    Binding(Arc<str>),
}

impl Coded {
    /// The coding of a request.
    pub(super) fn of_request(exchange: &Exchange) -> Coded {
        let origin = exchange.request_coding_by.clone().map_or(Origin::Client, Origin::Binding);
        Coded { coding: Coding::of_message(&exchange.facts.head.headers), origin }
    }

    /// The coding of a response.
    pub(in crate::pipeline) fn of_response(exchange: &Exchange, response: &Response<Body>) -> Coded {
        let origin = match &exchange.response_coding_by {
            Some(binding) => Origin::Binding(Arc::clone(binding)),
            None if exchange.facts.local_response => Origin::Local,
            None => Origin::Upstream,
        };
        Coded { coding: Coding::of_message(response.headers()), origin }
    }
}

impl Origin {
    /// The fault of a body in an unknown or stacked coding.
    pub(super) fn unknown(&self, caller: &Caller) -> Fault {
        let fault = self.fault(caller, FaultKind::UnsupportedEncoding, "its coding is unknown or stacked");
        match self {
            Origin::Client => fault
                .detail("the codings that are understood are in Accept-Encoding; use one at a time")
                .header(ACCEPT_ENCODING, DECODED),
            _ => fault,
        }
    }

    /// Makes the fault of a body that is not in the coding that its head names.
    pub(super) fn refusal(self, caller: &Caller, coding: Coding) -> impl Fn(Undecodable) -> Fault + 'static {
        let (binding, phase) = (Arc::clone(&caller.plugin), caller.phase());
        move |reason| {
            let (kind, why) = match reason {
                Undecodable::Malformed(why) => {
                    (FaultKind::BadRequest, format!("it is not in the coding {coding}: {why}"))
                }
                Undecodable::TooLarge => (
                    FaultKind::BodyTooLarge,
                    format!("its content is out of proportion to its {coding} form"),
                ),
            };
            let fault = self.of(binding.name(), phase.as_str(), kind, &why);
            match self {
                Origin::Client => fault.detail(match kind {
                    FaultKind::BodyTooLarge => "the content is out of proportion to its coded form",
                    _ => "the body is not in the coding that Content-Encoding names",
                }),
                _ => fault,
            }
        }
    }

    fn fault(&self, caller: &Caller, of_client: FaultKind, why: &str) -> Fault {
        self.of(caller.plugin.name(), caller.phase().as_str(), of_client, why)
    }

    /// A fault of whoever is to blame. `of_client` is the kind of fault if that is the client.
    fn of(&self, binding: &str, phase: &str, of_client: FaultKind, why: &str) -> Fault {
        let (kind, who) = match self {
            Origin::Client => (of_client, "the body of the request"),
            Origin::Upstream => (FaultKind::UpstreamProtocol, "the body of the upstream's response"),
            Origin::Local => {
                (FaultKind::PluginFailed, "the body of a response that the gateway or a plugin made")
            }
            Origin::Binding(by) => {
                let cause = format!(
                    "binding `{binding}`, {phase}: binding `{by}` has changed `content-encoding`, but the body cannot be decoded: {why}"
                );
                return Fault::new(FaultKind::PluginFailed).cause(cause);
            }
        };
        Fault::new(kind).cause(format!("binding `{binding}`, {phase}: {who} cannot be decoded: {why}"))
    }
}
