//! `witgate route …`

use std::fmt::Write;
use std::net::IpAddr;

use clap::{Args, Subcommand};
use http::{HeaderName, HeaderValue, Method, Uri};
use serde::Serialize;
use witgate_config::Config;
use witgate_config::model::Listener;
use witgate_exchange::head::{RequestHead, Scheme};
use witgate_exchange::path::{normalise, normalise_apart};
use witgate_proxy::router::when::Spellings;
use witgate_proxy::router::{Considered, Found, Router, Verdict};

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
    /// URL, or a path for any host. Scheme and port choose the listener
    url: Uri,
    /// Header, e.g. `accept: text/html`; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = request::header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Address of the client, for conditions of bindings
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    client: IpAddr,
    /// Listener the request arrives at [default: the one with the scheme and port of the URL; the first for a path]
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
    address: String,
    tls: bool,
    path: String,
    route: Option<String>,
    to: Option<String>,
    plugins: Vec<String>,
    /// The bindings among them that are not called, or may not be.
    conditional: Vec<ConditionalRow>,
    considered: Vec<Row>,
}

#[derive(Serialize)]
struct ConditionalRow {
    binding: String,
    verdict: String,
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
    let listener = match &test.listener {
        Some(name) => config.listeners.iter().find(|listener| listener.name == *name),
        None => Some(listener_of(&config.listeners, &test.url)?),
    };
    let named = listener.and_then(|listener| Some((listener, snapshot.routers.get(&listener.name)?)));
    let (listener, router) = named.ok_or_else(|| {
        let name = test.listener.as_deref().unwrap_or_default();
        Failure::new(Exit::Usage, format!("there is no listener `{name}`: {}", listed(&config.listeners)))
    })?;
    let received = test.url.path_and_query().map_or("/", |target| target.as_str());
    let slashes = config.gateway.encoded_slashes;
    let refused = |fault| Failure::new(Exit::Failure, format!("the request is refused: {fault}"));
    let target = normalise(received, slashes).map_err(refused)?;
    let authority = test.url.authority().map_or("localhost", |authority| authority.as_str());
    let scheme = if listener.tls.is_some() { Scheme::Https } else { Scheme::Http };
    let mut head =
        RequestHead { scheme, ..request::head(test.method.clone(), target, authority, &test.headers) };
    head.client.address = test.client;
    let considered = router.explain(&head);
    let taken = considered.iter().find(|considered| considered.verdict == Verdict::Taken);
    let route = taken.and_then(|taken| config.routes.iter().find(|route| *route.name == *taken.route));
    if route.is_some_and(|route| !route.merge_slashes) {
        // What plugins and the upstream get. The route is chosen by the merged path.
        head.target = normalise_apart(received, slashes).map_err(refused)?;
    }
    Ok(Report {
        path: head.path().to_owned(),
        route: route.map(|route| route.name.clone()),
        to: route.map(|route| routes::destination(&route.action)),
        plugins: route.map(|route| plugins(config, &listener.name, &route.plugins)).unwrap_or_default(),
        conditional: conditional(router, &head),
        considered: considered.iter().map(row).collect(),
        listener: listener.name.clone(),
        address: listener.address.to_string(),
        tls: listener.tls.is_some(),
    })
}

/// The listener at which a URL arrives: that of its scheme and port. Without a port in the URL, the one at the
/// default port of the scheme, or else the first of that scheme. A path alone arrives at the first listener.
fn listener_of<'c>(listeners: &'c [Listener], url: &Uri) -> Result<&'c Listener, Failure> {
    let Some(scheme) = url.scheme_str() else { return Ok(&listeners[0]) };
    let tls = match scheme {
        "http" => false,
        "https" => true,
        other => {
            let message = format!("the scheme of a URL is `http` or `https`, not `{other}`");
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    let mut of_scheme = listeners.iter().filter(|listener| listener.tls.is_some() == tls);
    let found = match url.port_u16() {
        Some(port) => of_scheme.find(|listener| listener.address.port() == port),
        None => {
            let default = if tls { 443 } else { 80 };
            let at_default = of_scheme.clone().find(|listener| listener.address.port() == default);
            at_default.or_else(|| of_scheme.next())
        }
    };
    found.ok_or_else(|| {
        let port = url.port_u16().map(|port| format!(" at port {port}")).unwrap_or_default();
        let message = format!(
            "no listener serves {scheme}{port}: {}. If something in front of the gateway changes scheme or port, name \
             the listener with --listener",
            listed(listeners)
        );
        Failure::new(Exit::Usage, message)
    })
}

/// The listeners, for messages.
fn listed(listeners: &[Listener]) -> String {
    let one = |listener: &Listener| {
        format!("`{}` ({}, {})", listener.name, listener.address, kind(listener.tls.is_some()))
    };
    format!("the listeners are {}", listeners.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn kind(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

/// The bindings that apply to a request, those of the gateway first.
fn plugins(config: &Config, listener: &str, of_route: &[String]) -> Vec<String> {
    let listener = config.listeners.iter().filter(|known| known.name == listener);
    let of_listener = listener.flat_map(|listener| &listener.plugins);
    config.gateway.plugins.iter().chain(of_listener).chain(of_route).cloned().collect()
}

/// The bindings that are not called for a request, or may not be, and why.
fn conditional(router: &Router, head: &RequestHead) -> Vec<ConditionalRow> {
    let Found::Route(route, _) = router.find(head) else { return Vec::new() };
    let explained = route.conditional.iter().filter_map(|conditional| {
        let verdict = conditional.when.explain(head, &Spellings::of(head.path()))?;
        Some(ConditionalRow { binding: conditional.name.to_string(), verdict })
    });
    explained.collect()
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
    let mut text = format!("listener {} ({}, {})\n", report.listener, report.address, kind(report.tls));
    if let (Some(route), Some(to)) = (&report.route, &report.to) {
        let plugins = if report.plugins.is_empty() { "none".to_owned() } else { report.plugins.join(", ") };
        let _ =
            writeln!(text, "route    {route}\npath     {}\nplugins  {plugins}\nto       {to}", report.path);
        for ConditionalRow { binding, verdict } in &report.conditional {
            let _ = writeln!(text, "  binding {binding}: {verdict}");
        }
    }
    for row in &report.considered {
        let _ = writeln!(text, "  {}: {}", row.route, row.verdict);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_and_port_choose_the_listener() {
        let listener = |name: &str, port: u16, more: &str| {
            format!("[[listeners]]\nname = \"{name}\"\naddress = \"127.0.0.1:{port}\"\n{more}\n")
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        let tls = format!("tls = {{ certificate = {0:?}, key = {0:?} }}", file.path());
        let text = [
            listener("inner", 8080, ""),
            listener("edge", 8443, &tls),
            listener("web", 80, ""),
            listener("other", 9443, &tls),
        ];
        let loaded = witgate_config::parse_str(&(text.concat() + "[[routes]]\nrespond = { status = 200 }\n"));
        let listeners = loaded.unwrap_or_else(|failure| panic!("{}", failure.render(false))).config.listeners;
        let chosen =
            |url: &str| listener_of(&listeners, &url.parse().unwrap()).map(|listener| &*listener.name);
        for (url, expected) in [
            ("/a", "inner"),
            ("http://a.test/", "web"),
            ("https://a.test/", "edge"),
            ("http://a.test:8080/", "inner"),
            ("https://a.test:9443/", "other"),
        ] {
            assert_eq!(chosen(url).unwrap(), expected, "{url}");
        }
        for url in ["http://a.test:8443/", "https://a.test:8080/", "https://a.test:1/", "ws://a.test/"] {
            let failure = chosen(url).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{url}");
        }
        let failure = chosen("https://a.test:1/").unwrap_err();
        for part in ["no listener serves https at port 1", "`edge` (127.0.0.1:8443, https)", "--listener"] {
            assert!(failure.message.contains(part), "{}", failure.message);
        }
    }
}
