//! Load: wrk for HTTP/1.1, h2load for HTTP/2.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The protocol the client speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// 64 keep-alive connections.
    Http1,
    /// The same, each request with the next of many tokens.
    Http1WithTokens,
    /// 16 connections with 8 streams each, cleartext.
    Http2,
}

/// One run of a load generator.
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    /// A wrk script that sends tokens.
    pub(crate) tokens: &'a Path,
}

/// What came of it.
pub(crate) struct Done {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
}

impl Load<'_> {
    /// Loads for some seconds.
    pub(crate) fn run(&self, seconds: u32) -> Result<Done> {
        match self.protocol {
            Protocol::Http1 => self.wrk(seconds, None),
            Protocol::Http1WithTokens => self.wrk(seconds, Some(self.tokens)),
            Protocol::Http2 => self.h2load(seconds),
        }
    }

    fn wrk(&self, seconds: u32, script: Option<&Path>) -> Result<Done> {
        let mut command = Command::new("wrk");
        command.args(["-t", "1", "-c", "64", "-d", &format!("{seconds}s")]);
        if let Some(script) = script {
            command.arg("-s").arg(script);
        }
        let text = run(command.arg(format!("http://{}/", self.address)))?;
        let requests = number(&text, |line| line.contains(" requests in "), 0)?;
        let failed = number(&text, |line| line.contains("Non-2xx"), 4).unwrap_or(0);
        Ok(Done { requests, failed })
    }

    fn h2load(&self, seconds: u32) -> Result<Done> {
        let mut command = Command::new("h2load");
        command.args(["-t", "1", "-c", "16", "-m", "8", "-D", &seconds.to_string()]);
        let text = run(command.arg(format!("http://{}/", self.address)))?;
        // requests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed, ...
        let requests = number(&text, |line| line.starts_with("requests:"), 7)?;
        let failed = number(&text, |line| line.starts_with("requests:"), 9)?;
        Ok(Done { requests, failed })
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number that is word `index` of the first line that fits.
fn number(text: &str, fits: impl Fn(&str) -> bool, index: usize) -> Result<u64> {
    let line = text.lines().find(|line| fits(line)).with_context(|| format!("unexpected output:\n{text}"))?;
    let word = line.split_whitespace().nth(index).with_context(|| format!("unexpected line: {line}"))?;
    word.parse().with_context(|| format!("not a number in: {line}"))
}
