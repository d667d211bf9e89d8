//! What a request costs: CPU time of the proxy process for each request done, beside nginx in the same run.
//!
//! `cargo run --release -p witgate-bench` builds what it measures, starts an origin, nginx and several gateways, and
//! loads one after the other in interleaved rounds. Only ratios to nginx of the same round are compared: the machine
//! drifts, its neighbours make noise, and a ratio taken seconds apart survives both. Needs nginx, wrk and h2load.

mod artifacts;
mod load;
mod process;
mod report;
mod setup;

use anyhow::{Result, ensure};
use clap::Parser;

use crate::load::Load;
use crate::report::Row;
use crate::setup::{Bench, Subject};

/// What to measure, and how long.
#[derive(Parser)]
struct Options {
    /// Interleaved rounds; each gives one ratio for each subject.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load for each measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Worker threads of each proxy.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Where to write the results as JSON.
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.rounds > 0 && options.seconds > 0, "rounds and seconds must be above 0");
    let bench = Bench::start(options.workers)?;
    let mut rows: Vec<Row> = bench.subjects.iter().map(Row::new).collect();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        let costs = bench.subjects.iter().map(|subject| measure(subject, &bench, options.seconds));
        let costs = costs.collect::<Result<Vec<f64>>>()?;
        for (row, cost) in rows.iter_mut().zip(&costs) {
            row.microseconds.push(*cost);
            row.ratios.push(*cost / costs[row.baseline]);
        }
    }
    report::print(&rows);
    if let Some(path) = options.json {
        std::fs::write(&path, report::json(&rows, options.workers))?;
    }
    Ok(())
}

/// CPU microseconds of a subject for each request it answered.
fn measure(subject: &Subject, bench: &Bench, seconds: u32) -> Result<f64> {
    let load = Load { address: subject.address, protocol: subject.protocol, tokens: &bench.tokens };
    // Connections, pools and caches come up before the clock starts.
    load.run(1)?;
    let before = subject.process.cpu()?;
    let done = load.run(seconds)?;
    let spent = subject.process.cpu()? - before;
    ensure!(done.failed == 0, "{}: {} of {} requests failed", subject.name, done.failed, done.requests);
    Ok(spent.as_secs_f64() * 1e6 / done.requests as f64)
}
