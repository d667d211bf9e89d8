//! A plugin is swapped at half load: the p99 latency meanwhile as a ratio to the p99 before.
//!
//! A swap puts a new file into the plugin folder. It has the same code and another digest (because of an
//! additional custom section), so it is compiled, checked and put in service like any other file.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::aim::{Aim, judge};
use super::latency::{half_rate, p99, request};
use crate::bench::{Bench, Running};
use crate::load::Load;
use crate::pause;
use crate::peers::OURS;
use crate::peers::witgate::plugin_folder;
use crate::report::Line;
use crate::scene::{Plugins, Scene};

const DURING: &str = "witgate, during swaps";
/// Time between two swaps.
const BETWEEN: Duration = Duration::from_millis(500);

/// Measures before and during swaps, in pairs.
pub(super) fn half_load(bench: &Bench) -> Result<Vec<Line>> {
    let plain = Scene::plain(bench.origin.address);
    let scene = Scene { plugins: Plugins::Headers(1), ..plain };
    let Some(proxy) = bench.start(OURS, &scene)? else { return Ok(Vec::new()) };
    let rate = half_rate(&Load::plain(), &proxy)?;
    let request = request(&bench.tokens.one);
    let seconds = bench.seconds.max(2);
    let mut before = Line::new("witgate, before", true, "before");
    let mut during = Line::new(DURING, true, "before");
    for round in 0..bench.rounds {
        let calm = p99(&proxy, rate, seconds, &request)?;
        let before_swaps = version(bench, &proxy)?;
        let busy = while_swapping(&proxy, round, || p99(&proxy, rate, seconds, &request))?;
        ensure!(version(bench, &proxy)? > before_swaps, "nothing was swapped");
        before.values.push(calm);
        before.ratios.push(1.0);
        during.values.push(busy);
        during.ratios.push(busy / calm);
    }
    let mut lines = vec![before, during];
    judge(&mut lines, DURING, Aim::Ratio(2.0), None);
    Ok(lines)
}

/// Swaps the plugin repeatedly until the work is done.
fn while_swapping<T>(proxy: &Running, round: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            for swap in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                replace(&plugin_folder(&proxy.folder), &format!("round {round}, swap {swap}"))?;
                pause(BETWEEN);
            }
            Ok(())
        });
        let worked = work();
        done.store(true, Ordering::Relaxed);
        match swapper.join() {
            Ok(swapped) => swapped.and(worked),
            Err(_) => bail!("the swapping thread panicked"),
        }
    })
}

/// The version of the snapshot in service; each swap increments it.
fn version(bench: &Bench, proxy: &Running) -> Result<u64> {
    let mut command = Command::new(bench.gateway());
    command.args(["status", "--output", "json", "--config"]).arg(proxy.folder.join("witgate.toml"));
    let output = command.output().context("asking for the status")?;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).context("the status")?;
    status["version"].as_u64().context("a status without a version")
}

/// Renames a file over the plugin's file, so that no reader gets half of it.
fn replace(folder: &Path, note: &str) -> Result<()> {
    let file = folder.join("headers.wasm");
    let aside = folder.join("headers.new");
    let component = fs::read(&file).context("the plugin's file")?;
    fs::write(&aside, with_note(component, note))?;
    fs::rename(aside, file).context("renaming the plugin's file")
}

/// Appends a custom section: id 0, its size, the size of its name, its name.
fn with_note(mut component: Vec<u8>, note: &str) -> Vec<u8> {
    let name = note.as_bytes();
    // Sizes below 128 are one byte in LEB128.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX).min(126);
    component.extend([0, length + 1, length]);
    component.extend(&name[..usize::from(length)]);
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_a_custom_section() {
        assert_eq!(with_note(vec![9], "ab"), [9, 0, 3, 2, b'a', b'b']);
        assert_eq!(with_note(Vec::new(), &"x".repeat(500)).len(), 3 + 126);
    }
}
