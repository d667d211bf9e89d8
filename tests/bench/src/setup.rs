//! The subjects: nginx and gateways, each in front of the same origin.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use base64::Engine as _;

use crate::artifacts::{self, Artifacts};
use crate::load::Protocol;
use crate::process::Process;

const SECRET: &str = "the-secret-of-the-bench-32-bytes";

/// One proxy under one kind of load.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    /// Index of the subject whose cost is 1.
    pub(crate) baseline: usize,
}

/// Everything that runs during the bench.
pub(crate) struct Bench {
    pub(crate) subjects: Vec<Subject>,
    /// A wrk script that sends each request with another token.
    pub(crate) tokens: PathBuf,
    _origin: Process,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// Builds and starts everything.
    pub(crate) fn start(workers: usize) -> Result<Self> {
        let artifacts = artifacts::build()?;
        let folder = tempfile::tempdir()?;
        let tokens = write_tokens(folder.path())?;
        let origin_address = free_address()?;
        let origin = nginx(folder.path(), "origin", origin_address, "", "return 200 $body;", workers)?;
        let mut subjects = Vec::new();
        for (name, protocol) in [("nginx", Protocol::Http1), ("nginx, HTTP/2 in", Protocol::Http2)] {
            let address = free_address()?;
            let upstream = format!("upstream origin {{ server {origin_address}; keepalive 64; }}");
            let forward =
                "proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";";
            let process = nginx(
                folder.path(),
                &format!("nginx-{}", subjects.len()),
                address,
                &upstream,
                forward,
                workers,
            )?;
            let baseline = subjects.len();
            subjects.push(Subject { name, process, address, protocol, baseline });
        }
        for (name, protocol, baseline, plugins) in [
            ("witgate, plain", Protocol::Http1, 0, PLAIN),
            ("witgate, a plugin that does nothing", Protocol::Http1, 0, IDLE),
            ("witgate, jwt + rate-limit + canary + headers", Protocol::Http1WithTokens, 0, CHAIN),
            ("witgate, HTTP/2 in", Protocol::Http2, 1, PLAIN),
        ] {
            let folder = folder.path().join(subjects.len().to_string());
            let (process, address) = witgate(&folder, &artifacts, origin_address, plugins, workers)?;
            subjects.push(Subject { name, process, address, protocol, baseline });
        }
        Ok(Bench { subjects, tokens, _origin: origin, _folder: folder })
    }
}

const PLAIN: &str = "";
const IDLE: &str = "[plugins.idle]\nfile = \"IDLE\"\n";
const CHAIN: &str = r#"
[plugins]
jwt = {}
rate-limit = { file = "rate_limit.wasm" }
canary = {}
headers = {}

[bindings.jwt]
grants = { fetch = [], store = [] }

[bindings.jwt.settings]
keys = [{ alg = "HS256", secret = "the-secret-of-the-bench-32-bytes" }]

[bindings.rate-limit.settings]
policies = [{ name = "bench", by = "client", limit = 1000000000, window = "1s" }]

[bindings.canary]
grants = { route_to = ["origin"] }
settings = { upstream = "origin", header = { name = "x-canary", value = "always" } }

[bindings.headers.settings]
request = { set = { "x-caller" = "{identity.subject}" } }
response = { set = { "x-served-by" = "witgate" } }
"#;

/// A gateway with a configuration of its own; everything a default configuration turns on but the access log.
fn witgate(
    folder: &Path,
    artifacts: &Artifacts,
    origin: SocketAddr,
    plugins: &str,
    workers: usize,
) -> Result<(Process, SocketAddr)> {
    std::fs::create_dir(folder)?;
    let address = free_address()?;
    let bound = match plugins {
        CHAIN => "plugins = [\"jwt\", \"rate-limit\", \"canary\", \"headers\"]",
        IDLE => "plugins = [\"idle\"]",
        _ => "",
    };
    let plugins = plugins.replace("IDLE", &artifacts.idle.to_string_lossy());
    let config = folder.join("witgate.toml");
    let text = format!(
        "[gateway]\nworkers = {workers}\nplugin_folder = {components:?}\n{bound}\n\
         [admin]\naddress = \"off\"\nsocket = \"admin.sock\"\n\
         [telemetry]\naccess_log = \"off\"\nlog_level = \"error\"\n\
         [[listeners]]\nname = \"web\"\naddress = \"{address}\"\n\
         [[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"origin\"\n\
         [upstreams.origin]\nendpoints = [\"{origin}\"]\n{plugins}",
        components = artifacts.components,
    );
    std::fs::write(&config, text)?;
    let process = Process::start(Command::new(&artifacts.gateway).arg("run").arg("--config").arg(&config))?;
    wait_for(address)?;
    Ok((process, address))
}

/// An nginx as a single process (no master), so that its CPU time is that of one process.
fn nginx(
    folder: &Path,
    name: &str,
    address: SocketAddr,
    upstream: &str,
    location: &str,
    workers: usize,
) -> Result<Process> {
    if workers > 1 {
        bail!("nginx as a single process has one worker; --workers above 1 would compare unlike things");
    }
    let http2 = if name.ends_with("-1") { " http2" } else { "" };
    let config = folder.join(format!("{name}.conf"));
    let body = "x".repeat(1024);
    let text = format!(
        "daemon off; master_process off; pid {name}.pid; error_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; {upstream}\n\
           map '' $body {{ default '{body}'; }}\n\
           server {{ listen {address}{http2}; location / {{ {location} }} }} }}\n"
    );
    std::fs::write(&config, text)?;
    let process = Process::start(Command::new("nginx").arg("-p").arg(folder).arg("-c").arg(&config))?;
    wait_for(address)?;
    Ok(process)
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn wait_for(address: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if begun.elapsed() > Duration::from_secs(30) {
            bail!("nothing listens on {address}");
        }
        pause();
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the caller looks again, with a deadline")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Writes a wrk script with so many different tokens that none is seen again soon.
fn write_tokens(folder: &Path) -> Result<PathBuf> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let expires =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock")?.as_secs() + 86_400;
    let mut script = String::from("local tokens = {\n");
    for number in 0..50_000 {
        let claims = format!("{{\"sub\":\"user-{number}\",\"exp\":{expires},\"role\":\"reader\"}}");
        let signed =
            format!("{}.{}", encode(b"{\"alg\":\"HS256\",\"typ\":\"JWT\"}"), encode(claims.as_bytes()));
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        script.push_str(&format!("\"{signed}.{}\",\n", encode(tag.as_ref())));
    }
    script.push_str(
        "}\nlocal next = 0\nrequest = function()\n  next = next % #tokens + 1\n  \
         return \"GET / HTTP/1.1\\r\\nHost: bench\\r\\nAuthorization: Bearer \" .. tokens[next] .. \"\\r\\n\\r\\n\"\nend\n",
    );
    let path = folder.join("tokens.lua");
    std::fs::write(&path, script)?;
    Ok(path)
}
