//! `witgate plugin bench`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use witgate_exchange::contracts::Binding;
use witgate_proxy::snapshot::Snapshot;

use super::call::{self, Contract, Sent, Served};
use super::scratch;
use crate::cli::output::{Format, print, table};
use crate::control;
use crate::exit::{Exit, ExitResult, Failure};

/// Calls before the first one that is measured.
const BEFORE: u32 = 20;

/// The most calls that are made to count instructions, which differ little from call to call.
const COUNTED: u32 = 200;

/// Time for the last line of the log to be written.
const LAST_LINE: Duration = Duration::from_secs(1);

/// Call a plugin many times, and print what a call costs: microseconds, instructions, memory.
///
/// Instructions are those of WebAssembly. They are counted in calls of their own, because counting makes them slower; they
/// do not depend on the machine or its load.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The component
    file: PathBuf,
    /// Which contract to call [default: every one it implements]
    #[arg(long, value_enum)]
    contract: Option<Contract>,
    /// Number of calls that are measured
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    calls: u32,
    #[command(flatten)]
    binding: scratch::Binding,
    #[command(flatten)]
    request: call::request::Options,
    #[command(flatten)]
    response: call::response::Options,
    #[command(flatten)]
    format: Format,
}

/// What the calls of one contract cost.
#[derive(Serialize)]
struct Cost {
    contract: &'static str,
    calls: u32,
    /// The median.
    microseconds: f64,
    /// 99 of 100 calls took at most this long.
    microseconds_p99: f64,
    /// Of one call, on average.
    instructions: u64,
    /// The most memory that an instance had so far, in bytes.
    memory: u64,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let sent = Sent {
        head: Arc::new(arguments.request.head()?),
        body: arguments.request.body()?,
        response: arguments.response.response()?,
    };
    let source = arguments.binding.source(&arguments.file, None)?;
    let (timed, counted) = (control::build_once(&source)?, control::build_counting(&source)?);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let telemetry = [timed.telemetry, counted.telemetry];
    let measure = async {
        let (timed, counted) = (Subject::of(timed.snapshot)?, Subject::of(counted.snapshot)?);
        let mut costs = Vec::new();
        for (served, again) in timed.wanted(arguments).iter().zip(&counted.wanted(arguments)) {
            costs.push(cost(arguments, &sent, (&timed, served), (&counted, again)).await?);
        }
        Ok::<_, Failure>(costs)
    };
    let costs = tokio::task::LocalSet::new().block_on(&runtime, measure);
    // The lines of the plugin, and why a call failed, stand before the result.
    for one in &telemetry {
        one.flush(LAST_LINE);
    }
    let costs = costs?;
    if costs.is_empty() {
        return Err(Failure::new(
            Exit::PluginRefused,
            "the plugin implements no contract that is called for requests",
        ));
    }
    print(arguments.format, &costs, || describe(&costs))
}

/// A plugin that is measured.
struct Subject {
    snapshot: Arc<Snapshot>,
    plugin: Arc<dyn Binding>,
}

impl Subject {
    fn of(snapshot: Snapshot) -> Result<Subject, Failure> {
        let plugin = snapshot.plugins.values().next().cloned();
        let lost = || Failure::new(Exit::Failure, "the scratch configuration has lost its binding");
        Ok(Subject { plugin: plugin.ok_or_else(lost)?, snapshot: Arc::new(snapshot) })
    }

    fn wanted(&self, arguments: &Arguments) -> Vec<Served> {
        call::wanted(arguments.contract, &self.plugin)
    }

    /// Makes calls; returns how long each took, in ascending order.
    async fn repeat(&self, count: u32, served: &Served, sent: &Sent) -> Result<Vec<Duration>, Failure> {
        let mut times = Vec::new();
        for _ in 0..count {
            let begun = Instant::now();
            let outcome = call::decide(served, &self.snapshot, sent).await;
            times.push(begun.elapsed());
            call::usable(served.contract().name(), outcome)?;
        }
        times.sort_unstable();
        Ok(times)
    }
}

async fn cost(
    arguments: &Arguments,
    sent: &Sent,
    (timed, served): (&Subject, &Served),
    (counted, again): (&Subject, &Served),
) -> Result<Cost, Failure> {
    timed.repeat(BEFORE, served, sent).await?;
    let times = timed.repeat(arguments.calls, served, sent).await?;
    // The first call makes an instance, whose set-up is no part of a call.
    counted.repeat(BEFORE, again, sent).await?;
    let (count, before) = (arguments.calls.min(COUNTED), counted.plugin.measured().instructions);
    counted.repeat(count, again, sent).await?;
    let instructions = counted.plugin.measured().instructions - before;
    let microseconds = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    Ok(Cost {
        contract: served.contract().name(),
        calls: arguments.calls,
        microseconds: microseconds(times.len() / 2),
        microseconds_p99: microseconds(times.len() * 99 / 100),
        instructions: instructions / u64::from(count),
        memory: timed.plugin.measured().memory,
    })
}

fn describe(costs: &[Cost]) -> String {
    let row = |cost: &Cost| {
        [
            cost.contract.to_owned(),
            format!("{:.1}", cost.microseconds),
            format!("{:.1}", cost.microseconds_p99),
            cost.instructions.to_string(),
            format!("{} KiB", cost.memory / 1024),
        ]
    };
    let rows: Vec<[String; 5]> = costs.iter().map(row).collect();
    table(["CONTRACT", "MICROSECONDS", "99 OF 100", "INSTRUCTIONS", "MEMORY"], &rows)
}
