//! The quick start: builds the gateway and four plugins, starts two services, and runs the gateway in front of
//! them.
//!
//! Run it with `cargo run -p quickstart`. Ctrl-C drains and ends the gateway.

mod build;
mod services;

use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let repository =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("examples/quickstart")?;
    let witgate = build::gateway(repository)?;
    let folder = build::folder(repository, &witgate)?;

    let users = services::users().await?;
    let orders_v1 = services::orders("v1").await?;
    let orders_v2 = services::orders("v2").await?;
    println!("\nusers service on {users}, orders service on {orders_v1} (v1) and {orders_v2} (v2)");
    println!("the gateway's folder is {}; README.md says what to try\n", folder.display());

    let mut gateway = tokio::process::Command::new(witgate)
        .args(["run", "--config"])
        .arg(folder.join("witgate.toml"))
        // The gateway gets a process group of its own, so that Ctrl-C reaches only this program, which passes it
        // on once.
        .process_group(0)
        .kill_on_drop(true)
        .env("USERS", users.to_string())
        .env("ORDERS_V1", orders_v1.to_string())
        .env("ORDERS_V2", orders_v2.to_string())
        .spawn()
        .context("the gateway could not be started")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let status = loop {
        tokio::select! {
            status = gateway.wait() => break status?,
            _ = interrupt.recv() => drain(&gateway),
            _ = terminate.recv() => drain(&gateway),
        }
    };
    std::process::exit(status.code().unwrap_or(1));
}

/// Sends TERM to the gateway, which drains it; a second TERM ends it at once.
fn drain(gateway: &Child) {
    let process = gateway.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    // The gateway may have ended already.
    let _ = process.map(|process| kill_process(process, Signal::TERM));
}
