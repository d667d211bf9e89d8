//! `wasi:clocks`: reading the time. Waiting is refused, because a call of a plugin must not sleep.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource};

use super::VERSION;
use super::io::Pollable;
use crate::input_tracker::Mark;
use crate::state::HostState;

/// Time since 1970-01-01 UTC.
#[derive(ComponentType, Lift, Lower, Clone, Copy)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

impl From<Duration> for Datetime {
    fn from(duration: Duration) -> Self {
        Datetime { seconds: duration.as_secs(), nanoseconds: duration.subsec_nanos() }
    }
}

/// The origin of the monotonic clock, the same for all instances, so that instances can compare times in the
/// store.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn monotonic_now() -> u64 {
    u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Defines the interfaces.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut monotonic = linker.instance(&format!("wasi:clocks/monotonic-clock@{VERSION}"))?;
    monotonic.func_wrap("now", |mut store, ()| {
        store.data_mut().marked(Mark::Clock)?;
        Ok((monotonic_now(),))
    })?;
    monotonic.func_wrap("resolution", |mut store, ()| {
        store.data_mut().marked(Mark::Clock)?;
        Ok((1_u64,))
    })?;
    for name in ["subscribe-instant", "subscribe-duration"] {
        monotonic.func_wrap(name, |_, (_time,): (u64,)| -> wasmtime::Result<(Resource<Pollable>,)> {
            Err(wasmtime::Error::msg("the plugin tried to sleep; a call must not wait"))
        })?;
    }
    let mut wall = linker.instance(&format!("wasi:clocks/wall-clock@{VERSION}"))?;
    wall.func_wrap("now", |mut store, ()| {
        store.data_mut().marked(Mark::Clock)?;
        Ok((Datetime::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),))
    })?;
    wall.func_wrap("resolution", |mut store, ()| {
        store.data_mut().marked(Mark::Clock)?;
        Ok((Datetime::from(Duration::from_nanos(1)),))
    })
}
