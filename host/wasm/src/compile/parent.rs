//! The gateway's side: starts the child, sends it the component, and waits for at most the configured time.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use witgate_config::model::CompileLimits;

use super::answer::{Answer, CODE, KEY, write_question};
use super::refused::Failed;
use super::{CHILD_COMMAND, uncompiled};
use crate::inspect;
use crate::refusal::{Reason, Refusal};

/// Bytes of the child's standard error that are kept.
const WORDS: u64 = 4096;

/// How long a child may take to exit after its reply.
const END: Duration = Duration::from_secs(5);

/// How often a child that has replied is checked for its exit.
const ASK: Duration = Duration::from_millis(2);

/// Compiles a component in a child process. When this returns, the child has ended and its exit status has been
/// collected.
///
/// # Errors
/// The reason why there is no code, as text: the component is damaged or cannot be compiled, the child exceeded a
/// limit or crashed, or no process could be started.
pub(super) fn compile(program: &Path, component: &[u8], limits: CompileLimits) -> Result<Vec<u8>, Failed> {
    let mut key = [0; KEY];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| no_process("no random numbers are available"))?;
    let child = start(program, limits).map_err(|error| no_process(&error.to_string()))?;
    let end = attend(child, &key, component, limits.wall).map_err(|error| no_process(&error.to_string()))?;
    if end.output.len() as u64 > CODE {
        return Err(Failed::always(uncompiled(&format!("its code has more than {} MiB", CODE >> 20))));
    }
    match Answer::read(&end.output, &key) {
        Some(Answer::Code(code)) => Ok(code),
        Some(Answer::Damaged(reason)) => Err(Failed::always(inspect::damaged(&reason))),
        Some(Answer::Uncompiled(reason)) => Err(Failed::always(uncompiled(&reason))),
        None => Err(explain(&end, limits)),
    }
}

fn start(program: &Path, limits: CompileLimits) -> io::Result<Child> {
    Command::new(program)
        .arg0("witgate")
        .arg(CHILD_COMMAND)
        .arg(format!("--cpu={}", limits.cpu.as_secs()))
        .arg(format!("--memory={}", limits.memory))
        .arg(format!("--parent={}", std::process::id()))
        .env_clear()
        .current_dir("/")
        // Signals from the terminal (Ctrl-C) are meant for the gateway, which ends its child itself.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// How a child ended.
struct ChildEnd {
    status: ExitStatus,
    output: Vec<u8>,
    /// The beginning of the child's standard error.
    words: String,
    /// Whether it was killed because it took too long.
    late: bool,
}

/// Sends the request to a child and reads its reply, each on a thread of its own, so that no pipe can block
/// another one.
fn attend(mut child: Child, key: &[u8; KEY], component: &[u8], wall: Duration) -> io::Result<ChildEnd> {
    let deadline = Instant::now() + wall;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (sender, received) = sync_channel(1);
    thread::scope(|scope| {
        let started = ask(scope, input, key, component).and_then(|()| {
            let words = on_thread(scope, move || beginning(errors))?;
            on_thread(scope, move || {
                let mut bytes = Vec::new();
                let read = output.map(|output| output.take(CODE + 1).read_to_end(&mut bytes));
                // The receiver is dropped only after the bytes were received or the time is up.
                let _given_up = sender.send(bytes);
                read
            })?;
            Ok(words)
        });
        let output = received.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        let late = output.is_err();
        let status = if late { end(&mut child) } else { wait(&mut child, END) }?;
        let words = started?.join().unwrap_or_default();
        Ok(ChildEnd { status, output: output.unwrap_or_default(), words, late })
    })
}

fn on_thread<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    work: impl FnOnce() -> T + Send + 's,
) -> io::Result<thread::ScopedJoinHandle<'s, T>> {
    thread::Builder::new().name("witgate-child".into()).spawn_scoped(scope, work)
}

fn ask<'s>(
    scope: &'s Scope<'s, '_>,
    input: Option<ChildStdin>,
    key: &'s [u8; KEY],
    component: &'s [u8],
) -> io::Result<()> {
    on_thread(scope, move || {
        // A write error means that the child has ended; its exit status gives the reason.
        input.map(|mut input| write_question(&mut input, key, component).and_then(|()| input.flush()))
    })
    .map(drop)
}

/// Returns the beginning of a stream, and reads the stream to its end.
fn beginning(stream: Option<impl Read>) -> String {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        let _unread = stream.by_ref().take(WORDS).read_to_end(&mut kept);
        let _unread = io::copy(&mut stream, &mut io::sink());
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// Waits for a child that should be about to exit, and kills it if it does not.
fn wait(child: &mut Child, time: Duration) -> io::Result<ExitStatus> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::park_timeout(ASK);
    }
    end(child)
}

fn end(child: &mut Child) -> io::Result<ExitStatus> {
    child.kill()?;
    child.wait()
}

fn no_process(reason: &str) -> Failed {
    Failed::this_time(Refusal::new(
        Reason::Compile,
        format!("no process can be started to compile it: {reason}"),
        "the gateway must be allowed to start its own binary, which it finds by /proc/self/exe, and have memory for it",
    ))
}

/// The reason why a child sent no valid reply.
fn explain(end: &ChildEnd, limits: CompileLimits) -> Failed {
    let CompileLimits { cpu, wall, memory } = limits;
    let refusal = |message: String, hint: &str| Refusal::new(Reason::Compile, message, hint);
    let signal = end.status.signal();
    let is = |expected: Signal| signal == Some(expected.as_raw());
    if end.late {
        return Failed::for_a_while(refusal(
            format!("compiling it took more than {} s and was ended", wall.as_secs()),
            "the machine may be overloaded; otherwise raise `gateway.compile.wall`",
        ));
    }
    if is(Signal::XCPU) {
        return Failed::always(refusal(
            format!("compiling it took more than {} s of CPU time and was ended", cpu.as_secs()),
            "if you trust the component, raise `gateway.compile.cpu`; functions with very many locals and loops are slow",
        ));
    }
    if end.words.contains("memory allocation of") {
        return Failed::always(refusal(
            format!("compiling it took more than {} MiB of memory and was ended", memory >> 20),
            "if you trust the component, raise `gateway.compile.memory`",
        ));
    }
    let last = end.words.lines().next_back().unwrap_or_default();
    let said = if last.is_empty() { String::new() } else { format!(": {last}") };
    let from_outside = [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
    match signal {
        Some(_) if from_outside.into_iter().any(is) => Failed::for_a_while(refusal(
            format!("the process that compiled it was ended from outside ({}){said}", end.status),
            "the kernel does this if the machine has no memory left; `witgate reload --force` tries again",
        )),
        Some(_) => Failed::always(refusal(
            format!("the compiler crashed on it ({}){said}", end.status),
            "build it again with a current toolchain; a crash is a fault of the gateway, please report it",
        )),
        None => Failed::this_time(refusal(
            format!("the process that compiles sent no reply ({}){said}", end.status),
            "the limits of the gateway's own process may be too low for it",
        )),
    }
}
