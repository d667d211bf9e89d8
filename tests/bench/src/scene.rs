//! A scene: the task of a proxy in one measurement. Every peer has a configuration for it.

use std::net::SocketAddr;

/// The task of a proxy.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    /// Number of threads or processes that serve.
    pub(crate) workers: usize,
    pub(crate) inbound: Inbound,
    /// The protocol to the origin.
    pub(crate) outbound: Outbound,
    /// The endpoints, which are used in turn.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// 1: all requests go to the origin. More: this number of routes with the exact paths `/r/0`, `/r/1`, ..., and
    /// no others.
    pub(crate) routes: usize,
    pub(crate) plugins: Plugins,
    pub(crate) answer: Answer,
}

/// Where the responses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// From the origin.
    Origin,
    /// From the proxy's cache, once the origin has been asked. Only nginx and Witgate support it.
    Cache,
    /// A fixed response of 1 KiB. Only Witgate supports it.
    Fixed,
}

/// The protocol of the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inbound {
    /// HTTP/1.1 in cleartext.
    Http1,
    /// HTTP/2 in cleartext, with prior knowledge.
    Http2,
    /// HTTP/1.1 over TLS 1.3.
    Tls,
}

/// The protocol to the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outbound {
    /// HTTP/1.1 with keep-alive.
    Http1,
    /// HTTP/2 in cleartext, with prior knowledge, for gRPC calls.
    Grpc,
}

/// The plugins. Only Witgate supports scenes with other values than `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plugins {
    None,
    /// This number of bindings of a plugin that does nothing.
    Idle(usize),
    /// This number of bindings of the plugin `headers`.
    Headers(usize),
    /// jwt, rate-limit, canary and headers.
    Chain {
        /// Whether the gateway may remember the results of pure functions, which is the default.
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
            answer: Answer::Origin,
        }
    }
}
