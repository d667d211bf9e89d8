//! Resident memory: proportional set size of all processes of a proxy. One worker each.

use anyhow::Result;

use super::aim::{Aim, judge};
use crate::bench::{Bench, Running, or_left_out};
use crate::load::{Load, Script, connections};
use crate::peers::{BASELINE, OURS};
use crate::report::Line;
use crate::scene::{Plugins, Scene};

const ALL: [&str; 6] = [BASELINE, "nginx + Lua JWT", "haproxy", "caddy", "envoy", OURS];
const LUA: &str = "nginx + Lua JWT";
const CHAIN: &str = "witgate, four plugins";
/// Idle client connections that are opened.
const CONNECTIONS: usize = 2000;
/// Number of bindings. The first one is not counted, because its code is loaded with it.
const BINDINGS: usize = 33;

/// Memory after a second of load. The proxy has been started once before, so that the memory of Witgate does not
/// include what compilation used.
pub(super) fn idle(bench: &Bench) -> Result<Vec<Line>> {
    let plain = Scene::plain(bench.origin.address);
    let chain = Scene { plugins: Plugins::Chain { remember: true }, ..plain.clone() };
    let subjects = ALL.map(|peer| (peer, peer, &plain)).into_iter().chain([(CHAIN, OURS, &chain)]);
    let tokens = Load::scripted(Script::FreshTokens(bench.tokens.clone()));
    let mut lines = once(bench, subjects, |peer, scene, first| {
        let folder = first.folder.clone();
        drop(first);
        let proxy = bench.start_in(peer, scene, folder)?;
        tokens.run(proxy.address, 1)?;
        proxy.process.memory()
    })?;
    judge(&mut lines, OURS, Aim::AtMostThatOf(LUA), None);
    judge(&mut lines, CHAIN, Aim::AtMostThatOf(LUA), None);
    Ok(lines)
}

/// Clients that had one response each and stay connected.
pub(super) fn connections(bench: &Bench) -> Result<Vec<Line>> {
    let plain = Scene::plain(bench.origin.address);
    // The Lua script would refuse these clients, which have no token; its connections cost the same as those of
    // nginx.
    let subjects = ALL.into_iter().filter(|peer| *peer != LUA).map(|peer| (peer, peer, &plain));
    let mut lines = once(bench, subjects, |_, _, proxy| {
        Load::plain().run(proxy.address, 1)?;
        let before = proxy.process.memory()?;
        let clients = connections::idle(proxy.address, CONNECTIONS)?;
        let after = proxy.process.memory()?;
        drop(clients);
        Ok((after - before).max(1.0) * 1000.0 / CONNECTIONS as f64)
    })?;
    judge(&mut lines, OURS, Aim::AtMostThatOf(BASELINE), None);
    Ok(lines)
}

/// The same plugin bound once and many times; each binding is used.
pub(super) fn instances(bench: &Bench) -> Result<Vec<Line>> {
    const NAME: &str = "witgate, a Rust plugin (headers)";
    let resident = |bindings| -> Result<Option<f64>> {
        let plain = Scene::plain(bench.origin.address);
        let scene = Scene { plugins: Plugins::Headers(bindings), ..plain };
        let Some(proxy) = bench.start(OURS, &scene)? else { return Ok(None) };
        Load::plain().run(proxy.address, 1)?;
        proxy.process.memory().map(Some)
    };
    let mut line = Line::new(NAME, true, "64 KiB");
    for _ in 0..bench.rounds.min(3) {
        if let (Some(one), Some(many)) = (resident(1)?, resident(BINDINGS)?) {
            let each = (many - one) / (BINDINGS - 1) as f64;
            line.values.push(each);
            line.ratios.push(each / 64.0);
        }
    }
    let mut lines = vec![line];
    judge(&mut lines, NAME, Aim::Value(64.0), None);
    Ok(lines)
}

/// Starts one proxy, measures it, and ends it; memory does not depend on the load of the machine.
fn once<'a>(
    bench: &Bench,
    subjects: impl Iterator<Item = (&'static str, &'static str, &'a Scene)>,
    measure: impl Fn(&str, &Scene, Running) -> Result<f64>,
) -> Result<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    for (name, peer, scene) in subjects {
        let mut line = Line::new(name, peer == OURS, BASELINE);
        for round in 0..bench.rounds.min(3) {
            let Some(proxy) = bench.start(peer, scene)? else { break };
            let Some(value) = or_left_out(peer, measure(peer, scene, proxy))? else {
                line.values.clear();
                break;
            };
            line.ratios.push(value / lines.first().map_or(value, |nginx| nginx.values[round]));
            line.values.push(value);
        }
        if !line.values.is_empty() {
            lines.push(line);
        }
    }
    Ok(lines)
}
