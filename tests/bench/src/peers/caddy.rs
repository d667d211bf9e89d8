//! Caddy: one process, with as many running threads as workers.

use std::process::Command;

use anyhow::Result;

use super::{Peer, Site, on_path};
use crate::scene::{Inbound, Outbound, Scene};

pub(crate) static PEER: Peer =
    Peer { name: "caddy", package: "caddy", find: |_| on_path("caddy"), version: &["version"], command };

fn command(site: &Site, scene: &Scene) -> Result<Command> {
    let (scheme, tls) = match scene.inbound {
        Inbound::Http1 | Inbound::Http2 => ("http", String::new()),
        Inbound::Tls => (
            "https",
            format!(
                "  tls {} {} {{\n    protocols tls1.3\n  }}\n",
                site.certificate.certificate.display(),
                site.certificate.key.display()
            ),
        ),
    };
    let upstreams = |prefix: &str| {
        let named = scene.endpoints.iter().map(|endpoint| format!("{prefix}{endpoint}"));
        named.collect::<Vec<_>>().join(" ")
    };
    let forward = match scene.outbound {
        // Caddy keeps 32 idle connections for each host by default; the other proxies are configured with 64.
        Outbound::Http1 => format!(
            "reverse_proxy {} {{\n    transport http {{\n      keepalive_idle_conns_per_host 64\n    }}\n  }}",
            upstreams("")
        ),
        Outbound::Grpc => format!("reverse_proxy {}", upstreams("h2c://")),
    };
    let text = format!(
        "{{\n  admin off\n  auto_https off\n  log {{\n    level ERROR\n  }}\n\
           \x20 servers {{\n    protocols h1 h2 h2c\n  }}\n}}\n\
         {scheme}://{} {{\n  bind {}\n{tls}  {forward}\n}}\n",
        site.address,
        site.address.ip()
    );
    let file = site.folder.join("Caddyfile");
    std::fs::write(&file, text)?;
    let mut command = Command::new(site.program);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    command.env("GOMAXPROCS", scene.workers.to_string());
    for home in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(home, site.folder);
    }
    // Caddy logs its start to standard error before it reads its log level.
    command.stderr(std::process::Stdio::null());
    Ok(command)
}
