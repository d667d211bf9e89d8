//! `witgate upstreams set`

use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::admin::client::ask;
use crate::cli::output::say;
use crate::cli::place::AdminPlace;
use crate::exit::{Exit, ExitResult, Failure};

/// Change the weight of an endpoint of a running gateway, or drain it, without a reload.
///
/// The weight holds until a reload changes the configured weight of the endpoint. A drained endpoint finishes its
/// requests in flight and takes no new ones until `--undrain`, even after reloads. `--reset` undoes both.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Name of the upstream, as in `[upstreams.NAME]`
    upstream: String,
    /// The endpoint: `HOST:PORT`, as `witgate upstreams` shows it
    address: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    admin: AdminPlace,
}

/// The changes.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct Change {
    /// Weight relative to the other endpoints; 0 takes no new requests
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// Drain it: it takes no new requests
    #[arg(long, conflicts_with = "undrain")]
    drain: bool,
    /// End the drain: it takes requests again
    #[arg(long)]
    undrain: bool,
    /// Undo earlier changes
    #[arg(long)]
    reset: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let Arguments { upstream, address, change, admin } = arguments;
    let target = format!("/upstreams/{upstream}/endpoints/{address}?{}", query(change));
    let answer = ask(&admin.place(), Method::POST, &target)?;
    if answer.status != StatusCode::OK {
        let text = String::from_utf8_lossy(&answer.body);
        let message = format!("the gateway responded with {}: {}", answer.status.as_u16(), text.trim());
        return Err(Failure::new(Exit::Failure, message));
    }
    let endpoint: Value = serde_json::from_slice(&answer.body).map_err(|error| {
        Failure::new(Exit::Failure, format!("the gateway's response cannot be read: {error}"))
    })?;
    let availability = endpoint["availability"].as_str().unwrap_or_default();
    let (weight, active) = (&endpoint["weight"], &endpoint["active"]);
    say(&format!("{upstream} {address}: weight {weight}, {availability}, {active} in flight\n"))
}

fn query(change: &Change) -> String {
    let weight = change.weight.map(|weight| format!("weight={weight}"));
    let drain = change.drain.then(|| "drain=true".to_owned());
    let undrain = change.undrain.then(|| "drain=false".to_owned());
    let reset = change.reset.then(|| "reset=true".to_owned());
    [reset, weight, drain, undrain].into_iter().flatten().collect::<Vec<_>>().join("&")
}
