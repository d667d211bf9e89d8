//! Load generators and the results of a run.
//!
//! Closed loops measure cost: wrk for HTTP/1.1, h2load for HTTP/2, and a generator of our own for new connections.
//! The open loop measures latency. All of them use only the loopback and are limited in time and connections.

mod answer;
pub(crate) mod connections;
pub(crate) mod open_loop;
mod tools;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::origin;
use crate::tokens::{FRESH_PER_SECOND, Tokens};

/// A closed loop: a client sends the next request when it has received a response.
#[derive(Clone)]
pub(crate) enum Load {
    /// wrk: 64 keep-alive connections.
    KeepAlive { tls: bool, path: &'static str, script: Script, headers: usize },
    /// h2load: 16 connections with 8 streams each, cleartext.
    Http2,
    /// h2load: the same with gRPC calls; the file is the body.
    Grpc { body: PathBuf },
    /// Our own generator: eight clients, a new connection for each request; with TLS, a full handshake each time.
    NewConnections { tls: Option<Arc<rustls::ClientConfig>> },
}

/// What wrk sends.
#[derive(Clone)]
pub(crate) enum Script {
    /// The same request each time.
    None,
    /// Requests from this Lua script.
    File(PathBuf),
    /// Requests with a new token each.
    FreshTokens(Arc<Tokens>),
}

impl Script {
    fn file(&self, seconds: u32) -> Result<Option<PathBuf>> {
        match self {
            Script::None => Ok(None),
            Script::File(path) => Ok(Some(path.clone())),
            Script::FreshTokens(tokens) => tokens.fresh(seconds).map(Some),
        }
    }
}

/// The result of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
}

impl Load {
    /// 64 keep-alive connections that request `/` in cleartext.
    pub(crate) fn plain() -> Load {
        Load::KeepAlive { tls: false, path: "/", script: Script::None, headers: 0 }
    }

    /// The same with a script that makes the requests.
    pub(crate) fn scripted(script: Script) -> Load {
        Load::KeepAlive { tls: false, path: "/", script, headers: 0 }
    }

    /// gRPC calls; the message is written to a file in the folder.
    pub(crate) fn grpc(folder: &Path) -> Result<Load> {
        let body = folder.join("message");
        std::fs::write(&body, origin::message())?;
        Ok(Load::Grpc { body })
    }

    /// Runs the load for this number of seconds.
    pub(crate) fn run(&self, address: SocketAddr, seconds: u32) -> Result<Done> {
        match self {
            Load::KeepAlive { tls, path, script, headers } => {
                let url = format!("{}://{address}{path}", if *tls { "https" } else { "http" });
                let done = tools::wrk(&url, script.file(seconds)?.as_deref(), *headers, seconds)?;
                if let Script::FreshTokens(_) = script {
                    let tokens = FRESH_PER_SECOND as u64 * u64::from(seconds);
                    ensure!(done.requests < tokens, "the tokens were used up, so that not all were fresh");
                }
                Ok(done)
            }
            Load::Http2 => tools::h2load(address, None, seconds),
            Load::Grpc { body } => tools::h2load(address, Some(body), seconds),
            Load::NewConnections { tls } => connections::run(address, tls.as_ref(), seconds),
        }
    }
}
