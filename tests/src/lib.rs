//! The harness: a gateway as a process of its own, origins and clients as real sockets.
//!
//! A test is a story of a few lines: start an [`Origin`], write a configuration, start a [`Gateway`], speak to it with a
//! [`Client`], look at what the origin saw. Every wait has a deadline ([`eventually`]); every port is free
//! (bound with 0); every process that is started is ended by its own handle.

mod artifacts;
mod client;
mod gateway;
pub mod hostile;
mod moody;
mod origin;
mod shell;
mod slow;
mod websocket;

pub use artifacts::{guest, plugin, repository, shared_build, witgate};
pub use client::{Client, Reply, raw};
pub use gateway::{Gateway, Scratch};
pub use moody::{Mood, MoodyOrigin};
pub use origin::{Origin, OriginBody, Seen};
pub use shell::{Block, Shell, blocks};
pub use slow::slow_to_compile;
pub use websocket::echo_websocket;

use std::time::{Duration, Instant};

/// The longest any single wait of a test may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not hold within [`DEADLINE`]; the message names what was waited for.
pub async fn eventually<F>(what: &str, mut condition: F)
where
    F: AsyncFnMut() -> bool,
{
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A short rest between two looks at a condition, for tests without a runtime.
#[expect(clippy::disallowed_methods, reason = "the caller looks again, with a deadline")]
pub fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Says that a test cannot run because a program is not installed, and whether the caller may skip it: in CI
/// (`CI` is set) everything is installed and a skip is a failure.
///
/// # Panics
/// In CI.
pub fn missing(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if found {
        return false;
    }
    assert!(std::env::var_os("CI").is_none(), "{program} is not installed, and in CI nothing is skipped");
    eprintln!("skipped: {program} is not installed");
    true
}
