//! Witgate, built from this checkout, with its default configuration except that the access log is off.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Peer, Site};
use crate::scene::{Answer, Inbound, Outbound, Plugins, Scene};

pub(crate) static PEER: Peer = Peer {
    name: "witgate",
    package: "built from this checkout",
    // The run builds it before the peers are looked for.
    find: |_| None,
    version: &["--version"],
    command,
};

/// The plugin folder of a gateway, which a row may change while the gateway runs.
pub(crate) fn plugin_folder(folder: &Path) -> std::path::PathBuf {
    folder.join("plugins")
}

fn command(site: &Site, scene: &Scene) -> Result<Command> {
    install(site)?;
    let (bound, plugins) = plugins(&scene.plugins);
    let mut text = format!(
        "[gateway]\nworkers = {}\nplugin_folder = \"plugins\"\ncache_folder = \"cache\"\nplugins = [{bound}]\n\n\
         [admin]\naddress = \"off\"\nsocket = \"admin.sock\"\n\n\
         [telemetry]\naccess_log = \"off\"\nlog_level = \"error\"\n\n\
         [[listeners]]\nname = \"web\"\naddress = \"{}\"\n",
        scene.workers, site.address
    );
    if scene.inbound == Inbound::Tls {
        let (certificate, key) = (&site.certificate.certificate, &site.certificate.key);
        // Writing into a string cannot fail.
        let _ = writeln!(text, "tls = {{ certificate = {certificate:?}, key = {key:?} }}");
    }
    match scene.routes {
        1 => {
            text.push_str("\n[[routes]]\nname = \"all\"\npath = \"/*\"\n");
            text.push_str(&answer(scene.answer));
        }
        routes => {
            for route in 0..routes {
                let _ = write!(text, "\n[[routes]]\npath = \"/r/{route}\"\nupstream = \"origin\"\n");
            }
        }
    }
    let endpoints: Vec<_> = scene.endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    let _ = write!(text, "\n[upstreams.origin]\nendpoints = [{}]\n", endpoints.join(", "));
    if scene.outbound == Outbound::Grpc {
        text.push_str("protocol = \"http2\"\n");
    }
    text.push_str(&plugins);
    let file = site.folder.join("witgate.toml");
    std::fs::write(&file, text)?;
    let mut command = Command::new(site.program);
    command.arg("run").arg("--config").arg(file);
    Ok(command)
}

/// What the route does.
fn answer(answer: Answer) -> String {
    match answer {
        Answer::Origin => "upstream = \"origin\"\n".into(),
        Answer::Cache => "upstream = \"origin\"\ncache = { lifetimes = { 200 = \"1h\" } }\n".into(),
        Answer::Fixed => format!("respond = {{ status = 200, body = \"{}\" }}\n", "x".repeat(1024)),
    }
}

fn install(site: &Site) -> Result<()> {
    let folder = plugin_folder(site.folder);
    std::fs::create_dir_all(&folder)?;
    for file in ["jwt.wasm", "rate_limit.wasm", "canary.wasm", "headers.wasm"] {
        std::fs::copy(site.artifacts.components.join(file), folder.join(file))?;
    }
    std::fs::copy(&site.artifacts.idle, folder.join("idle.wasm"))?;
    Ok(())
}

/// The value of `gateway.plugins`, and the tables that declare and bind the plugins.
fn plugins(plugins: &Plugins) -> (String, String) {
    match plugins {
        Plugins::None | Plugins::Idle(0) | Plugins::Headers(0) => (String::new(), String::new()),
        Plugins::Idle(bindings) => repeated("idle", *bindings, ""),
        Plugins::Headers(bindings) => repeated(
            "headers",
            *bindings,
            // The result of this plugin is always the same. If it were remembered, no call would be measured.
            "remember = false\nsettings = { response = { set = { \"x-served-by\" = \"witgate\" } } }\n",
        ),
        Plugins::Chain { remember } => (
            "\"jwt\", \"rate-limit\", \"canary\", \"headers\"".into(),
            CHAIN.replace("SECRET", crate::tokens::SECRET).replace("REMEMBER", &remember.to_string()),
        ),
    }
}

/// One plugin, bound several times.
fn repeated(plugin: &str, bindings: usize, settings: &str) -> (String, String) {
    let names: Vec<_> = (0..bindings).map(|number| format!("\"{plugin}-{number}\"")).collect();
    let mut text = format!("\n[plugins.{plugin}]\n");
    for number in 0..bindings {
        let _ = write!(text, "\n[bindings.{plugin}-{number}]\nplugin = \"{plugin}\"\n{settings}");
    }
    (names.join(", "), text)
}

const CHAIN: &str = r#"
[plugins]
jwt = {}
rate-limit = { file = "rate_limit.wasm" }
canary = {}
headers = {}

[bindings.jwt]
remember = REMEMBER
grants = { fetch = [], store = [] }

[bindings.jwt.settings]
keys = [{ alg = "HS256", secret = "SECRET" }]

[bindings.rate-limit]
remember = REMEMBER

[bindings.rate-limit.settings]
policies = [{ name = "bench", by = "client", limit = 1000000000, window = "1s" }]

[bindings.canary]
remember = REMEMBER
grants = { route_to = ["origin"] }
settings = { upstream = "origin", header = { name = "x-canary", value = "always" } }

[bindings.headers]
remember = REMEMBER

[bindings.headers.settings]
request = { set = { "x-caller" = "{identity.subject}" } }
response = { set = { "x-served-by" = "witgate" } }
"#;
