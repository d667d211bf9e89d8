//! `witgate plugin call`

mod checked;
pub(super) mod request;
pub(super) mod response;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;
use witgate_exchange::contracts::{
    self, Authentication, AuthenticationByBody, BodyAccess, BodyContent, Call, CallFailure, Gate, Piece,
    RateLimiting, Reading, RefusalByBody, RequestOutcome, ResponseOutcome, Routing, RoutingByBody,
    Transformation,
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
    #[command(flatten)]
    response: response::Options,
    /// Call this many times, and print the last decision with the median time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repeat: u32,
    #[command(flatten)]
    format: Format,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contract {
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
    let (body, response) = (arguments.request.body()?, arguments.response.response()?);
    let built = control::build_once(&arguments.binding.source(&arguments.file, None)?)?;
    let snapshot = Arc::new(built.snapshot);
    let plugin = snapshot.plugins.values().next().cloned();
    let plugin = plugin
        .ok_or_else(|| Failure::new(Exit::Failure, "the scratch configuration has lost its binding"))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let sent = Sent { head, body, response };
    let calls = async {
        let mut reports = Vec::new();
        for served in wanted(arguments.contract, &plugin) {
            reports.push(report(arguments.repeat, &served, &sent, &snapshot).await?);
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
pub(super) enum Served {
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
    pub(super) fn contract(&self) -> Contract {
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
pub(super) fn wanted(contract: Option<Contract>, plugin: &Arc<dyn contracts::Binding>) -> Vec<Served> {
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
    served.filter(|served| contract.is_none_or(|wanted| wanted == served.contract())).collect()
}

/// What a plugin is called with.
pub(super) struct Sent {
    pub(super) head: Arc<RequestHead>,
    pub(super) body: Bytes,
    /// The response that transformations see, if they see one.
    pub(super) response: Option<response::Response>,
}

async fn report(
    repeat: u32,
    served: &Served,
    sent: &Sent,
    snapshot: &Arc<Snapshot>,
) -> Result<Report, Failure> {
    let mut times: Vec<Duration> = Vec::new();
    let contract = served.contract().name();
    let mut decision = Value::Null;
    for _ in 0..repeat {
        let begun = Instant::now();
        let outcome = decide(served, snapshot, sent).await;
        times.push(begun.elapsed());
        decision = usable(contract, outcome)?;
    }
    times.sort_unstable();
    let microseconds = times[times.len() / 2].as_secs_f64() * 1e6;
    Ok(Report { contract, decision, microseconds })
}

/// The decision, or why there is none.
pub(super) fn usable(
    contract: &str,
    outcome: Result<Result<Value, String>, CallFailure>,
) -> Result<Value, Failure> {
    let outcome = outcome.map_err(|failure| {
        let failure = failure.as_str();
        let message = format!(
            "the call of {contract} failed ({failure}); the lines above say why, if the plugin or the gateway could"
        );
        Failure::new(Exit::Failure, message)
    })?;
    outcome.map_err(|why| {
        let message = format!("the gateway would refuse the result of {contract}: {why}");
        Failure::new(Exit::Failure, message)
    })
}

/// Calls one contract. The inner error says why the gateway would refuse the result.
pub(super) async fn decide(
    served: &Served,
    snapshot: &Arc<Snapshot>,
    sent: &Sent,
) -> Result<Result<Value, String>, CallFailure> {
    let (call, body) = (Call { head: &sent.head, fetch: snapshot }, &sent.body);
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
        Served::Transformation(plugin) => transform(plugin.as_ref(), call, sent).await?,
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

/// The results for head and body of the request, and for head and body of the response if there is one. Bodies are in one
/// piece. As in the gateway, a plugin that declares them is called for empty bodies, too.
async fn transform(
    plugin: &dyn Transformation,
    call: Call<'_>,
    sent: &Sent,
) -> Result<Result<Value, String>, CallFailure> {
    let outcome = plugin.transform_request(call).await?.content;
    if let Err(why) = checked::request_outcome(&outcome) {
        return Ok(Err(why));
    }
    let mut decision = told::request_outcome(&outcome);
    let RequestOutcome::Proceed(changes) = outcome else { return Ok(Ok(decision)) };
    let (interest, mut context) = (plugin.interest(), changes.context);
    if interest.request_body != BodyAccess::None {
        let piece = Piece { content: sent.body.clone(), end: true, context: context.clone() };
        let result = plugin.transform_request_body(call, piece).await?;
        decision["request_body"] = told::body(&result);
        context = result.context.unwrap_or(context);
    }
    let Some(response) = &sent.response else { return Ok(Ok(decision)) };
    if interest.response {
        let head = Arc::clone(&response.head);
        let outcome = plugin.transform_response(call, head, context.clone()).await?.content;
        if let Err(why) = checked::response_outcome(&outcome) {
            return Ok(Err(why));
        }
        decision["response"] = told::response_outcome(&outcome);
        let ResponseOutcome::Proceed(changes) = outcome else { return Ok(Ok(decision)) };
        context = changes.context.unwrap_or(context);
    }
    if interest.response_body != BodyAccess::None {
        let piece = Piece { content: response.body.clone(), end: true, context };
        let result = plugin.transform_response_body(call, Arc::clone(&response.head), piece).await?;
        decision["response_body"] = told::body(&result);
    }
    Ok(Ok(decision))
}

impl Contract {
    /// The name in the contracts' own language.
    pub(super) fn name(self) -> &'static str {
        match self {
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
}

fn describe(report: &Report) -> String {
    let decision = serde_json::to_string_pretty(&report.decision).unwrap_or_default();
    format!("{}: {:.1} microseconds\n{decision}\n", report.contract, report.microseconds)
}
