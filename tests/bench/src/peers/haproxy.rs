//! haproxy: one process with threads.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use super::{Peer, Site, on_path};
use crate::scene::{Inbound, Outbound, Scene};

pub(crate) static PEER: Peer =
    Peer { name: "haproxy", package: "haproxy", find: |_| on_path("haproxy"), version: &["-v"], command };

fn command(site: &Site, scene: &Scene) -> Result<Command> {
    let bind = match scene.inbound {
        Inbound::Http1 => String::new(),
        Inbound::Http2 => " proto h2".into(),
        Inbound::Tls => format!(" ssl crt {} ssl-min-ver TLSv1.3", site.certificate.both.display()),
    };
    let server = match scene.outbound {
        Outbound::Http1 => "",
        Outbound::Grpc => " proto h2",
    };
    let mut text = format!(
        "global\n  nbthread {}\n  maxconn 8000\n  log /dev/null local0 emerg\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend web\n  bind {}{bind}\n  default_backend origin\n\
         backend origin\n",
        scene.workers, site.address
    );
    for (number, endpoint) in scene.endpoints.iter().enumerate() {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  server s{number} {endpoint}{server}");
    }
    let file = site.folder.join("haproxy.cfg");
    std::fs::write(&file, text)?;
    let mut command = Command::new(site.program);
    command.args(["-db", "-q", "-f"]).arg(file);
    Ok(command)
}
