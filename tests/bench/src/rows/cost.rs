//! CPU time of the proxy for each request, as a ratio to nginx in the same round.
//!
//! All subjects of a row run at the same time and are loaded one after the other in each round; idle ones use
//! almost no CPU time. Requests per second are not compared, because load generator and origin share the cores
//! with the proxy, and any of them may be the bottleneck.

use anyhow::{Result, ensure};

use super::aim::{self, Aim, judge};
use crate::bench::{Bench, Running, or_left_out};
use crate::load::{Load, Script};
use crate::origin;
use crate::peers::{BASELINE, OURS};
use crate::report::Line;
use crate::scene::{Answer, Inbound, Plugins, Scene};

/// A proxy in a scene under a load.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) peer: &'static str,
    pub(super) scene: Scene,
    pub(super) load: Load,
}

/// Peers that take part in every row.
const ALL: [&str; 5] = [BASELINE, "haproxy", "caddy", "envoy", OURS];
const FRESH: &str = "witgate, four plugins, fresh tokens";
const CALLED: &str = "witgate, four plugins, fresh tokens, nothing remembered (`remember = false`)";
const FIXED: &str = "witgate, `respond`";
const HIT: &str = "witgate, `cache`";
const SEEN: &str = "witgate, four plugins, tokens seen before";

/// Plain proxying.
pub(super) fn plain(bench: &Bench, workers: usize) -> Result<Vec<Line>> {
    let scene = Scene { workers, ..Scene::plain(bench.origin.address) };
    let mut lines = compare(bench, everybody(&scene, &Load::plain()))?;
    judge(&mut lines, OURS, Aim::Ratio(0.95), Some(aim::PLAIN_MINIMUM));
    Ok(lines)
}

/// Four plugins, and one that does nothing.
pub(super) fn plugins(bench: &Bench) -> Result<Vec<Line>> {
    let scene = Scene::plain(bench.origin.address);
    let mut subjects = everybody(&scene, &Load::plain());
    let ours = |name: &str, plugins, load| Subject {
        name: name.into(),
        peer: OURS,
        scene: Scene { plugins, ..scene.clone() },
        load,
    };
    let fresh = Load::scripted(Script::FreshTokens(bench.tokens.clone()));
    let seen = Load::scripted(Script::File(bench.tokens.seen.clone()));
    subjects.insert(
        1,
        Subject {
            name: "nginx + Lua JWT, fresh tokens".into(),
            peer: "nginx + Lua JWT",
            scene: scene.clone(),
            load: fresh.clone(),
        },
    );
    subjects.extend([
        ours("witgate, a plugin that does nothing", Plugins::Idle(1), Load::plain()),
        ours(CALLED, Plugins::Chain { remember: false }, fresh.clone()),
        ours(FRESH, Plugins::Chain { remember: true }, fresh),
        ours(SEEN, Plugins::Chain { remember: true }, seen),
    ]);
    let mut lines = compare(bench, subjects)?;
    judge(&mut lines, FRESH, Aim::Ratio(1.25), Some(aim::PLUGINS_MINIMUM));
    judge(&mut lines, SEEN, Aim::Ratio(1.12), None);
    Ok(lines)
}

/// Large responses. nginx uses its default proxy buffers here, which slow it down.
pub(super) fn large(bench: &Bench) -> Result<Vec<Line>> {
    let load = Load::KeepAlive { tls: false, path: origin::LARGE, script: Script::None, headers: 0 };
    row(bench, &Scene::plain(bench.origin.address), &load, Some(aim::LARGE_MINIMUM))
}

/// Hits of a cache, and a fixed response of Witgate, which costs as little as a response can.
pub(super) fn cache(bench: &Bench) -> Result<Vec<Line>> {
    let scene = |answer| Scene { answer, ..Scene::plain(bench.origin.address) };
    let subject = |name: &str, peer, answer| Subject {
        name: name.into(),
        peer,
        scene: scene(answer),
        load: Load::plain(),
    };
    let mut lines = compare(
        bench,
        vec![
            subject("nginx, proxy_cache", BASELINE, Answer::Cache),
            subject(FIXED, OURS, Answer::Fixed),
            subject(HIT, OURS, Answer::Cache),
        ],
    )?;
    judge(&mut lines, HIT, Aim::Ratio(1.0), None);
    Ok(lines)
}

/// HTTP/2 clients, HTTP/1.1 origin.
pub(super) fn http2(bench: &Bench) -> Result<Vec<Line>> {
    let scene = Scene { inbound: Inbound::Http2, ..Scene::plain(bench.origin.address) };
    row(bench, &scene, &Load::Http2, Some(aim::HTTP2_MINIMUM))
}

/// gRPC unary calls. nginx forwards them with `grpc_pass`, the others with HTTP/2 to the upstream.
pub(super) fn grpc(bench: &Bench) -> Result<Vec<Line>> {
    row(bench, &Scene::grpc(bench.grpc), &Load::grpc(bench.folder())?, None)
}

/// TLS with keep-alive: the handshakes are over before the measurement begins.
pub(super) fn tls(bench: &Bench) -> Result<Vec<Line>> {
    let scene = Scene { inbound: Inbound::Tls, ..Scene::plain(bench.origin.address) };
    let load = Load::KeepAlive { tls: true, path: "/", script: Script::None, headers: 0 };
    row(bench, &scene, &load, Some(aim::TLS_MINIMUM))
}

/// A new connection for each request, in cleartext or with TLS.
pub(super) fn connect(bench: &Bench, tls: bool) -> Result<Vec<Line>> {
    let inbound = if tls { Inbound::Tls } else { Inbound::Http1 };
    let scene = Scene { inbound, ..Scene::plain(bench.origin.address) };
    let load = Load::NewConnections { tls: if tls { Some(bench.certificate.client()?) } else { None } };
    let minimum = if tls { aim::CONNECT_TLS_MINIMUM } else { aim::CONNECT_MINIMUM };
    row(bench, &scene, &load, Some(minimum))
}

/// All peers in one scene; the aim is that Witgate is ahead of all of them.
fn row(bench: &Bench, scene: &Scene, load: &Load, minimum: Option<f64>) -> Result<Vec<Line>> {
    let mut lines = compare(bench, everybody(scene, load))?;
    judge(&mut lines, OURS, Aim::AheadOfAll, minimum);
    Ok(lines)
}

fn everybody(scene: &Scene, load: &Load) -> Vec<Subject> {
    let subject =
        |peer: &'static str| Subject { name: peer.into(), peer, scene: scene.clone(), load: load.clone() };
    ALL.into_iter().map(subject).collect()
}

/// Interleaved rounds; the other subjects are compared with the first one.
fn compare(bench: &Bench, subjects: Vec<Subject>) -> Result<Vec<Line>> {
    let mut running: Vec<_> = start(bench, subjects)?
        .into_iter()
        .map(|(subject, proxy)| {
            let line = Line::new(&subject.name, subject.peer == OURS, BASELINE);
            (subject, proxy, line)
        })
        .collect();
    for _ in 0..bench.rounds {
        let mut first = None;
        let mut kept = Vec::with_capacity(running.len());
        for (subject, proxy, mut line) in running {
            let Some(cost) = or_left_out(subject.peer, measure(bench, &subject, &proxy))? else { continue };
            line.values.push(cost);
            line.ratios.push(cost / *first.get_or_insert(cost));
            kept.push((subject, proxy, line));
        }
        running = kept;
    }
    Ok(running.into_iter().map(|(_, _, line)| line).collect())
}

/// Starts the subjects that are installed and support the scene.
pub(super) fn start(bench: &Bench, subjects: Vec<Subject>) -> Result<Vec<(Subject, Running)>> {
    let mut running = Vec::new();
    for subject in subjects {
        if let Some(proxy) = bench.start(subject.peer, &subject.scene)? {
            running.push((subject, proxy));
        }
    }
    Ok(running)
}

/// CPU time of a proxy for each request that it served, in microseconds.
pub(super) fn measure(bench: &Bench, subject: &Subject, proxy: &Running) -> Result<f64> {
    // Fills connections, pools and caches before the measurement.
    subject.load.run(proxy.address, 1)?;
    let before = proxy.process.cpu()?;
    let done = subject.load.run(proxy.address, bench.seconds)?;
    let spent = proxy.process.cpu()?.saturating_sub(before);
    ensure!(done.failed == 0, "{}: {} failed, {} were counted", subject.name, done.failed, done.requests);
    ensure!(done.requests > 0, "{}: no request got a response", subject.name);
    Ok(spent.as_secs_f64() * 1e6 / done.requests as f64)
}
