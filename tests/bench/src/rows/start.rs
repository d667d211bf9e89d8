//! Time from start to the first response. Witgate's plugins were compiled and cached by an earlier start.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::latency::request;
use crate::bench::Bench;
use crate::peers::{BASELINE, OURS};
use crate::report::Line;
use crate::scene::{Plugins, Scene};

/// nginx, and Witgate without and with plugins.
pub(super) fn first_answer(bench: &Bench) -> Result<Vec<Line>> {
    let plain = Scene::plain(bench.origin.address);
    let chain = Scene { plugins: Plugins::Chain { remember: true }, ..plain.clone() };
    let request = request(&bench.tokens.one);
    let mut lines = Vec::new();
    let subjects =
        [(BASELINE, BASELINE, &plain), (OURS, OURS, &plain), ("witgate, four cached plugins", OURS, &chain)];
    let mut folders = Vec::new();
    for (name, peer, scene) in subjects {
        let Some(first) = bench.start(peer, scene)? else { continue };
        answered(first.address, &request).context(name)?;
        lines.push(Line::new(name, peer == OURS, BASELINE));
        folders.push((name, peer, scene, first.folder.clone()));
    }
    for _ in 0..bench.rounds {
        for (index, (name, peer, scene, folder)) in folders.iter().enumerate() {
            let proxy = bench.start_in(peer, scene, folder.clone())?;
            answered(proxy.address, &request).context(*name)?;
            let value = proxy.started.elapsed().as_secs_f64() * 1e3;
            lines[index].values.push(value);
            let nginx = *lines[0].values.last().unwrap_or(&value);
            lines[index].ratios.push(value / nginx);
        }
    }
    Ok(lines)
}

/// Sends requests on new connections until the response is a 200.
fn answered(address: std::net::SocketAddr, request: &[u8]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut status = [0; 12];
        let asked = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(request)?;
            stream.read_exact(&mut status)
        });
        if asked.is_ok() && status.ends_with(b" 200") {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(30),
            "no response but {:?}",
            String::from_utf8_lossy(&status)
        );
    }
}
