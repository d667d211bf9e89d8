//! `wasi:io`: streams that are always ready and whose output goes to the log.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType};
use witgate_config::model::LogLevel;

use super::VERSION;
use crate::imports::log::deliver;
use crate::input_tracker::Mark;
use crate::rights::Rights;
use crate::state::HostState;

/// The resource handle of standard output.
pub(super) const STDOUT: u32 = 1;

/// The resource handle of standard error.
pub(super) const STDERR: u32 = 2;

/// The most bytes that one write may have, and the longest line that is buffered.
const BUFFER: usize = 4 << 10;

/// Standard input, which is always at its end.
pub(super) enum InputStream {}

/// Standard output or error.
pub(crate) enum OutputStream {}

/// A pollable. Only streams create one, and it is always ready.
pub(super) enum Pollable {}

/// An error of a stream. It never occurs.
pub(crate) enum StreamFailure {}

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<StreamFailure>),
    #[component(name = "closed")]
    Closed,
}

/// What a guest has printed since the last line break.
#[derive(Default)]
pub(crate) struct Output {
    out: Vec<u8>,
    error: Vec<u8>,
    /// The message of a panic, which the standard library of Rust prints in several lines, as one.
    panic: Option<String>,
}

/// The beginning of what the standard library of Rust prints for a panic, up to the name of the thread.
const PANIC: &str = "thread '";

/// The beginning of the line by which it advises to set an environment variable, which plugins do not have.
const ADVICE: &str = "note: run with `RUST_BACKTRACE=";

impl Output {
    /// Buffers printed text; writes whole lines to the log.
    fn print(&mut self, rights: &Rights, stream: u32, bytes: &[u8]) {
        let (pending, level) = if stream == STDERR {
            (&mut self.error, LogLevel::Warn)
        } else {
            (&mut self.out, LogLevel::Info)
        };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = piece.strip_suffix(b"\n");
            pending.extend_from_slice(line.unwrap_or(piece));
            if line.is_some() || pending.len() >= BUFFER {
                let text = String::from_utf8_lossy(pending);
                let is_told_later = stream == STDERR && of_panic(&mut self.panic, &text);
                if !is_told_later && !text.is_empty() {
                    deliver(rights, level, &text);
                }
                pending.clear();
            }
        }
    }

    /// The message of the panic that was printed last, as one line; the next call of this returns none.
    pub(crate) fn take_panic(&mut self) -> Option<String> {
        self.panic.take()
    }

    /// Writes an unfinished line to the log.
    pub(crate) fn flush(&mut self, rights: &Rights) {
        for stream in [STDOUT, STDERR] {
            let pending = if stream == STDERR { &self.error } else { &self.out };
            if !pending.is_empty() {
                self.print(rights, stream, b"\n");
            }
        }
        if let Some(panic) = self.take_panic() {
            deliver(rights, LogLevel::Warn, &panic);
        }
    }
}

/// Whether a line of standard error belongs to the message of a panic. If so, it was added to that message.
fn of_panic(panic: &mut Option<String>, line: &str) -> bool {
    let begin =
        line.strip_prefix(PANIC).and_then(|rest| rest.find(" panicked at ").map(|at| &rest[at + 1..]));
    match (begin, panic) {
        (Some(begin), panic) => *panic = Some(begin.to_owned()),
        (None, Some(_)) if line.starts_with(ADVICE) || line.is_empty() => {}
        (None, Some(panic)) if panic.len() + line.len() < BUFFER => {
            // The first line ends with the place and a colon.
            panic.push(if panic.ends_with(':') { ' ' } else { '\n' });
            panic.push_str(line);
        }
        _ => return false,
    }
    true
}

/// Defines the interfaces.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut error = linker.instance(&format!("wasi:io/error@{VERSION}"))?;
    error.resource("error", ResourceType::host::<StreamFailure>(), |_, _| Ok(()))?;
    error.func_wrap("[method]error.to-debug-string", |mut store, (_this,): (Resource<StreamFailure>,)| {
        store.data_mut().charge()?;
        Ok((String::new(),))
    })?;
    let mut poll = linker.instance(&format!("wasi:io/poll@{VERSION}"))?;
    poll.resource("pollable", ResourceType::host::<Pollable>(), |_, _| Ok(()))?;
    poll.func_wrap("[method]pollable.ready", |mut store, (_this,): (Resource<Pollable>,)| {
        store.data_mut().charge()?;
        Ok((true,))
    })?;
    poll.func_wrap("[method]pollable.block", |mut store, (_this,): (Resource<Pollable>,)| {
        store.data_mut().charge()
    })?;
    poll.func_wrap("poll", |mut store, (pollables,): (Vec<Resource<Pollable>>,)| {
        store.data_mut().charge()?;
        Ok(((0..pollables.len()).filter_map(|index| u32::try_from(index).ok()).collect::<Vec<u32>>(),))
    })?;
    let mut streams = linker.instance(&format!("wasi:io/streams@{VERSION}"))?;
    input(&mut streams)?;
    output(&mut streams)
}

fn input(streams: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    streams.resource("input-stream", ResourceType::host::<InputStream>(), |_, _| Ok(()))?;
    for name in ["[method]input-stream.read", "[method]input-stream.blocking-read"] {
        streams.func_wrap(name, |mut store, (_this, _length): (Resource<InputStream>, u64)| {
            store.data_mut().charge()?;
            Ok((Err::<Vec<u8>, StreamError>(StreamError::Closed),))
        })?;
    }
    for name in ["[method]input-stream.skip", "[method]input-stream.blocking-skip"] {
        streams.func_wrap(name, |mut store, (_this, _length): (Resource<InputStream>, u64)| {
            store.data_mut().charge()?;
            Ok((Err::<u64, StreamError>(StreamError::Closed),))
        })?;
    }
    streams.func_wrap("[method]input-stream.subscribe", |mut store, (_this,): (Resource<InputStream>,)| {
        store.data_mut().charge()?;
        Ok((Resource::<Pollable>::new_own(0),))
    })
}

/// The result of a write.
pub(crate) type Written = (Result<(), StreamError>,);

fn output(streams: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    streams.resource("output-stream", ResourceType::host::<OutputStream>(), |_, _| Ok(()))?;
    streams.func_wrap(
        "[method]output-stream.check-write",
        |mut store, (_this,): (Resource<OutputStream>,)| {
            store.data_mut().charge()?;
            Ok((Ok::<u64, StreamError>(BUFFER as u64),))
        },
    )?;
    for name in ["[method]output-stream.write", "[method]output-stream.blocking-write-and-flush"] {
        streams.func_wrap(name, |store, (this, bytes): (Resource<OutputStream>, Vec<u8>)| {
            write(store, &this, &bytes)
        })?;
    }
    for name in
        ["[method]output-stream.write-zeroes", "[method]output-stream.blocking-write-zeroes-and-flush"]
    {
        streams.func_wrap(
            name,
            |mut store, (_this, _length): (Resource<OutputStream>, u64)| -> wasmtime::Result<Written> {
                store.data_mut().charge()?;
                Ok((Ok(()),))
            },
        )?;
    }
    for name in ["[method]output-stream.flush", "[method]output-stream.blocking-flush"] {
        streams.func_wrap(
            name,
            |mut store, (_this,): (Resource<OutputStream>,)| -> wasmtime::Result<Written> {
                store.data_mut().charge()?;
                Ok((Ok(()),))
            },
        )?;
    }
    for name in ["[method]output-stream.splice", "[method]output-stream.blocking-splice"] {
        streams.func_wrap(
            name,
            |mut store, (_this, _from, _length): (Resource<OutputStream>, Resource<InputStream>, u64)| {
                store.data_mut().charge()?;
                Ok((Err::<u64, StreamError>(StreamError::Closed),))
            },
        )?;
    }
    streams.func_wrap("[method]output-stream.subscribe", |mut store, (_this,): (Resource<OutputStream>,)| {
        store.data_mut().charge()?;
        Ok((Resource::<Pollable>::new_own(0),))
    })
}

fn write(
    mut store: StoreContextMut<'_, HostState>,
    stream: &Resource<OutputStream>,
    bytes: &[u8],
) -> wasmtime::Result<Written> {
    let state = store.data_mut();
    state.marked(Mark::Output)?;
    state.output.print(&state.rights, stream.rep(), bytes);
    Ok((Ok(()),))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_panic_are_one_message() {
        let mut panic = None;
        assert!(!of_panic(&mut panic, "an ordinary line") && !of_panic(&mut panic, ""));
        for line in ["thread 'main' (1) panicked at src/lib.rs:7:5:", "no key", "and no lock", "", ADVICE] {
            assert!(of_panic(&mut panic, line), "{line}");
        }
        assert_eq!(panic.as_deref(), Some("panicked at src/lib.rs:7:5: no key\nand no lock"));
        assert!(of_panic(&mut panic, "thread '<unnamed>' panicked at src/a.rs:1:1:"));
        assert_eq!(panic.as_deref(), Some("panicked at src/a.rs:1:1:"));
        assert!(!of_panic(&mut panic, &"x".repeat(BUFFER)), "it is bounded");
    }
}
