//! Calls wrk and h2load and reads their output.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Done;
use crate::process::printed;

/// 64 keep-alive connections, with this many headers besides `Host`.
pub(super) fn wrk(url: &str, script: Option<&Path>, headers: usize, seconds: u32) -> Result<Done> {
    let mut command = Command::new("wrk");
    command.args(["-t", "1", "-c", "64", "-d", &format!("{seconds}s")]);
    for number in 0..headers {
        command.arg("-H").arg(format!("x-header-{number}: the value of header {number}"));
    }
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    wrk_done(&printed(command.arg(url))?)
}

/// 16 connections with 8 streams each; gRPC calls if there is a body.
pub(super) fn h2load(address: SocketAddr, body: Option<&Path>, seconds: u32) -> Result<Done> {
    let mut command = Command::new("h2load");
    command.args(["-t", "1", "-c", "16", "-m", "8", "-D", &seconds.to_string()]);
    if let Some(body) = body {
        command.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"]).arg(body);
    }
    let path = if body.is_some() { "/bench.Echo/Say" } else { "/" };
    h2load_done(&printed(command.arg(format!("http://{address}{path}")))?)
}

fn wrk_done(text: &str) -> Result<Done> {
    let requests = number(text, |line| line.contains(" requests in "), 0)?;
    let refused = number(text, |line| line.contains("Non-2xx"), 4).unwrap_or(0);
    //  Socket errors: connect 0, read 3, write 0, timeout 0
    let broken = |word| number(text, |line| line.contains("Socket errors:"), word).unwrap_or(0);
    Ok(Done { requests, failed: refused + broken(3) + broken(5) + broken(7) + broken(9) })
}

fn h2load_done(text: &str) -> Result<Done> {
    // requests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed, ...
    let requests = number(text, |line| line.starts_with("requests:"), 7)?;
    let failed = number(text, |line| line.starts_with("requests:"), 9)?;
    // status codes: 10 2xx, 0 3xx, 0 4xx, 0 5xx
    let refused = number(text, |line| line.starts_with("status codes:"), 6)?
        + number(text, |line| line.starts_with("status codes:"), 8)?;
    Ok(Done { requests, failed: failed.max(refused) })
}

/// The number at word `index` of the first line that fits.
fn number(text: &str, fits: impl Fn(&str) -> bool, index: usize) -> Result<u64> {
    let line = text.lines().find(|line| fits(line)).with_context(|| format!("unexpected output:\n{text}"))?;
    let word = line.split_whitespace().nth(index).with_context(|| format!("unexpected line: {line}"))?;
    word.trim_end_matches(',').parse().with_context(|| format!("not a number in: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 3s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  \
        51234 requests in 3.00s, 60.1MB read\n";

    #[test]
    fn wrk_counts_requests_and_every_kind_of_failure() {
        assert_eq!(wrk_done(WRK).unwrap(), Done { requests: 51_234, failed: 0 });
        let failing = format!(
            "{WRK}  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 20\nRequests/sec: 1\n"
        );
        assert_eq!(wrk_done(&failing).unwrap(), Done { requests: 51_234, failed: 30 });
        assert!(wrk_done("unable to connect").is_err());
    }

    #[test]
    fn h2load_counts_answers_that_are_refusals() {
        let text = "finished in 2.00s\nrequests: 90 total, 99 started, 90 done, 88 succeeded, 2 failed, 2 errored, 0 timeout\n\
            status codes: 80 2xx, 0 3xx, 1 4xx, 7 5xx\n";
        assert_eq!(h2load_done(text).unwrap(), Done { requests: 88, failed: 8 });
        let good = "requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout\n\
            status codes: 9 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        assert_eq!(h2load_done(good).unwrap(), Done { requests: 9, failed: 0 });
    }
}
