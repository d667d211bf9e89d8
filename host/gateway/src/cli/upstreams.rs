//! `witgate upstreams`

mod set;

use clap::{Args, Subcommand};
use serde::Serialize;
use witgate_config::model::{Upstream, UpstreamProtocol};

use super::output::{Format, print, table};
use super::place::ConfigPlace;
use crate::control::source::Source;
use crate::exit::Outcome;

/// List the upstreams of a configuration and their endpoints, or change an endpoint of a running gateway.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigPlace,
    #[command(flatten)]
    format: Format,
}

#[derive(Subcommand)]
enum Command {
    Set(set::Arguments),
}

#[derive(Serialize)]
struct Row {
    name: String,
    endpoints: Vec<String>,
    protocol: &'static str,
    tls: bool,
    balancer: String,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    if let Some(Command::Set(arguments)) = &arguments.command {
        return set::run(arguments);
    }
    let reading = Source::Path(arguments.config.path()).read()?;
    let rows: Vec<Row> =
        reading.config.upstreams.iter().map(|(name, upstream)| row(name, upstream)).collect();
    print(arguments.format, &rows, || {
        let cells: Vec<_> = rows
            .iter()
            .map(|row| {
                let protocol = format!("{}{}", row.protocol, if row.tls { "+tls" } else { "" });
                [row.name.clone(), row.endpoints.join(","), protocol, row.balancer.clone()]
            })
            .collect();
        table(["UPSTREAM", "ENDPOINTS", "PROTOCOL", "BALANCER"], &cells)
    })
}

fn row(name: &str, upstream: &Upstream) -> Row {
    let endpoints = upstream.endpoints.iter().map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port));
    Row {
        name: name.to_owned(),
        endpoints: endpoints.collect(),
        protocol: match upstream.protocol {
            UpstreamProtocol::Http1 => "http/1.1",
            UpstreamProtocol::Http2 => "h2",
        },
        tls: upstream.tls.is_some(),
        balancer: upstream.balancer.kind.clone(),
    }
}
