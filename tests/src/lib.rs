//! The test harness: a gateway in a process of its own, and origins and clients with real sockets.
//!
//! A typical test starts an [`Origin`], writes a configuration, starts a [`Gateway`], sends requests with a
//! [`Client`], and checks what the origin received. Every wait has a deadline ([`eventually`]); ports are chosen
//! by the system (bound with 0); every process that is started is ended by its own handle.

mod artifacts;
mod client;
mod etcd_server;
mod gateway;
pub mod hostile;
mod moody;
mod origin;
mod rabbit_server;
mod redis_server;
mod shell;
mod slow;
mod websocket;

pub use artifacts::{guest, plugin, repository, shared_build, witgate};
pub use client::{Client, Reply, raw};
pub use etcd_server::EtcdServer;
pub use gateway::{Gateway, Scratch};
pub use moody::{Mood, MoodyOrigin};
pub use origin::{Origin, OriginBody, Seen};
pub use rabbit_server::RabbitServer;
pub use redis_server::{RedisServer, free_port};
pub use shell::{Block, Shell, blocks};
pub use slow::slow_to_compile;
pub use websocket::echo_websocket;

use std::time::{Duration, Instant};

/// The longest that one wait of a test may take. It is long because it only ends what hangs: gateways compile plugins at
/// the lowest priority, so a wait for a new version takes many seconds while the tests keep the cores busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
///
/// # Panics
/// The condition does not hold within [`DEADLINE`]; the message names what was waited for.
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

/// A short sleep between two checks of a condition, for tests without an async runtime.
#[expect(clippy::disallowed_methods, reason = "the caller looks again, with a deadline")]
pub fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Reports that a test cannot run because a program is not installed. Returns whether the caller may skip it: in
/// CI (`CI` is set) everything is installed, and a skip is a failure.
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
