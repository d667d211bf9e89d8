//! `witgate drain`

use clap::Args;
use http::{Method, StatusCode};

use super::output::say;
use super::place::AdminPlace;
use crate::admin::client::ask;
use crate::exit::{Exit, ExitResult, Failure};

/// Have a running gateway finish its requests in flight and end, as on SIGTERM.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    admin: AdminPlace,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let answer = ask(&arguments.admin.place(), Method::POST, "/drain")?;
    if answer.status == StatusCode::ACCEPTED {
        return say("draining\n");
    }
    let text = String::from_utf8_lossy(&answer.body);
    Err(Failure::new(
        Exit::Failure,
        format!("the gateway responded with {}: {}", answer.status.as_u16(), text.trim()),
    ))
}
