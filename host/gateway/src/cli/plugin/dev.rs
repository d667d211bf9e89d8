//! `witgate plugin dev`

mod changes;
mod echo;
mod story;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::task::Poll;

use clap::Args;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::cargo;
use super::scratch::{Binding, Surroundings, absolute};
use crate::cli::output::say;
use crate::exit::{Exit, ExitResult, Failure};
use changes::Changes;

/// Develop a plugin: build it, run it in a scratch gateway in front of an echo service, and rebuild it on every
/// save.
///
/// Every request is printed with the plugin's calls and their microseconds. Ctrl-C ends it, and so does SIGTERM.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The plugin's folder
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    path: PathBuf,
    /// Address the scratch gateway listens on [default: a free port of 127.0.0.1]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where requests are forwarded to [default: a service that echoes them]
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    #[command(flatten)]
    binding: Binding,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        tokio::select! {
            outcome = develop(arguments) => outcome,
            // Dropping its handle kills the gateway.
            outcome = ended() => outcome,
        }
    })
}

/// Waits for a signal that ends a process.
async fn ended() -> ExitResult {
    let signals =
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
    let mut signals: Vec<Signal> =
        signals.into_iter().map(signal).collect::<Result<_, _>>().map_err(anyhow::Error::from)?;
    std::future::poll_fn(|context| {
        let came = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if came { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    Ok(())
}

async fn develop(arguments: &Arguments) -> ExitResult {
    let folder = absolute(&arguments.path)?;
    let mut changes = Changes::watch(&folder)?;
    let component = first_build(&folder, &mut changes).await?;
    let surroundings = surroundings(arguments).await?;
    let mut config = arguments.binding.toml(&component, Some(&surroundings))?;
    let mut gateway = start_gateway(&folder, &config)?;
    say(&format!("try it:  curl -i http://{}/\n", surroundings.listen))?;
    let output =
        gateway.stdout.take().ok_or_else(|| Failure::new(Exit::Failure, "the gateway has no output"))?;
    let mut lines = BufReader::new(output).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line.map_err(anyhow::Error::from)? {
                Some(line) => say(&story::tell(&line))?,
                None => break,
            },
            () = changes.next() => {
                // cargo has printed why the build failed; the previous version stays in service.
                if let Ok(component) = build(&folder).await {
                    say(&format!("built {}\n", component.display()))?;
                    match arguments.binding.toml(&component, Some(&surroundings)) {
                        // The gateway notices its changed configuration by itself.
                        Ok(changed) if changed != config => {
                            write_config(&folder, &changed).map_err(anyhow::Error::from)?;
                            config = changed;
                        }
                        Ok(_) => {}
                        Err(failure) => eprintln!("{failure}; waiting for a change"),
                    }
                }
            }
        }
    }
    let status = gateway.wait().await.map_err(anyhow::Error::from)?;
    Err(Failure::new(Exit::Failure, format!("the scratch gateway ended: {status}")))
}

/// Builds until a build succeeds, because a new plugin often does not compile at first.
async fn first_build(folder: &Path, changes: &mut Changes) -> Result<PathBuf, Failure> {
    if !folder.join("Cargo.toml").is_file() {
        return cargo::build(folder);
    }
    loop {
        match build(folder).await {
            Ok(component) => return Ok(component),
            Err(failure) => eprintln!("{failure}; waiting for a change"),
        }
        changes.next().await;
    }
}

async fn build(folder: &Path) -> Result<PathBuf, Failure> {
    let folder = folder.to_owned();
    let built = tokio::task::spawn_blocking(move || cargo::build(&folder)).await;
    built.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?
}

async fn surroundings(arguments: &Arguments) -> Result<Surroundings, Failure> {
    let listen = match arguments.listen {
        Some(address) => address,
        // The port is free now; another process is unlikely to take it before the gateway does.
        None => TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .map_err(anyhow::Error::from)?,
    };
    let origin = match &arguments.to {
        Some(url) => url.clone(),
        None => echo::start().await.map_err(anyhow::Error::from)?.to_string(),
    };
    Ok(Surroundings { listen: listen.to_string(), origin })
}

/// Writes the configuration of the scratch gateway, and returns its path.
fn write_config(folder: &Path, config: &str) -> std::io::Result<PathBuf> {
    let scratch = folder.join("target").join("witgate-dev");
    let (file, aside) = (scratch.join("witgate.toml"), scratch.join("witgate.toml.new"));
    std::fs::create_dir_all(&scratch)?;
    std::fs::write(&aside, config)?;
    std::fs::rename(&aside, &file)?;
    Ok(file)
}

/// Runs this same executable as a gateway, so that the released code is tried. It ends with this process, however that
/// ends.
fn start_gateway(folder: &Path, config: &str) -> Result<Child, Failure> {
    let start = || -> std::io::Result<Child> {
        Command::new(std::env::current_exe()?)
            .args(["run", "--config"])
            .arg(write_config(folder, config)?)
            .args(["--parent", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    };
    start()
        .map_err(|error| Failure::new(Exit::Failure, format!("the scratch gateway cannot be run: {error}")))
}
