//! `witgate plugin call`

mod checked;
mod request;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;
use witgate_exchange::contracts::{
    self, Authentication, AuthenticationByBody, BodyAccess, BodyContent, Call, CallFailure, Gate, Piece,
    RateLimiting, Reading, RefusalByBody, RequestOutcome, Routing, RoutingByBody, Transformation,
};
use witgate_exchange::head::RequestHead;
use witgate_proxy::snapshot::Snapshot;

use super::scratch::Binding;
use super::told;
use crate::cli::output::{Format, print};
use crate::control;
use crate::exit::{Exit, ExitResult, Failure};

/// Time for the last line of the log to be written.
const LAST_LINE: Duration = Duration::from_secs(1);

/// Call a plugin once, in the real runtime, and print what it decides and how long it takes.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The component
    file: PathBuf,
    /// Which contract to call [default: every one it implements]
    #[arg(long, value_enum)]
    contract: Option<Contract>,
    #[command(flatten)]
    binding: Binding,
    #[command(flatten)]
    request: request::Options,
    /// Call this many times, and print the last decision with the median time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repeat: u32,
    #[command(flatten)]
    format: Format,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Contract {
    Gate,
    Authentication,
    AuthenticationByBody,
    RateLimiting,
    RefusalByBody,
    Routing,
    RoutingByBody,
    Transformation,
}

#[derive(Serialize)]
struct Report {
    contract: &'static str,
    decision: Value,
    microseconds: f64,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let head = Arc::new(arguments.request.head()?);
    let body = arguments.request.body()?;
    let built = control::build_once(&arguments.binding.source(&arguments.file, None)?)?;
    let snapshot = Arc::new(built.snapshot);
    let plugin = snapshot.plugins.values().next().cloned();
    let plugin = plugin
        .ok_or_else(|| Failure::new(Exit::Failure, "the scratch configuration has lost its binding"))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let calls = async {
        let mut reports = Vec::new();
        for served in wanted(arguments, &plugin) {
            reports.push(report(arguments, &served, &head, &body, &snapshot).await?);
        }
        Ok::<_, Failure>(reports)
    };
    let reports = tokio::task::LocalSet::new().block_on(&runtime, calls);
    // The lines of the plugin, and why a call failed, stand before the result.
    built.telemetry.flush(LAST_LINE);
    let reports = reports?;
    if reports.is_empty() {
        return Err(Failure::new(Exit::PluginRefused, "the plugin does not implement this contract"));
    }
    print(arguments.format, &reports, || reports.iter().map(describe).collect())
}

/// A contract that the plugin serves.
enum Served {
    Gate(Arc<dyn Gate>),
    Authentication(Arc<dyn Authentication>),
    AuthenticationByBody(Arc<dyn AuthenticationByBody>),
    RateLimiting(Arc<dyn RateLimiting>),
    RefusalByBody(Arc<dyn RefusalByBody>),
    Routing(Arc<dyn Routing>),
    RoutingByBody(Arc<dyn RoutingByBody>),
    Transformation(Arc<dyn Transformation>),
}

impl Served {
    fn contract(&self) -> Contract {
        match self {
            Served::Gate(_) => Contract::Gate,
            Served::Authentication(_) => Contract::Authentication,
            Served::AuthenticationByBody(_) => Contract::AuthenticationByBody,
            Served::RateLimiting(_) => Contract::RateLimiting,
            Served::RefusalByBody(_) => Contract::RefusalByBody,
            Served::Routing(_) => Contract::Routing,
            Served::RoutingByBody(_) => Contract::RoutingByBody,
            Served::Transformation(_) => Contract::Transformation,
        }
    }
}

/// The contracts to call, in the order of a request's way.
fn wanted(arguments: &Arguments, plugin: &Arc<dyn contracts::Binding>) -> Vec<Served> {
    let plugin = || Arc::clone(plugin);
    let all = [
        plugin().gate().map(Served::Gate),
        plugin().authentication().map(Served::Authentication),
        plugin().authentication_by_body().map(Served::AuthenticationByBody),
        plugin().rate_limiting().map(Served::RateLimiting),
        plugin().refusal_by_body().map(Served::RefusalByBody),
        plugin().routing().map(Served::Routing),
        plugin().routing_by_body().map(Served::RoutingByBody),
        plugin().transformation().map(Served::Transformation),
    ];
    let served = all.into_iter().flatten();
    served.filter(|served| arguments.contract.is_none_or(|wanted| wanted == served.contract())).collect()
}

async fn report(
    arguments: &Arguments,
    served: &Served,
    head: &Arc<RequestHead>,
    body: &Bytes,
    snapshot: &Arc<Snapshot>,
) -> Result<Report, Failure> {
    let mut times: Vec<Duration> = Vec::new();
    let contract = name(served.contract());
    let mut decision = Value::Null;
    for _ in 0..arguments.repeat {
        let begun = Instant::now();
        let outcome = decide(served, Call { head, fetch: snapshot }, body).await;
        times.push(begun.elapsed());
        let outcome = outcome.map_err(|failure| {
            let message = format!(
                "the call of {} failed ({}); the lines above say why, if the plugin or the gateway could",
                contract,
                failure.as_str()
            );
            Failure::new(Exit::Failure, message)
        })?;
        decision = outcome.map_err(|why| {
            let message = format!("the gateway would refuse the result of {contract}: {why}");
            Failure::new(Exit::Failure, message)
        })?;
    }
    times.sort_unstable();
    let microseconds = times[times.len() / 2].as_secs_f64() * 1e6;
    Ok(Report { contract, decision, microseconds })
}

/// Calls one contract. The inner error says why the gateway would refuse the result.
async fn decide(served: &Served, call: Call<'_>, body: &Bytes) -> Result<Result<Value, String>, CallFailure> {
    Ok(match served {
        Served::Gate(plugin) => {
            let answer = plugin.admit(call).await?.content;
            checked::answer(answer.as_ref()).map(|()| told::answer(answer.as_ref()))
        }
        Served::AuthenticationByBody(plugin) => {
            let reading = plugin.interest().authenticates_by_body;
            let content = match content(reading, body) {
                Ok(content) => content,
                Err(refused) => return Ok(Err(refused)),
            };
            let decision = plugin.authenticate_by_body(call, content).await?;
            checked::decision(&decision).map(|()| told::decision(&decision))
        }
        Served::RefusalByBody(plugin) => {
            let content = match content(plugin.interest().refuses_by_body, body) {
                Ok(content) => content,
                Err(refused) => return Ok(Err(refused)),
            };
            let answer = plugin.refuse_by_body(call, content).await?;
            checked::answer(answer.as_ref()).map(|()| told::answer(answer.as_ref()))
        }
        Served::RoutingByBody(plugin) => {
            let content = match content(plugin.interest().routes_by_body, body) {
                Ok(content) => content,
                Err(refused) => return Ok(Err(refused)),
            };
            let destination = plugin.route_by_body(call, content).await?;
            checked::destination(destination.as_ref()).map(|()| told::destination(destination.as_ref()))
        }
        Served::Authentication(plugin) => {
            let decision = plugin.authenticate(call, true).await?;
            checked::decision(&decision).map(|()| told::decision(&decision))
        }
        Served::RateLimiting(plugin) => Ok(told::buckets(&plugin.draw(call).await?.content)),
        Served::Routing(plugin) => {
            let destination = plugin.route(call).await?.content;
            checked::destination(destination.as_ref()).map(|()| told::destination(destination.as_ref()))
        }
        Served::Transformation(plugin) => {
            let outcome = plugin.transform_request(call).await?.content;
            if let Err(why) = checked::request_outcome(&outcome) {
                return Ok(Err(why));
            }
            let mut decision = told::request_outcome(&outcome);
            if let RequestOutcome::Proceed(changes) = outcome
                && plugin.interest().request_body != BodyAccess::None
            {
                decision["request_body"] = request_body(plugin.as_ref(), call, body, changes.context).await?;
            }
            Ok(decision)
        }
    })
}

/// What a decision reads of the body, which is in no coding. The error says why the gateway would not call it.
fn content(reading: Option<Reading>, body: &Bytes) -> Result<BodyContent, String> {
    let extent = reading.ok_or("the plugin does not say what it reads of the body")?.extent;
    let most = extent.bytes();
    if extent.is_whole() && body.len() > most {
        return Err(format!("the body has {} bytes and the plugin reads at most {most}: 413", body.len()));
    }
    Ok(BodyContent { bytes: body.slice(..body.len().min(most)), complete: body.len() <= most })
}

/// The result for the body of the request, in one piece. As in the gateway, a plugin that declares it is called for an
/// empty body too.
async fn request_body(
    plugin: &dyn Transformation,
    call: Call<'_>,
    body: &Bytes,
    context: Bytes,
) -> Result<Value, CallFailure> {
    let piece = Piece { content: body.clone(), end: true, context };
    Ok(told::body(&plugin.transform_request_body(call, piece).await?))
}

fn name(contract: Contract) -> &'static str {
    match contract {
        Contract::Gate => "gate",
        Contract::Authentication => "authentication",
        Contract::AuthenticationByBody => "authentication-by-body",
        Contract::RateLimiting => "rate-limiting",
        Contract::RefusalByBody => "refusal-by-body",
        Contract::Routing => "routing",
        Contract::RoutingByBody => "routing-by-body",
        Contract::Transformation => "transformation",
    }
}

fn describe(report: &Report) -> String {
    let decision = serde_json::to_string_pretty(&report.decision).unwrap_or_default();
    format!("{}: {:.1} microseconds\n{decision}\n", report.contract, report.microseconds)
}
