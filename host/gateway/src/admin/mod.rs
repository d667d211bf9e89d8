//! The admin listener: health, metrics, status, and a few changes.
//!
//! It runs on a thread of its own, so that neither traffic nor a long compilation delays `/healthz`.

mod adjust;
mod answer;
pub(crate) mod cache;
pub(crate) mod client;
mod guard;
pub(crate) mod sockets;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use witgate_config::model::Admin;

use crate::control::handle::Handle;
use crate::process;
use sockets::{AdminSockets, Awaited, SocketChange};

/// Time for a client of the admin listener to send its request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed accept, e.g. when descriptors have run out, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Interval at which a socket is tried again that another process holds.
const RELEASE: Duration = Duration::from_millis(250);

/// What every admin request can use.
pub(crate) struct Context {
    /// The control plane.
    handle: Handle,
    /// The admin settings in service.
    admin: ArcSwap<Admin>,
}

/// The running admin thread.
pub(crate) struct AdminThread {
    sockets: mpsc::UnboundedSender<AdminSockets>,
    handle: Handle,
}

impl AdminThread {
    /// Starts the thread. It follows signals, and serves the admin listener once it has its first sockets.
    ///
    /// # Errors
    /// The system refuses the thread, its runtime or the signal handlers.
    pub(crate) fn start(handle: Handle) -> std::io::Result<AdminThread> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sockets, incoming) = mpsc::unbounded_channel();
        let (started, outcome) = std::sync::mpsc::sync_channel(1);
        let signals = handle.clone();
        let served = handle.clone();
        std::thread::Builder::new().name("witgate-admin".to_owned()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let followed = process::follow_signals(signals);
                let failed = followed.is_err();
                if started.send(followed).is_err() || failed {
                    return;
                }
                follow_doors(served, incoming).await;
            });
        })?;
        outcome.recv().map_err(std::io::Error::other)??;
        Ok(AdminThread { sockets, handle })
    }

    /// Puts changed admin settings and sockets in service. Unchanged sockets stay bound.
    pub(crate) fn replace(&self, sockets: AdminSockets) {
        if self.sockets.send(sockets).is_err() {
            self.handle.warn("the admin thread does not take its new settings".to_owned());
        }
    }
}

/// Applies each new set of sockets.
async fn follow_doors(handle: Handle, mut incoming: mpsc::UnboundedReceiver<AdminSockets>) {
    let mut next = incoming.recv().await;
    let Some(first) = &next else { return };
    let context = Arc::new(Context { handle, admin: ArcSwap::new(first.admin.clone()) });
    let mut tcp: Option<JoinHandle<()>> = None;
    let mut socket: Option<JoinHandle<()>> = None;
    while let Some(sockets) = next {
        context.admin.store(sockets.admin.clone());
        apply(&mut tcp, sockets.tcp, &context, accept_tcp);
        apply(&mut socket, sockets.socket, &context, accept_socket);
        next = incoming.recv().await;
    }
}

fn apply<L: 'static, F: Future<Output = ()> + 'static>(
    task: &mut Option<JoinHandle<()>>,
    change: SocketChange<L>,
    context: &Arc<Context>,
    accept: fn(Arc<Context>, L) -> F,
) {
    if matches!(change, SocketChange::Keep) {
        return;
    }
    if let Some(task) = task.take() {
        task.abort();
    }
    let context = context.clone();
    *task = match change {
        SocketChange::Open(listener) => Some(tokio::task::spawn_local(accept(context, listener))),
        SocketChange::Await(awaited) => Some(tokio::task::spawn_local(async move {
            let listener = released(&context, awaited).await;
            accept(context, listener).await;
        })),
        SocketChange::Keep | SocketChange::Close => None,
    };
}

/// Waits until the gateway that this one replaces has ended, or at least released this socket.
async fn released<L>(context: &Context, awaited: Awaited<L>) -> L {
    let Awaited { place, bind } = awaited;
    context.handle.warn(format!(
        "{place} is in use, probably by the gateway that this one replaces: it is served from here once that one has ended"
    ));
    loop {
        tokio::time::sleep(RELEASE).await;
        if let Ok(listener) = bind() {
            return listener;
        }
    }
}

async fn accept_tcp(context: Arc<Context>, listener: std::net::TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return context.handle.warn(format!("the admin listener cannot be served: {error}")),
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                serve(context.clone(), stream, guard::Entrance::Tcp, peer.to_string());
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn accept_socket(context: Arc<Context>, listener: std::os::unix::net::UnixListener) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return context.handle.warn(format!("the admin socket cannot be served: {error}")),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let user =
                    stream.peer_cred().map_or_else(|_| "unknown".to_owned(), |peer| peer.uid().to_string());
                let who = format!("user {user} by the admin socket");
                serve(context.clone(), stream, guard::Entrance::Socket, who);
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves one connection, of `who`, in a task of its own.
fn serve(
    context: Arc<Context>,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    entrance: guard::Entrance,
    who: String,
) {
    let who: Arc<str> = who.into();
    tokio::task::spawn_local(async move {
        let service = service_fn(move |request| {
            let (context, who) = (context.clone(), who.clone());
            async move { Ok::<_, Infallible>(answer::answer(&context, (entrance, &who), &request).await) }
        });
        // An error of a client's connection needs no handling.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
}
