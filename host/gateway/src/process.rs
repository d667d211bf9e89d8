//! The process and its environment: signals, and notices to the service manager.

use std::cell::Cell;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use witgate_config::model::LogLevel;

use crate::control::handle::Handle;
use crate::exit::Exit;

/// How long sending a notice may block. Nothing else is done meanwhile.
const NOTICE: Duration = Duration::from_millis(500);

/// Time for the last log line if the process ends at once.
const LAST_LINE: Duration = Duration::from_millis(200);

/// Follows signals until the process ends. HUP requests a reload, which during the start waits for its end; TERM,
/// INT and QUIT drain, and the second of them ends the process at once. The first one ends it at once only if
/// nothing is in service yet, with success, because there is nothing to drain.
///
/// # Errors
/// The handlers could not be installed.
pub(crate) fn follow_signals(handle: Handle) -> std::io::Result<()> {
    let reload = signal(SignalKind::hangup())?;
    let ends = [
        ("SIGTERM", signal(SignalKind::terminate())?),
        ("SIGINT", signal(SignalKind::interrupt())?),
        ("SIGQUIT", signal(SignalKind::quit())?),
    ];
    tokio::spawn(follow_reload(reload, handle.clone()));
    let drains = Rc::new(Cell::new(0_u32));
    for (name, end) in ends {
        tokio::task::spawn_local(follow_end(name, end, drains.clone(), handle.clone()));
    }
    Ok(())
}

async fn follow_reload(mut signal: Signal, handle: Handle) {
    while signal.recv().await.is_some() {
        if let Err(reason) = handle.reload("SIGHUP".to_owned(), false, None) {
            handle.warn(format!("SIGHUP ignored: {reason}"));
        }
    }
}

async fn follow_end(name: &'static str, mut signal: Signal, seen: Rc<Cell<u32>>, handle: Handle) {
    while signal.recv().await.is_some() {
        handle.end_before_service(|| {
            let message = "ending before anything was in service";
            handle.telemetry().log(LogLevel::Info, message, &[("reason", &name)]);
            handle.telemetry().flush(LAST_LINE);
            std::process::exit(0);
        });
        seen.set(seen.get() + 1);
        handle.drain(name);
        if seen.get() > 1 {
            handle.warn(format!("{name} again: ending at once"));
            handle.telemetry().flush(LAST_LINE);
            std::process::exit(Exit::Failure as i32);
        }
    }
}

/// Has the kernel kill this process when its parent ends, even if that is killed itself.
///
/// # Errors
/// The system refuses it, or the parent has ended already.
pub(crate) fn end_with(parent: u32) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // The parent may have ended before the call above; then another process is the parent.
    if std::os::unix::process::parent_id() != parent {
        return Err(std::io::Error::other("the process that started this one has ended"));
    }
    Ok(())
}

/// Whether a supervisor has passed listening sockets to this process (sd_listen_fds(3)): then another gateway may
/// serve the same sockets, which this one is to replace.
pub(crate) fn inherits_sockets() -> bool {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    number("LISTEN_PID") == Some(std::process::id()) && number("LISTEN_FDS").is_some_and(|count| count > 0)
}

/// A notice to the service manager (systemd, `Type=notify-reload`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Notice {
    /// In service; also the end of a reload, whatever its result.
    Ready,
    /// A reload begins.
    Reloading,
    /// Draining begins.
    Stopping,
}

/// Sends a notice to the service manager, if there is one (sd_notify(3)). Failures are ignored.
pub(crate) fn notify(notice: Notice) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let text = match notice {
        Notice::Ready => "READY=1\n".to_owned(),
        Notice::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}\n", monotonic_microseconds()),
        Notice::Stopping => "STOPPING=1\n".to_owned(),
    };
    if let Err(error) = send_notice(&path, text.as_bytes()) {
        eprintln!("witgate: the service manager could not be notified: {error}");
    }
}

fn send_notice(path: &std::ffi::OsStr, text: &[u8]) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => std::os::unix::net::SocketAddr::from_abstract_name(name)?,
        None => std::os::unix::net::SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(NOTICE))?;
    socket.send_to_addr(text, &address).map(drop)
}

fn monotonic_microseconds() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}
