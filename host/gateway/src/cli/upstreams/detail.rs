//! `witgate upstreams NAME`: what the list of all upstreams has no room for.

use std::fmt::Write;

use witgate_upstream::{EndpointStatus, UpstreamStatus};

use crate::cli::output::table;

/// Latencies, addresses of host names, and the endpoints that were left out.
pub(super) fn describe(upstreams: &[UpstreamStatus]) -> String {
    let mut text = String::new();
    for upstream in upstreams {
        let rows: Vec<_> = upstream.endpoints.iter().map(row).collect();
        let headings = ["ENDPOINT", "P50", "P95", "PRIORITY", "ZONE", "RESOLVED"];
        let _ = write!(text, "\n{}", table(headings, &rows));
        let refused = upstream.source.iter().flat_map(|source| &source.refused);
        let refused: Vec<&String> = refused.collect();
        if !refused.is_empty() {
            let _ = writeln!(text, "\nleft out of what the source reports:");
        }
        for why in refused {
            let _ = writeln!(text, "  {why}");
        }
    }
    text
}

fn row(endpoint: &EndpointStatus) -> [String; 6] {
    let millis = |micros: Option<u64>| match micros {
        Some(micros) => format!("{:.1} ms", micros as f64 / 1e3),
        None => "-".to_owned(),
    };
    let addresses: Vec<String> = endpoint.resolved.iter().map(ToString::to_string).collect();
    let resolved = match (&endpoint.lookup_failure, addresses.is_empty()) {
        (None, true) => "-".to_owned(),
        (None, false) => addresses.join(","),
        (Some(why), _) => format!("{} ({why})", addresses.join(",")).trim().to_owned(),
    };
    [
        endpoint.address.clone(),
        millis(endpoint.p50_micros),
        millis(endpoint.p95_micros),
        endpoint.priority.to_string(),
        endpoint.zone.clone().unwrap_or_else(|| "-".to_owned()),
        resolved,
    ]
}
