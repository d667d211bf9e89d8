//! What a request costs, beside the peers that are installed.
//!
//! `cargo run --release -p witgate-bench` builds Witgate ([`trained`]), starts an origin and the proxies of one row after
//! the other, and loads them in interleaved rounds. CPU time is read from `/proc`, for all threads and all processes of a
//! proxy. Only ratios to nginx of the same round are compared: the machine drifts, its neighbours make noise, and a ratio taken
//! seconds apart survives both.
//!
//! Needs nginx, wrk and h2load. haproxy, Caddy, Envoy and nginx with Lua are compared when they are there.
//!
//! The way: [`peers`] turn a [`scene`] into a configuration, [`load`] loads, [`rows`] say what is compared, [`report`]
//! prints it. A peer or a kind of row is one file and its line in a table.

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

/// What to measure, and how long.
#[derive(Parser)]
struct Options {
    /// Rows to measure, by name; all of them without it.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// List the rows and end.
    #[arg(long)]
    list: bool,
    /// Interleaved rounds; each gives one ratio for each subject.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load for each measurement.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// One round of one second: whether it works, not what it costs.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Envoy's program, where it is not on the search path.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// A gateway that is measured instead of the one that would be built.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// Measure what `cargo build --release` gives, not the trained build.
    #[arg(long, conflicts_with = "gateway")]
    untrained: bool,
    /// Build the trained gateway, print its path, and end.
    #[arg(long, conflicts_with_all = ["gateway", "untrained"])]
    build: bool,
    /// Where to write the results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where to write them as a chart.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Where to write them as a table in Markdown: without a path, into the page of the book, whose own words are kept.
    #[arg(long, num_args = 0..=1, default_missing_value = "docs/src/benchmarks.md")]
    markdown: Option<PathBuf>,
    /// End with 1 when a row misses its minimum.
    #[arg(long)]
    assert: bool,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if options.list {
        ROWS.iter().for_each(|row| println!("{:16} {}", row.name, row.about));
        return Ok(ExitCode::SUCCESS);
    }
    // First: it would be missed only after minutes of compiling.
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

/// Sleeps. The bench waits for processes and for the time at which a request is due.
#[expect(clippy::disallowed_methods, reason = "no runtime runs on the threads that wait here")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
