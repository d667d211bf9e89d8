//! `witgate upstreams`

mod detail;
mod set;

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use http::Method;
use serde::Serialize;
use witgate_config::model::{Upstream, UpstreamProtocol};
use witgate_upstream::discovery::SinkStatus;
use witgate_upstream::{
    Availability, BreakerState, EndpointStatus, EventStatus, HealthState, TriesStatus, UpstreamStatus,
};

use super::output::{Format, print, table};
use super::place::AdminPlace;
use super::status::{ago, read, since};
use crate::admin::client::ask;
use crate::control::source::Source;
use crate::exit::{Exit, ExitResult, Failure};

/// Show the upstreams of a running gateway and their latest events, or change one of their endpoints.
///
/// With a name, everything about that upstream is shown: latencies of its endpoints, the addresses of their host names, and
/// what its source reports.
///
/// Where no gateway runs, the upstreams of the configuration are listed instead, and standard error says so; with
/// `--admin`, or `WITGATE_ADMIN`, it is a failure (exit code 5).
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Show this upstream only, in detail
    name: Option<String>,
    #[command(flatten)]
    admin: AdminPlace,
    /// List the upstreams of the configuration, without asking a gateway
    #[arg(long, conflicts_with = "admin")]
    configured: bool,
    /// How many of the latest events to show, of all upstreams together
    #[arg(long, value_name = "NUMBER", default_value_t = 10, conflicts_with = "configured")]
    events: usize,
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
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    if let Some(Command::Set(arguments)) = &arguments.command {
        return set::run(arguments);
    }
    if arguments.configured {
        return list_configured(arguments);
    }
    let place = arguments.admin.place();
    match ask(&place, Method::GET, "/upstreams") {
        Ok(answer) => {
            let mut upstreams: Vec<UpstreamStatus> = read(&place, &answer)?;
            if let Some(name) = &arguments.name {
                let names: Vec<String> = upstreams.iter().map(|upstream| upstream.name.clone()).collect();
                upstreams.retain(|upstream| upstream.name == *name);
                if upstreams.is_empty() {
                    return Err(Failure::new(Exit::Failure, unknown(name, &names)));
                }
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            print(arguments.format, &upstreams, || {
                let text = describe(&upstreams, arguments.events, now);
                if arguments.name.is_some() { text + &detail::describe(&upstreams) } else { text }
            })
        }
        Err(failure) if failure.exit == Exit::AdminUnreachable && !arguments.admin.is_given() => {
            list_configured(arguments)?;
            eprintln!("{} does not respond: showing the configuration.", place.describe());
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

fn list_configured(arguments: &Arguments) -> ExitResult {
    let reading = Source::Path(arguments.admin.config_path()).read()?;
    let names: Vec<String> = reading.config.upstreams.keys().cloned().collect();
    let mut upstreams: Vec<_> = reading.config.upstreams.iter().collect();
    if let Some(wanted) = &arguments.name {
        upstreams.retain(|(name, _)| *name == wanted);
        if upstreams.is_empty() {
            return Err(Failure::new(Exit::Failure, unknown(wanted, &names)));
        }
    }
    let rows: Vec<Row> = upstreams.into_iter().map(|(name, upstream)| row(name, upstream)).collect();
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

/// Says that there is no upstream of this name, and which there are.
fn unknown(name: &str, names: &[String]) -> String {
    let most = 20;
    let more = if names.len() > most { ", …" } else { "" };
    match names.is_empty() {
        true => format!("there is no upstream `{name}`: the configuration has none"),
        false => {
            let names = names[..names.len().min(most)].join(", ");
            format!("there is no upstream `{name}`; upstreams are {names}{more}")
        }
    }
}

fn row(name: &str, upstream: &Upstream) -> Row {
    let endpoints = upstream.endpoints.iter().map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port));
    let source = upstream.discover.iter().map(|discover| format!("by {}", discover.source.kind()));
    Row {
        name: name.to_owned(),
        endpoints: endpoints.chain(source).collect(),
        protocol: match upstream.protocol {
            UpstreamProtocol::Http1 => "http/1.1",
            UpstreamProtocol::Http2 => "h2",
            UpstreamProtocol::Tcp => "tcp",
        },
        tls: upstream.tls.is_some(),
        balancer: upstream.balancer.kind.clone(),
    }
}

fn describe(upstreams: &[UpstreamStatus], events: usize, now: u64) -> String {
    let endpoints = upstreams
        .iter()
        .flat_map(|upstream| upstream.endpoints.iter().map(|endpoint| (upstream.name.clone(), endpoint)));
    let rows: Vec<_> = endpoints
        .map(|(name, endpoint)| {
            [
                name,
                endpoint.address.clone(),
                state(endpoint),
                endpoint.weight.to_string(),
                endpoint.active.to_string(),
                endpoint.connections.to_string(),
                (endpoint.requests_succeeded + endpoint.requests_failed).to_string(),
                endpoint.requests_failed.to_string(),
            ]
        })
        .collect();
    let headings = ["UPSTREAM", "ENDPOINT", "STATE", "WEIGHT", "ACTIVE", "CONNECTIONS", "REQUESTS", "FAILED"];
    let mut text = table(headings, &rows);
    let tried_again = |upstream: &&UpstreamStatus| upstream.tries != TriesStatus::default();
    for UpstreamStatus { name, tries, .. } in upstreams.iter().filter(tried_again) {
        let TriesStatus { retries, budget_exhausted, hedges, hedges_won, .. } = tries;
        let _ = writeln!(
            text,
            "\n{name}: {retries} retries ({budget_exhausted} more exceeded the retry budget), {hedges} hedges ({hedges_won} responded first)"
        );
    }
    for upstream in upstreams.iter().filter(|upstream| upstream.panics) {
        let _ = writeln!(text, "\n{}: so few endpoints are usable that health is ignored", upstream.name);
    }
    upstreams.iter().for_each(|upstream| describe_guards(&mut text, upstream));
    text.push_str(&describe_events(upstreams, events, now));
    text
}

/// The latest events of all upstreams, in the order in which they happened.
fn describe_events(upstreams: &[UpstreamStatus], most: usize, now: u64) -> String {
    let mut events: Vec<(&str, &EventStatus)> = upstreams
        .iter()
        .flat_map(|upstream| upstream.events.iter().map(|event| (upstream.name.as_str(), event)))
        .collect();
    events.sort_by_key(|(_, event)| event.at);
    let earlier = events.len().saturating_sub(most);
    let mut text = String::new();
    if earlier < events.len() {
        text.push_str("\nlatest events, the latest last:\n");
    }
    for (name, event) in &events[earlier..] {
        text.push_str(&describe_event(name, event, now));
    }
    if earlier > 0 {
        let _ = writeln!(text, "\n{earlier} earlier events are not shown: --events {}", events.len());
    }
    text
}

/// The parts that concern the whole upstream: its circuit breaker, its limits, its fallbacks.
fn describe_guards(text: &mut String, upstream: &UpstreamStatus) {
    let name = &upstream.name;
    match upstream.breaker {
        Some(BreakerState::Open) => drop(writeln!(text, "\n{name}: breaker open")),
        Some(BreakerState::HalfOpen) => drop(writeln!(text, "\n{name}: breaker half-open")),
        Some(BreakerState::Closed) | None => {}
    }
    if let Some(source) = &upstream.source {
        describe_source(text, name, source);
    }
    if let Some(load) = &upstream.load {
        let _ = write!(text, "\n{name}: {} requests in flight", load.requests);
        if load.max_requests > 0 {
            let _ = write!(text, ", at most {}", load.max_requests);
        }
        if let Some(limit) = load.concurrency {
            let _ = write!(text, ", adaptive limit {limit}");
        }
        let _ = write!(text, ", {} wait, {} dropped so far", load.waiting, upstream.shed);
        text.push_str(if upstream.shedding { ", being dropped now\n" } else { "\n" });
    }
    if !upstream.fallbacks.is_empty() {
        let taken: Vec<String> =
            upstream.fallbacks.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let _ = writeln!(text, "\n{name}: fallbacks taken: {}", taken.join(", "));
    }
}

fn describe_source(text: &mut String, name: &str, source: &SinkStatus) {
    let _ = match source.changes {
        0 if !source.restored => write!(text, "\n{name}: no endpoints from {} so far", source.kind),
        _ => write!(
            text,
            "\n{name}: {} endpoints from {}, confirmed {}, changed {}",
            source.endpoints,
            source.kind,
            since(source.age),
            source.changed.map_or_else(|| "never".to_owned(), since)
        ),
    };
    if source.left_out > 0 {
        let _ = write!(text, ", {} left out", source.left_out);
    }
    if source.restored {
        text.push_str(", kept from before the start");
    }
    if source.stale {
        text.push_str(", STALE");
    }
    let error = source.error.as_ref().map(|error| format!(": {error}"));
    let _ = writeln!(text, "{}", error.unwrap_or_default());
}

/// Why an endpoint takes no requests, the longest-lasting reason first; or that it takes them.
fn state(endpoint: &EndpointStatus) -> String {
    if endpoint.availability == Availability::Drained {
        return if endpoint.active > 0 { "draining" } else { "drained" }.to_owned();
    }
    if endpoint.availability == Availability::NotReady {
        return "not ready".to_owned();
    }
    if endpoint.availability == Availability::Stale {
        return "stale".to_owned();
    }
    if endpoint.weight == 0 {
        return "no weight".to_owned();
    }
    if endpoint.health == HealthState::Unhealthy {
        let why = endpoint.check_failure.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        return format!("unhealthy{why}");
    }
    if let Some(remains) = endpoint.ejected_for {
        return format!("ejected {} s", remains.div_ceil(1000));
    }
    match (endpoint.breaker, endpoint.health) {
        (BreakerState::Open, _) => "breaker open".to_owned(),
        (BreakerState::HalfOpen, _) => "half-open".to_owned(),
        (BreakerState::Closed, HealthState::Unknown) => "in service".to_owned(),
        (BreakerState::Closed, _) => "healthy".to_owned(),
    }
}

fn describe_event(upstream: &str, event: &EventStatus, now: u64) -> String {
    let of = event.endpoint.as_deref().map(|endpoint| format!("{endpoint} ")).unwrap_or_default();
    let why = if event.why.is_empty() { String::new() } else { format!(": {}", event.why) };
    format!("  {} ago  {of}{}{why} ({upstream})\n", ago(now, event.at / 1000), event.event)
}

#[cfg(test)]
mod tests {
    use witgate_upstream::LoadStatus;

    use super::*;

    fn endpoint() -> EndpointStatus {
        EndpointStatus {
            address: "10.0.0.1:80".to_owned(),
            weight: 1,
            written_weight: None,
            percent: 100,
            priority: 0,
            zone: None,
            availability: Availability::Available,
            latency_micros: None,
            p50_micros: Some(1500),
            p95_micros: None,
            resolved: Vec::new(),
            lookup_failure: None,
            active: 2,
            connections: 3,
            idle: 1,
            breaker: BreakerState::Closed,
            health: HealthState::Unknown,
            checks_succeeded: 0,
            checks_failed: 0,
            check_failure: None,
            ejected_for: None,
            requests_succeeded: 90,
            requests_failed: 10,
        }
    }

    #[test]
    fn a_state_is_one_word_and_a_reason() {
        let unhealthy = EndpointStatus {
            health: HealthState::Unhealthy,
            check_failure: Some("status 503".to_owned()),
            ejected_for: Some(1),
            ..endpoint()
        };
        for (status, expected) in [
            (endpoint(), "in service"),
            (EndpointStatus { health: HealthState::Healthy, ..endpoint() }, "healthy"),
            (unhealthy, "unhealthy (status 503)"),
            (EndpointStatus { ejected_for: Some(11_001), ..endpoint() }, "ejected 12 s"),
            (EndpointStatus { breaker: BreakerState::Open, ..endpoint() }, "breaker open"),
            (EndpointStatus { breaker: BreakerState::HalfOpen, ..endpoint() }, "half-open"),
            (EndpointStatus { weight: 0, ..endpoint() }, "no weight"),
            (EndpointStatus { availability: Availability::NotReady, ..endpoint() }, "not ready"),
            (EndpointStatus { availability: Availability::Stale, ..endpoint() }, "stale"),
            (EndpointStatus { availability: Availability::Drained, ..endpoint() }, "draining"),
            (EndpointStatus { availability: Availability::Drained, active: 0, ..endpoint() }, "drained"),
        ] {
            assert_eq!(state(&status), expected);
        }
    }

    #[test]
    fn endpoints_are_a_table_and_events_come_below() {
        let event = EventStatus {
            at: 95_000,
            event: "ejected".to_owned(),
            endpoint: Some("10.0.0.1:80".to_owned()),
            why: "5 faults in a row".to_owned(),
        };
        let upstream = UpstreamStatus {
            name: "users".to_owned(),
            balancer: "round-robin".to_owned(),
            connections: 3,
            max_connections: 0,
            pending: 0,
            panics: true,
            breaker: Some(BreakerState::Open),
            load: Some(LoadStatus { requests: 5, max_requests: 100, concurrency: Some(20), waiting: 2 }),
            shed: 7,
            shedding: true,
            fallbacks: [("respond".to_owned(), 3)].into(),
            endpoints: vec![endpoint()],
            tries: TriesStatus { retries: 3, budget_exhausted: 1, ..TriesStatus::default() },
            source: Some(SinkStatus {
                kind: "dns".to_owned(),
                age: 61_000,
                changed: Some(300_000),
                changes: 2,
                failing: true,
                stale: false,
                restored: false,
                endpoints: 1,
                left_out: 1,
                refused: Vec::new(),
                error: Some("the registry does not answer".to_owned()),
            }),
            events: vec![event],
        };
        let text = describe(&[upstream], 10, 100);
        for line in [
            "UPSTREAM  ENDPOINT     STATE       WEIGHT  ACTIVE  CONNECTIONS  REQUESTS  FAILED",
            "users     10.0.0.1:80  in service  1       2       3            100       10",
            "latest events, the latest last:",
            "  5 s ago  10.0.0.1:80 ejected: 5 faults in a row (users)",
            "users: 3 retries (1 more exceeded the retry budget), 0 hedges (0 responded first)",
            "users: so few endpoints are usable that health is ignored",
            "users: breaker open",
            "users: 5 requests in flight, at most 100, adaptive limit 20, 2 wait, 7 dropped so far, being dropped now",
            "users: fallbacks taken: respond 3",
            "users: 1 endpoints from dns, confirmed 61 s ago, changed 5 min ago, 1 left out: the registry does not answer",
        ] {
            assert!(text.lines().any(|written| written == line), "`{line}` is missing in:\n{text}");
        }
    }

    #[test]
    fn only_the_latest_events_of_all_upstreams_are_shown() {
        let upstream = |name: &str, first: u64| UpstreamStatus {
            name: name.to_owned(),
            balancer: "round-robin".to_owned(),
            source: None,
            connections: 0,
            max_connections: 0,
            pending: 0,
            panics: false,
            breaker: None,
            load: None,
            shed: 0,
            shedding: false,
            fallbacks: [].into(),
            endpoints: vec![endpoint()],
            tries: TriesStatus::default(),
            events: (0..50)
                .map(|number| EventStatus {
                    at: (first + 2 * number) * 1000,
                    event: "ejected".to_owned(),
                    endpoint: None,
                    why: String::new(),
                })
                .collect(),
        };
        let upstreams = [upstream("a", 0), upstream("b", 1)];
        let text = describe(&upstreams, 3, 100);
        let events = "latest events, the latest last:\n  3 s ago  ejected (b)\n  2 s ago  ejected (a)\n  1 s ago  ejected (b)\n";
        assert!(text.contains(events), "{text}");
        assert!(text.ends_with("97 earlier events are not shown: --events 100\n"), "{text}");
        assert!(text.lines().count() < 12, "{text}");
        assert!(!describe(&upstreams, 100, 100).contains("not shown"));
        assert!(!describe(&upstreams, 0, 100).contains("ago"));
    }
}
