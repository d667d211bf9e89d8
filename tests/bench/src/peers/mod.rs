//! The proxies that are compared: one file each, and one table.
//!
//! Each file has the same structure: a description · `PEER` · how the program is found · its configuration for a
//! scene.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::artifacts::Artifacts;
use crate::certificate::Certificate;
use crate::scene::Scene;

mod caddy;
mod envoy;
mod haproxy;
pub(crate) mod nginx;
mod nginx_lua;
pub(crate) mod witgate;

/// A proxy.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// The package to install if the program is missing.
    pub(crate) package: &'static str,
    /// Its program, if it is installed. The argument is the path of Envoy from the command line.
    pub(crate) find: fn(Option<&Path>) -> Option<PathBuf>,
    /// Arguments that make it print its version.
    pub(crate) version: &'static [&'static str],
    /// Writes its configuration for a scene and returns the command that starts it.
    pub(crate) command: fn(&Site, &Scene) -> Result<Command>,
}

/// All peers, in the order of the tables. All others are compared with nginx.
pub(crate) static PEERS: &[&Peer] =
    &[&nginx::PEER, &nginx_lua::PEER, &haproxy::PEER, &caddy::PEER, &envoy::PEER, &witgate::PEER];

/// The name of the peer whose cost is defined as 1.
pub(crate) const BASELINE: &str = "nginx";
/// The name of Witgate.
pub(crate) const OURS: &str = "witgate";

/// Where a proxy is set up.
pub(crate) struct Site<'a> {
    pub(crate) program: &'a Path,
    /// A folder of its own.
    pub(crate) folder: &'a Path,
    /// The address on which it listens.
    pub(crate) address: SocketAddr,
    pub(crate) certificate: &'a Certificate,
    pub(crate) artifacts: &'a Artifacts,
}

/// The first file of this name in the search path.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian installs servers in folders that are only in root's search path.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The version that a peer prints: the first token that starts with a digit, or that has a version after a slash.
pub(crate) fn version(peer: &Peer, program: &Path) -> String {
    let Ok(output) = Command::new(program).args(peer.version).output() else { return "unknown".into() };
    let text = [output.stdout, output.stderr].concat();
    number(&String::from_utf8_lossy(&text)).map_or_else(|| "unknown".into(), Into::into)
}

/// The first word, delimited by spaces and slashes, that consists of digits and dots.
fn number(text: &str) -> Option<&str> {
    let words = text.split(|letter: char| letter.is_whitespace() || letter == '/' || letter == ',');
    let words = words.map(|word| word.trim_start_matches('v'));
    words
        .into_iter()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_each_peer_prints() {
        assert_eq!(number("nginx version: nginx/1.22.1\n"), Some("1.22.1"));
        assert_eq!(number("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - x"), Some("2.6.12-1+deb12u4"));
        assert_eq!(number("2.6.2\n"), Some("2.6.2"));
        assert_eq!(number("v2.8.4 h1:abc\n"), Some("2.8.4"));
        assert_eq!(number("envoy  version: 9e558/1.40.0/Clean/RELEASE"), Some("1.40.0"));
        assert_eq!(number("witgate 0.1.0\n"), Some("0.1.0"));
        assert_eq!(number("nothing"), None);
    }

    #[test]
    fn names_are_unique_and_the_baseline_comes_first() {
        let mut names: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
        assert_eq!(names[0], BASELINE);
        assert!(names.contains(&OURS));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PEERS.len());
    }
}
