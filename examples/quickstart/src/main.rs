//! The quick start: builds the gateway and four plugins, starts two services, and runs the gateway in front of them.
//!
//! `cargo run -p quickstart`, nothing else. Ctrl-C drains the gateway and ends it.

mod build;
mod services;

use std::path::Path;

use anyhow::{Context, Result};

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
        .env("USERS", users.to_string())
        .env("ORDERS_V1", orders_v1.to_string())
        .env("ORDERS_V2", orders_v2.to_string())
        .spawn()
        .context("the gateway could not be started")?;
    // Ctrl-C reaches the gateway as well, which drains; this program ends when the gateway has.
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let status = loop {
        tokio::select! {
            status = gateway.wait() => break status?,
            _ = interrupt.recv() => println!("draining"),
        }
    };
    std::process::exit(status.code().unwrap_or(1));
}
