//! What a proxy is asked to be in one measurement. Every peer turns it into a configuration of its own.

use std::net::SocketAddr;

/// One shape of proxy.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    /// Threads or processes that serve.
    pub(crate) workers: usize,
    pub(crate) inbound: Inbound,
    /// What the upstream speaks.
    pub(crate) outbound: Outbound,
    /// Where requests go, in turn.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// 1: everything goes upstream. More: that many exact paths `/r/0`, `/r/1`, ... and nothing else.
    pub(crate) routes: usize,
    pub(crate) plugins: Plugins,
}

/// What clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inbound {
    /// HTTP/1.1 in the clear.
    Http1,
    /// HTTP/2 in the clear, with prior knowledge.
    Http2,
    /// HTTP/1.1 in TLS 1.3.
    Tls,
}

/// What the origin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outbound {
    /// HTTP/1.1 with keep-alive.
    Http1,
    /// HTTP/2 in the clear, with prior knowledge; the calls are gRPC.
    Grpc,
}

/// What runs on the way. Only Witgate knows more than `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plugins {
    None,
    /// So many bindings of a plugin that does nothing.
    Idle(usize),
    /// So many bindings of the headers plugin.
    Headers(usize),
    /// jwt, rate-limit, canary and headers.
    Chain {
        /// Whether the gateway may use answers of pure functions again, as it does unless it is told not to.
        remember: bool,
    },
}

impl Scene {
    /// As [`Scene::plain`], for gRPC calls.
    pub(crate) fn grpc(origin: SocketAddr) -> Scene {
        Scene { inbound: Inbound::Http2, outbound: Outbound::Grpc, ..Scene::plain(origin) }
    }

    /// One worker, HTTP/1.1 on both sides, one route, no plugins.
    pub(crate) fn plain(origin: SocketAddr) -> Scene {
        Scene {
            workers: 1,
            inbound: Inbound::Http1,
            outbound: Outbound::Http1,
            endpoints: vec![origin],
            routes: 1,
            plugins: Plugins::None,
        }
    }
}
