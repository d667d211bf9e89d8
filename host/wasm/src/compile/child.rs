//! The child process: applies its limits, then compiles one component from standard input to standard output.

use std::io::{self, stdin, stdout};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use witgate_config::file;

use super::answer::{Answer, read_question};
use crate::engine;
use crate::inspect;
use crate::load::text;

/// File descriptors that a child may have open: its three pipes, and a few that the system opens for a moment.
const DESCRIPTORS: u64 = 32;

/// The arguments that the parent passes on the command line of a child.
#[derive(Debug, Clone, Copy)]
pub struct ChildArguments {
    /// Limit on CPU time, in seconds, over all threads.
    pub cpu: u64,
    /// Limit on address space, in bytes.
    pub memory: u64,
    /// Process id of the parent. If that process ends, the child is killed.
    pub parent: i32,
}

/// Compiles the component on standard input and writes its code, or the reason why there is none, to standard
/// output. This is all that the hidden command [`CHILD_COMMAND`](super::CHILD_COMMAND) does.
///
/// # Errors
/// A limit cannot be set, or the parent has ended. Nothing has been compiled then.
pub fn compile_component(arguments: ChildArguments) -> io::Result<()> {
    confine(arguments)?;
    let (key, component) = read_question(&mut stdin().lock(), file::PLUGIN)?;
    answer(&component).write(&mut stdout().lock(), &key)
}

/// Applies the limits to this process and ties it to its parent.
fn confine(arguments: ChildArguments) -> io::Result<()> {
    // One second over the soft limit sends SIGXCPU, which tells the parent the reason; the hard limit sends
    // SIGKILL.
    limit(Resource::Cpu, arguments.cpu, arguments.cpu + 1)?;
    limit(Resource::As, arguments.memory, arguments.memory)?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Nofile, DESCRIPTORS, DESCRIPTORS)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have ended before the line above took effect.
    if getppid().map(Pid::as_raw_pid) != Some(arguments.parent) {
        return Err(io::Error::other("the gateway that started this process has ended"));
    }
    // When memory runs out, the kernel should kill this process and not the gateway. Without /proc this cannot be
    // set.
    let _unsaid = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

/// Lowers a limit. A limit that is lower already is left unchanged.
fn limit(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let now = getrlimit(resource);
    let lower = |wanted: u64, now: Option<u64>| Some(now.map_or(wanted, |now| now.min(wanted)));
    let (current, maximum) = (lower(current, now.current), lower(maximum, now.maximum));
    Ok(setrlimit(resource, Rlimit { current, maximum })?)
}

fn answer(component: &[u8]) -> Answer {
    if let Err(damaged) = inspect::check_validity(component) {
        return Answer::Damaged(damaged);
    }
    let compiled = engine::for_compiling().and_then(|engine| engine.precompile_component(component));
    match compiled {
        Ok(code) => Answer::Code(code),
        Err(error) => Answer::Uncompiled(text(&error)),
    }
}
