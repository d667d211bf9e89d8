//! Measures the CPU time of a request in Witgate and in the other proxies (peers) that are installed.
//!
//! `cargo run --release -p witgate-bench` builds Witgate ([`trained`]), starts an origin and, row by row, the
//! proxies, and loads them in interleaved rounds. CPU time is read from `/proc`, for all threads and all processes
//! of a proxy. Only ratios to nginx within a round are compared, because the speed of a shared machine changes
//! over minutes.
//!
//! Needs nginx, wrk and h2load. haproxy, Caddy, Envoy and nginx with Lua are compared if they are installed.
//!
//! [`peers`] turn a [`scene`] into a configuration, [`load`] generates the requests, [`rows`] define what is
//! compared, and [`report`] prints the results. A peer or a kind of row is one file and one line in a table.

mod arranged;
mod artifacts;
mod bench;
mod certificate;
mod load;
mod machine;
mod origin;
mod peers;
mod process;
mod report;
mod rows;
mod scene;
mod spread;
mod tokens;
mod trained;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;

use crate::bench::Bench;
use crate::report::Report;
use crate::rows::ROWS;

/// What to measure, and for how long.
#[derive(Parser)]
struct Options {
    /// Rows to measure, by name; the default is all rows.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// List the rows and exit.
    #[arg(long)]
    list: bool,
    /// Interleaved rounds; each of them gives one ratio for each subject.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load for each measurement.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// One round of one second, to check that everything works; the figures mean nothing.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Path of Envoy's program, if it is not in the search path.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// A gateway to measure instead of building one.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// Measure the output of `cargo build --release` instead of the trained build.
    #[arg(long, conflicts_with = "gateway")]
    untrained: bool,
    /// Build the trained gateway, print its path, and exit.
    #[arg(long, conflicts_with_all = ["gateway", "untrained"])]
    build: bool,
    /// File for the results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// File for the results as a chart.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// File for the results as a Markdown table; without a path, the page of the book, whose text is kept.
    #[arg(long, num_args = 0..=1, default_missing_value = "docs/src/benchmarks.md")]
    markdown: Option<PathBuf>,
    /// Exit with 1 if a row misses its minimum.
    #[arg(long)]
    assert: bool,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if options.list {
        ROWS.iter().for_each(|row| println!("{:16} {}", row.name, row.about));
        return Ok(ExitCode::SUCCESS);
    }
    // Checked first, because the build would fail on it only after minutes.
    artifacts::ensure_component_target()?;
    if options.build {
        println!("{}", trained::build()?.0.display());
        return Ok(ExitCode::SUCCESS);
    }
    let rows = rows::select(&options.only)?;
    let (rounds, seconds) = if options.quick { (1, 1) } else { (options.rounds, options.seconds) };
    ensure!(rounds > 0 && seconds > 0, "rounds and seconds must be above 0");
    let gateway = match options.gateway {
        Some(gateway) => (std::path::absolute(gateway)?, "build that was given"),
        None if options.untrained => (artifacts::release()?, "untrained build"),
        None => trained::build()?,
    };
    let bench = Bench::prepare(rounds, seconds, options.envoy.as_deref(), gateway)?;
    let mut report = Report::begin(&bench);
    for row in rows {
        eprintln!("{}: {}", row.name, row.about);
        match (row.measure)(&bench) {
            Ok(lines) => report.add(row, lines),
            Err(error) => report.fail(row, &error),
        }
    }
    print!("{}", report::table::text(&report));
    for (path, render) in
        [(options.json, report::json::text as fn(&Report) -> String), (options.svg, report::svg::text)]
    {
        if let Some(path) = path {
            std::fs::write(path, render(&report))?;
        }
    }
    if let Some(path) = options.markdown {
        let before = std::fs::read_to_string(&path).ok();
        std::fs::write(
            path,
            report::markdown::document(before.as_deref(), &report::markdown::text(&report)),
        )?;
    }
    let failed = !report.failures.is_empty() || options.assert && report.misses_a_minimum();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Sleeps. The bench polls processes and waits for the times at which requests are due.
#[expect(clippy::disallowed_methods, reason = "no runtime runs on the threads that wait here")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
