//! nginx: a master and worker processes, all of which are counted. All proxies are compared with it, and it is the
//! origin.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Peer, Site, on_path};
use crate::scene::{Answer, Inbound, Outbound, Scene};

pub(crate) static PEER: Peer = Peer {
    name: "nginx",
    package: "nginx",
    find: |_| on_path("nginx"),
    version: &["-v"],
    command: |site, scene| command(site, scene, "", cached(scene)),
};

/// A proxy, with additional text at the top level and in each location.
pub(super) fn command(site: &Site, scene: &Scene, top: &str, in_location: &str) -> Result<Command> {
    // A folder in memory would not be faster: the pages of these few files are cached.
    let path = "  proxy_cache_path cache keys_zone=stored:10m;\n";
    let path = if scene.answer == Answer::Cache { path } else { "" };
    let http = format!("{path}{}{}", upstream(scene), server(site, scene, in_location));
    // Each endpoint and each client needs a connection.
    let connections = scene.endpoints.len() + 4096;
    start(site.program, site.folder, (scene.workers, connections), top, &http)
}

/// What a location needs in order to store responses.
fn cached(scene: &Scene) -> &'static str {
    match scene.answer {
        Answer::Cache => "proxy_cache stored; proxy_cache_valid 200 1h; ",
        Answer::Origin | Answer::Fixed => "",
    }
}

/// Writes the configuration of any nginx and returns the command that starts it. nginx allocates memory for
/// `connections` in advance.
pub(crate) fn start(
    program: &Path,
    folder: &Path,
    (workers, connections): (usize, usize),
    top: &str,
    http: &str,
) -> Result<Command> {
    // Run by root, nginx would switch to a user that cannot read the scratch folder.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    // The compiled-in folders are writable for root only.
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("  {name}_temp_path {name};\n"))
        .collect();
    let text = format!(
        "{top}daemon off;\n{user}worker_processes {workers};\npid nginx.pid;\nerror_log stderr crit;\n\
         events {{ worker_connections {connections}; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n{temporary}{http}}}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text)?;
    let mut command = Command::new(program);
    // nginx opens its compiled-in error log before it reads the configuration.
    command.arg("-p").arg(folder).arg("-c").arg(file).args(["-e", "stderr"]);
    Ok(command)
}

fn upstream(scene: &Scene) -> String {
    let mut text = String::from("  upstream origin {\n");
    for endpoint in &scene.endpoints {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "    server {endpoint};");
    }
    let _ = writeln!(text, "    keepalive {};\n  }}", scene.endpoints.len().max(64));
    text
}

fn server(site: &Site, scene: &Scene, in_location: &str) -> String {
    let (parameters, tls) = match scene.inbound {
        Inbound::Http1 => ("", String::new()),
        Inbound::Http2 => (" http2", String::new()),
        Inbound::Tls => (
            " ssl",
            format!(
                "    ssl_protocols TLSv1.3;\n    ssl_certificate {};\n    ssl_certificate_key {};\n",
                site.certificate.certificate.display(),
                site.certificate.key.display()
            ),
        ),
    };
    let pass = match scene.outbound {
        Outbound::Http1 => {
            "proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";"
        }
        Outbound::Grpc => "grpc_pass grpc://origin;",
    };
    let mut text = format!("  server {{\n    listen {}{parameters};\n{tls}", site.address);
    let paths: Vec<_> = match scene.routes {
        1 => vec!["/".into()],
        routes => (0..routes).map(|route| format!("= /r/{route}")).collect(),
    };
    for path in paths {
        let _ = writeln!(text, "    location {path} {{ {in_location}{pass} }}");
    }
    text + "  }\n"
}
