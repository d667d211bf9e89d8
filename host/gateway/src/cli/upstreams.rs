//! `witgate upstreams`

use clap::Args;
use serde::Serialize;
use witgate_config::model::{Upstream, UpstreamProtocol};

use super::output::{Format, print, table};
use super::place::ConfigPlace;
use crate::control::source::Source;
use crate::exit::Outcome;

/// List the upstreams of a configuration and their endpoints.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigPlace,
    #[command(flatten)]
    format: Format,
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
        balancer: upstream.balancer.clone(),
    }
}
