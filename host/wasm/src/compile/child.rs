//! The child's side: limits first, then one component from standard input to standard output.

use std::io::{self, stdin, stdout};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use witgate_config::file;

use super::answer::{Answer, read_question};
use crate::engine;
use crate::inspect;
use crate::load::text;

/// File descriptors that a child may have: its three pipes, and what the system takes for a moment.
const DESCRIPTORS: u64 = 32;

/// What the parent tells a child on its command line.
#[derive(Debug, Clone, Copy)]
pub struct ChildArguments {
    /// CPU time in seconds, over all threads.
    pub cpu: u64,
    /// Address space in bytes.
    pub memory: u64,
    /// The process that asked: without it the child ends.
    pub parent: i32,
}

/// Compiles the component on standard input and writes its code, or why there is none, to standard output. The whole of
/// what the hidden command [`CHILD_COMMAND`](super::CHILD_COMMAND) does, in a process of its own.
///
/// # Errors
/// A limit cannot be set, or the parent is gone. Nothing was compiled then.
pub fn compile_component(arguments: ChildArguments) -> io::Result<()> {
    confine(arguments)?;
    let (key, component) = read_question(&mut stdin().lock(), file::PLUGIN)?;
    answer(&component).write(&mut stdout().lock(), &key)
}

/// Binds this process to its limits and to its parent.
fn confine(arguments: ChildArguments) -> io::Result<()> {
    // The first second past the limit ends it with a signal that tells why, the second without.
    limit(Resource::Cpu, arguments.cpu, arguments.cpu + 1)?;
    limit(Resource::As, arguments.memory, arguments.memory)?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Nofile, DESCRIPTORS, DESCRIPTORS)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before it could be heard of.
    if getppid().map(Pid::as_raw_pid) != Some(arguments.parent) {
        return Err(io::Error::other("the gateway that asked is gone"));
    }
    // Where memory runs out, the kernel is to end this process and not the gateway. Without /proc there is no saying so.
    let _unsaid = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

/// Lowers a limit; where it is lower already, it stays.
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
