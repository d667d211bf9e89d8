//! p99 latency at a fixed rate, the same for all proxies: half of the maximum rate of the slowest one.

use std::time::Duration;

use anyhow::Result;

use super::aim::{Aim, judge};
use crate::bench::{Bench, Running};
use crate::load::open_loop::OpenLoop;
use crate::load::{Load, Script};
use crate::peers::{BASELINE, OURS};
use crate::report::Line;
use crate::scene::{Plugins, Scene};
use crate::spread::quantile;

const CONNECTIONS: u32 = 32;
const CHAIN: &str = "witgate, four plugins, a token seen before";

/// nginx, haproxy, and Witgate with and without plugins.
pub(super) fn half_load(bench: &Bench) -> Result<Vec<Line>> {
    let plain = Scene::plain(bench.origin.address);
    let chain = Scene { plugins: Plugins::Chain { remember: true }, ..plain.clone() };
    let mut running = Vec::new();
    for (name, peer, scene) in [
        (BASELINE, BASELINE, &plain),
        ("haproxy", "haproxy", &plain),
        (OURS, OURS, &plain),
        (CHAIN, OURS, &chain),
    ] {
        if let Some(proxy) = bench.start(peer, scene)? {
            running.push((name, peer, proxy));
        }
    }
    let tokens = Load::scripted(Script::File(bench.tokens.seen.clone()));
    let mut rate = f64::MAX;
    for (_, _, proxy) in &running {
        rate = rate.min(half_rate(&tokens, proxy)?);
    }
    eprintln!("latency: {rate:.0} requests a second");
    let request = request(&bench.tokens.one);
    let mut lines: Vec<_> =
        running.iter().map(|(name, peer, _)| Line::new(name, *peer == OURS, BASELINE)).collect();
    for _ in 0..bench.rounds {
        for (index, (_, _, proxy)) in running.iter().enumerate() {
            let p99 = p99(proxy, rate, bench.seconds, &request)?;
            lines[index].values.push(p99);
            let nginx = *lines[0].values.last().unwrap_or(&p99);
            lines[index].ratios.push(p99 / nginx);
        }
    }
    judge(&mut lines, OURS, Aim::AtMostThatOf(BASELINE), None);
    Ok(lines)
}

/// Half of the requests per second that a proxy serves in a closed loop.
pub(super) fn half_rate(load: &Load, proxy: &Running) -> Result<f64> {
    load.run(proxy.address, 1)?;
    Ok(load.run(proxy.address, 1)?.requests as f64 / 2.0)
}

/// The 99th percentile of the latency, in microseconds.
pub(super) fn p99(proxy: &Running, rate: f64, seconds: u32, request: &[u8]) -> Result<f64> {
    let duration = Duration::from_secs(seconds.into());
    let load = OpenLoop { address: proxy.address, rate, connections: CONNECTIONS, duration, request };
    Ok(quantile(&load.run()?, 0.99).as_secs_f64() * 1e6)
}

/// A request with a token, which proxies without plugins pass on.
pub(super) fn request(token: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n").into_bytes()
}
