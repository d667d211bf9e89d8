//! The rows of the comparison: one file for each kind of row, and one table.

use anyhow::{Result, ensure};

use crate::bench::Bench;
use crate::report::Line;

pub(crate) mod aim;
mod cost;
mod growth;
mod latency;
mod memory;
mod start;
mod swap;

/// One row of the comparison, with a line for each subject.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The unit of the lines' values.
    pub(crate) unit: &'static str,
    pub(crate) measure: fn(&Bench) -> Result<Vec<Line>>,
}

const CPU: &str = "CPU us a request";

/// All rows, in the order of measurement.
pub(crate) static ROWS: &[Row] = &[
    Row {
        name: "plain",
        about: "HTTP/1.1, 1 KiB responses, 64 keep-alive connections, 1 worker",
        unit: CPU,
        measure: |bench| cost::plain(bench, 1),
    },
    Row {
        name: "plain-2",
        about: "the same with 2 workers",
        unit: CPU,
        measure: |bench| cost::plain(bench, 2),
    },
    Row {
        name: "plugins",
        about: "the same, 1 worker, with four plugins, compared with peers without plugins and nginx with a Lua JWT check",
        unit: CPU,
        measure: cost::plugins,
    },
    Row {
        name: "large",
        about: "HTTP/1.1, 100 KiB responses, 64 keep-alive connections",
        unit: CPU,
        measure: cost::large,
    },
    Row {
        name: "cache",
        about: "hits of the cache, HTTP/1.1, 1 KiB responses, 64 keep-alive connections, 1 worker",
        unit: CPU,
        measure: cost::cache,
    },
    Row {
        name: "http2",
        about: "HTTP/2 in cleartext to HTTP/1.1, 16 connections of 8 streams, 1 KiB responses",
        unit: CPU,
        measure: cost::http2,
    },
    Row {
        name: "grpc",
        about: "gRPC unary calls, HTTP/2 on both sides, 16 connections of 8 streams, 128 bytes each way",
        unit: CPU,
        measure: cost::grpc,
    },
    Row {
        name: "tls",
        about: "TLS 1.3 to HTTP/1.1, 1 KiB responses, 64 keep-alive connections",
        unit: CPU,
        measure: cost::tls,
    },
    Row {
        name: "connect",
        about: "a new connection for each request, 1 KiB responses",
        unit: CPU,
        measure: |bench| cost::connect(bench, false),
    },
    Row {
        name: "connect-tls",
        about: "a new TLS 1.3 connection for each request, resumption off for all, ECDSA P-256",
        unit: CPU,
        measure: |bench| cost::connect(bench, true),
    },
    Row { name: "memory", about: "resident memory after a first load", unit: "KiB", measure: memory::idle },
    Row {
        name: "connections",
        about: "resident memory for 1,000 idle client connections",
        unit: "KiB",
        measure: memory::connections,
    },
    Row {
        name: "instances",
        about: "resident memory for each binding of a plugin and core",
        unit: "KiB",
        measure: memory::instances,
    },
    Row {
        name: "routes",
        about: "1 to 10,000 routes, requested in turn",
        unit: CPU,
        measure: growth::routes,
    },
    Row {
        name: "endpoints",
        about: "1 to 10,000 endpoints, taken in turn",
        unit: CPU,
        measure: growth::endpoints,
    },
    Row {
        name: "chain",
        about: "0 to 16 bindings of a plugin that does nothing",
        unit: CPU,
        measure: growth::chain,
    },
    Row { name: "headers", about: "15 to 90 request headers", unit: CPU, measure: growth::headers },
    Row {
        name: "latency",
        about: "p99 at a fixed half load, open loop, 32 connections",
        unit: "us",
        measure: latency::half_load,
    },
    Row {
        name: "start",
        about: "from start to the first response; Witgate with four cached plugins",
        unit: "ms",
        measure: start::first_answer,
    },
    Row {
        name: "swap",
        about: "p99 while a plugin is swapped every half second at half load, relative to the time before",
        unit: "us",
        measure: swap::half_load,
    },
];

/// The rows with these names; all rows if there are no names.
///
/// # Errors
/// There is no row of a name.
pub(crate) fn select(names: &[String]) -> Result<Vec<&'static Row>> {
    for name in names {
        let all: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        ensure!(all.contains(&name.as_str()), "no row is called {name}; there are {}", all.join(", "));
    }
    Ok(ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name_in_the_order_of_the_table() {
        let chosen = select(&["tls".into(), "plain".into()]).unwrap();
        assert_eq!(chosen.iter().map(|row| row.name).collect::<Vec<_>>(), ["plain", "tls"]);
        assert_eq!(select(&[]).unwrap().len(), ROWS.len());
        assert!(select(&["plane".into()]).is_err());
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }
}
