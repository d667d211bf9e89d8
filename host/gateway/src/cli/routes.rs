//! `witgate routes`

use clap::Args;
use serde::Serialize;
use witgate_config::Config;
use witgate_config::model::{Action, Listener, ListenerProtocol, PathMatch, Route};

use super::output::{Format, print, table};
use super::place::ConfigPlace;
use crate::control::source::Source;
use crate::exit::ExitResult;

/// List the routes of a configuration: their listeners, what they match, where they lead, and their plugins.
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
    hosts: Vec<String>,
    path: String,
    methods: Vec<String>,
    listeners: Vec<String>,
    to: String,
    plugins: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let reading = Source::Path(arguments.config.path()).read()?;
    let rows: Vec<Row> = reading.config.routes.iter().map(|route| row(&reading.config, route)).collect();
    print(arguments.format, &rows, || {
        let cells: Vec<_> = rows
            .iter()
            .map(|row| {
                let (hosts, methods) = (row.hosts.join(","), row.methods.join(","));
                let (path, listeners) = (row.path.clone(), row.listeners.join(","));
                [row.name.clone(), listeners, hosts, path, methods, row.to.clone(), row.plugins.join(",")]
            })
            .collect();
        table(["ROUTE", "LISTENERS", "HOSTS", "PATH", "METHODS", "TO", "PLUGINS"], &cells)
    })
}

fn row(config: &Config, route: &Route) -> Row {
    let (tcp, sni) = match &route.action {
        Action::Tcp(forward) => (true, forward.sni.clone()),
        _ => (false, Vec::new()),
    };
    let path = match &route.matches.path {
        _ if tcp => "-".to_owned(),
        Some(PathMatch::Pattern(pattern)) => pattern.clone(),
        Some(PathMatch::Prefix(prefix)) => format!("{}/*", prefix.trim_end_matches('/')),
        None => "/*".to_owned(),
    };
    let belongs = |listener: &&Listener| match route.listeners.is_empty() {
        true => tcp == (listener.protocol == ListenerProtocol::Tcp),
        false => route.listeners.contains(&listener.name),
    };
    Row {
        name: route.name.clone(),
        listeners: config.listeners.iter().filter(belongs).map(|listener| listener.name.clone()).collect(),
        hosts: if tcp { sni } else { route.matches.hosts.clone() },
        path,
        methods: route.matches.methods.clone(),
        to: destination(&route.action),
        plugins: match tcp {
            true => Vec::new(),
            false => config.gateway.plugins.iter().chain(&route.plugins).cloned().collect(),
        },
    }
}

/// The destination of a route, in a few words.
pub(super) fn destination(action: &Action) -> String {
    match action {
        Action::Forward(forward) => upstreams(&forward.upstreams),
        Action::Redirect { status, location } => format!("{status} {location}"),
        Action::Respond { status, .. } => status.to_string(),
        Action::Publish(publish) => format!("broker {}", publish.broker),
        Action::Tcp(forward) => upstreams(&forward.upstreams),
    }
}

fn upstreams(weighted: &[(String, u32)]) -> String {
    match weighted {
        [(name, _)] => name.clone(),
        several => {
            several.iter().map(|(name, weight)| format!("{name}:{weight}")).collect::<Vec<_>>().join(",")
        }
    }
}
