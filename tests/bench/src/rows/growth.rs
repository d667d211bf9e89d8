//! Cost with increasing work: each size as a ratio to the smallest size of its series in the same round, which
//! shows a sudden increase.
//!
//! Witgate and nginx do the same work, and each is compared with itself. Ten thousand endpoints are ten thousand
//! loopback addresses of one origin. Proxies keep a connection to each of them, so the cost of the kernel grows,
//! too.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;

use super::aim::{Aim, judge};
use super::cost::{self, Subject};
use crate::bench::{Bench, or_left_out};
use crate::load::{Load, Script};
use crate::peers::{BASELINE, OURS};
use crate::report::Line;
use crate::scene::{Plugins, Scene};

/// The largest ratio that counts as flat; the noise of a few rounds has this size.
const FLAT: f64 = 1.10;
const SIZES: [usize; 3] = [1, 100, 10_000];

/// Routes with an exact path each.
pub(super) fn routes(bench: &Bench) -> Result<Vec<Line>> {
    let mut series = Vec::new();
    for peer in [BASELINE, OURS] {
        for routes in SIZES {
            let scene = Scene { routes, ..Scene::plain(bench.origin.address) };
            let load = Load::scripted(Script::File(paths(bench, routes)?));
            series.push((routes, subject(peer, routes, "routes", scene, load)));
        }
    }
    let mut lines = grow(bench, series)?;
    judge(&mut lines, &name(OURS, 10_000, "routes"), Aim::Ratio(FLAT), None);
    Ok(lines)
}

/// Endpoints of one upstream.
pub(super) fn endpoints(bench: &Bench) -> Result<Vec<Line>> {
    let mut series = Vec::new();
    for peer in [BASELINE, OURS] {
        for count in SIZES {
            let endpoints = bench.origin.endpoints(count);
            let scene = Scene { endpoints, ..Scene::plain(bench.origin.address) };
            series.push((count, subject(peer, count, "endpoints", scene, Load::plain())));
        }
    }
    let mut lines = grow(bench, series)?;
    judge(&mut lines, &name(OURS, 10_000, "endpoints"), Aim::Ratio(FLAT), None);
    Ok(lines)
}

/// Bindings of a plugin that does nothing.
pub(super) fn chain(bench: &Bench) -> Result<Vec<Line>> {
    let one = |plugins: usize| {
        let scene = Scene { plugins: Plugins::Idle(plugins), ..Scene::plain(bench.origin.address) };
        (plugins, subject(OURS, plugins, "plugins", scene, Load::plain()))
    };
    grow(bench, [0, 1, 4, 8, 16].map(one).into())
}

/// Headers of a request.
pub(super) fn headers(bench: &Bench) -> Result<Vec<Line>> {
    let mut series = Vec::new();
    for peer in [BASELINE, OURS] {
        for headers in [15, 30, 60, 90] {
            let scene = Scene::plain(bench.origin.address);
            // `Host` is one of the headers.
            let load = Load::KeepAlive { tls: false, path: "/", script: Script::None, headers: headers - 1 };
            series.push((headers, subject(peer, headers, "headers", scene, load)));
        }
    }
    grow(bench, series)
}

fn name(peer: &str, size: usize, of: &str) -> String {
    format!("{peer}, {of}: {size}")
}

fn subject(peer: &'static str, size: usize, of: &str, scene: Scene, load: Load) -> Subject {
    Subject { name: name(peer, size, of), peer, scene, load }
}

/// Interleaved rounds over all sizes; ratios are relative to the smallest size of each peer. A peer that fails with one
/// size is left out with all of them.
fn grow(bench: &Bench, series: Vec<(usize, Subject)>) -> Result<Vec<Line>> {
    let sizes: HashMap<String, usize> =
        series.iter().map(|(size, subject)| (subject.name.clone(), *size)).collect();
    let started = cost::start(bench, series.into_iter().map(|(_, subject)| subject).collect())?;
    let mut smallest: HashMap<&str, usize> = HashMap::new();
    let mut running = Vec::with_capacity(started.len());
    for (subject, proxy) in started {
        let size = sizes[&subject.name];
        let smallest = *smallest.entry(subject.peer).or_insert(size);
        let line = Line::new(&subject.name, subject.peer == OURS, &format!("itself with {smallest}"));
        // Connections to all endpoints are opened before the measurement: one second of load is too short for ten
        // thousand.
        if size >= 10_000 {
            subject.load.run(proxy.address, 3)?;
        }
        running.push((subject, proxy, line));
    }
    for _ in 0..bench.rounds {
        let (mut first, mut failed) = (HashMap::new(), HashSet::new());
        for (subject, proxy, line) in &mut running {
            let Some(cost) = or_left_out(subject.peer, cost::measure(bench, subject, proxy))? else {
                failed.insert(subject.peer);
                continue;
            };
            line.values.push(cost);
            line.ratios.push(cost / *first.entry(subject.peer).or_insert(cost));
        }
        running.retain(|(subject, ..)| !failed.contains(subject.peer));
    }
    Ok(running.into_iter().map(|(_, _, line)| line).collect())
}

/// A script that requests all routes in turn. The scene with one route takes every path, and one path is
/// requested.
fn paths(bench: &Bench, routes: usize) -> Result<PathBuf> {
    let mut script = String::from("local requests = {}\nfor route = 0, ");
    // Writing into a string cannot fail.
    let _ = write!(
        script,
        "{} do\n  requests[route + 1] = \"GET /r/\" .. route .. \" HTTP/1.1\\r\\nHost: bench\\r\\n\\r\\n\"\nend\n\
         local next = 0\nrequest = function()\n  next = next % #requests + 1\n  return requests[next]\nend\n",
        routes - 1
    );
    let path = bench.folder().join(format!("routes-{routes}.lua"));
    std::fs::write(&path, script)?;
    Ok(path)
}
