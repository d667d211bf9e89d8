//! Everything that exists during a whole run: the origins, the peers that were found, and a scratch folder.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::artifacts::{self, Artifacts};
use crate::certificate::Certificate;
use crate::origin::{self, Origin};
use crate::pause;
use crate::peers::{self, BASELINE, OURS, PEERS, Peer, Site};
use crate::process::Process;
use crate::scene::Scene;
use crate::tokens::Tokens;

/// Everything that a row needs.
pub(crate) struct Bench {
    /// Number of interleaved rounds.
    pub(crate) rounds: usize,
    /// Seconds of load for one measurement.
    pub(crate) seconds: u32,
    pub(crate) origin: Origin,
    pub(crate) grpc: SocketAddr,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) certificate: Certificate,
    /// How Witgate was built, for the reports.
    pub(crate) build: &'static str,
    artifacts: Artifacts,
    found: Vec<Found>,
    folder: tempfile::TempDir,
}

/// A peer and its program.
struct Found {
    peer: &'static Peer,
    program: Option<PathBuf>,
    version: Option<String>,
}

/// A running proxy.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) folder: PathBuf,
    /// When it was started.
    pub(crate) started: Instant,
}

impl Bench {
    /// Builds the plugins, looks for the peers, starts the origins.
    pub(crate) fn prepare(
        rounds: usize,
        seconds: u32,
        envoy: Option<&Path>,
        (gateway, build): (PathBuf, &'static str),
    ) -> Result<Bench> {
        raise_file_limit();
        let artifacts = artifacts::build(gateway)?;
        let found: Vec<_> = PEERS.iter().map(|peer| Found::look(peer, envoy, &artifacts)).collect();
        let folder = tempfile::Builder::new().prefix("witgate-bench-").tempdir()?;
        let nginx = found.iter().find(|found| found.peer.name == BASELINE);
        let nginx = nginx.and_then(|found| found.program.as_deref());
        let nginx =
            nginx.context("nginx is missing: it is the origin, and what all others are compared with")?;
        Ok(Bench {
            rounds,
            seconds,
            origin: Origin::start(nginx, &folder.path().join("origin"))?,
            grpc: origin::grpc()?,
            tokens: Arc::new(Tokens::new(folder.path())?),
            certificate: Certificate::write(folder.path())?,
            build,
            artifacts,
            found,
            folder,
        })
    }

    /// A folder for the files of a row.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The binary of Witgate.
    pub(crate) fn gateway(&self) -> &Path {
        &self.artifacts.gateway
    }

    /// Each peer with its version; `None` if it is not installed.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (&'static Peer, Option<&str>)> {
        self.found.iter().map(|found| (found.peer, found.version.as_deref()))
    }

    /// Starts a peer in a scene and waits until it listens. `None` if it is not installed or is left out.
    pub(crate) fn start(&self, peer: &str, scene: &Scene) -> Result<Option<Running>> {
        let found = self.found.iter().find(|found| found.peer.name == peer);
        let found = found.with_context(|| format!("no peer is called {peer}"))?;
        let Some(program) = &found.program else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("proxy-").tempdir_in(self.folder.path())?.keep();
        or_left_out(peer, self.launch(found.peer, program, scene, folder))
    }

    /// Starts a peer in the folder of one that has ended, so that it finds the caches there.
    pub(crate) fn start_in(&self, peer: &str, scene: &Scene, folder: PathBuf) -> Result<Running> {
        let found = self.found.iter().find(|found| found.peer.name == peer);
        let found = found.with_context(|| format!("no peer is called {peer}"))?;
        let program = found.program.as_ref().with_context(|| format!("{peer} is missing"))?;
        self.launch(found.peer, program, scene, folder)
    }

    fn launch(&self, peer: &Peer, program: &Path, scene: &Scene, folder: PathBuf) -> Result<Running> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, origin::free_port()?));
        let site = Site {
            program,
            folder: &folder,
            address,
            certificate: &self.certificate,
            artifacts: &self.artifacts,
        };
        let command = &mut (peer.command)(&site, scene).with_context(|| peer.name)?;
        let started = Instant::now();
        let mut process = Process::start(command)?;
        let up = wait_for(address, Duration::from_secs(60)).with_context(|| peer.name);
        ensure!(process.runs(), "{} ended at its start: {command:?}", peer.name);
        up?;
        Ok(Running { process, address, folder, started })
    }
}

/// The outcome of something that a peer had to do. A peer that fails, for example because it is too old for the scene or
/// lacks a library, is named and left out (`None`): the row is still measured for the others.
///
/// # Errors
/// Witgate itself has failed, or the peer that all others are compared with: then there is no row.
pub(crate) fn or_left_out<T>(peer: &str, outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if [BASELINE, OURS].contains(&peer) => Err(error),
        Err(error) => {
            eprintln!("{peer} is left out: {error:#}");
            Ok(None)
        }
    }
}

impl Found {
    fn look(peer: &'static Peer, envoy: Option<&Path>, artifacts: &Artifacts) -> Found {
        let program = if peer.name == OURS { Some(artifacts.gateway.clone()) } else { (peer.find)(envoy) };
        let version = program.as_deref().map(|program| peers::version(peer, program));
        Found { peer, program, version }
    }
}

/// Waits until an address accepts connections.
pub(crate) fn wait_for(address: SocketAddr, patience: Duration) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if begun.elapsed() > patience {
            bail!("nothing listens on {address}");
        }
        pause(Duration::from_millis(1));
    }
    Ok(())
}

/// Raises the limit on open files: ten thousand endpoints need as many connections, here and in each proxy, which
/// inherits the limit.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If the limit cannot be raised, the row that needs it reports an error.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn only_witgate_and_the_baseline_can_fail_a_row() {
        let fail = || -> Result<u32> { bail!("no library") };
        assert_eq!(or_left_out("nginx-lua", fail()).expect("it is left out"), None);
        assert_eq!(or_left_out("nginx-lua", Ok(1)).expect("it serves"), Some(1));
        assert!(or_left_out(OURS, fail()).is_err() && or_left_out(BASELINE, fail()).is_err());
    }
}
