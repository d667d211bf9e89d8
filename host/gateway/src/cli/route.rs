//! `witgate route …`

use std::fmt::Write;

use clap::{Args, Subcommand};
use http::{HeaderName, HeaderValue, Method, Uri};
use serde::Serialize;
use witgate_config::Config;
use witgate_exchange::path::normalise;
use witgate_proxy::router::{Considered, Verdict};

use super::output::{Format, print};
use super::place::ConfigPlace;
use super::{request, routes};
use crate::control;
use crate::control::source::Source;
use crate::exit::{Exit, ExitResult, Failure};

/// Inspect routes.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Test(Test),
}

/// Print which route a request would take, and why not the others.
///
/// Exit code 1 if it would take none.
#[derive(Args)]
struct Test {
    /// Method
    method: Method,
    /// URL, or a path for any host
    url: Uri,
    /// Header, e.g. `accept: text/html`; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = request::header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Listener the request arrives at [default: the first]
    #[arg(long)]
    listener: Option<String>,
    #[command(flatten)]
    config: ConfigPlace,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    listener: String,
    path: String,
    route: Option<String>,
    to: Option<String>,
    plugins: Vec<String>,
    considered: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    route: String,
    verdict: String,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let Command::Test(test) = &arguments.command;
    let report = report(test)?;
    print(test.format, &report, || describe(&report))?;
    match report.route {
        Some(_) => Ok(()),
        None => Err(Failure::new(Exit::Failure, "no route is taken")),
    }
}

fn report(test: &Test) -> Result<Report, Failure> {
    let snapshot = control::build_without_plugins(&Source::Path(test.config.path()))?;
    let config = &snapshot.config;
    let listener = test.listener.clone().unwrap_or_else(|| config.listeners[0].name.clone());
    let router = snapshot
        .routers
        .get(&listener)
        .ok_or_else(|| Failure::new(Exit::Usage, format!("there is no listener `{listener}`")))?;
    let target = test.url.path_and_query().map_or("/", |target| target.as_str());
    let target = normalise(target, config.gateway.encoded_slashes)
        .map_err(|fault| Failure::new(Exit::Failure, format!("the request is refused: {fault}")))?;
    let authority = test.url.authority().map_or("localhost", |authority| authority.as_str());
    let head = request::head(test.method.clone(), target, authority, &test.headers);
    let considered = router.explain(&head);
    let taken = considered.iter().find(|considered| considered.verdict == Verdict::Taken);
    let route = taken.and_then(|taken| config.routes.iter().find(|route| *route.name == *taken.route));
    Ok(Report {
        path: head.path().to_owned(),
        route: route.map(|route| route.name.clone()),
        to: route.map(|route| routes::destination(&route.action)),
        plugins: route.map(|route| plugins(config, &listener, &route.plugins)).unwrap_or_default(),
        considered: considered.iter().map(row).collect(),
        listener,
    })
}

/// The bindings that apply to a request, those of the gateway first.
fn plugins(config: &Config, listener: &str, of_route: &[String]) -> Vec<String> {
    let listener = config.listeners.iter().filter(|known| known.name == listener);
    let of_listener = listener.flat_map(|listener| &listener.plugins);
    config.gateway.plugins.iter().chain(of_listener).chain(of_route).cloned().collect()
}

fn row(considered: &Considered) -> Row {
    let verdict = match &considered.verdict {
        Verdict::Taken => "taken".to_owned(),
        Verdict::LessSpecific => "matches too, but is less specific".to_owned(),
        Verdict::OtherMethod => "is for other methods".to_owned(),
        Verdict::Header(name) => format!("its condition on the header `{name}` does not hold"),
        Verdict::Query(name) => format!("its condition on the query parameter `{name}` does not hold"),
    };
    Row { route: considered.route.to_string(), verdict }
}

fn describe(report: &Report) -> String {
    let mut text = String::new();
    if let (Some(route), Some(to)) = (&report.route, &report.to) {
        let plugins = if report.plugins.is_empty() { "none".to_owned() } else { report.plugins.join(", ") };
        let _ =
            writeln!(text, "route    {route}\npath     {}\nplugins  {plugins}\nto       {to}", report.path);
    }
    for row in &report.considered {
        let _ = writeln!(text, "  {}: {}", row.route, row.verdict);
    }
    text
}
