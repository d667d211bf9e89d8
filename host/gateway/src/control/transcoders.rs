//! What translates JSON to gRPC on the routes that have `transcode`.

use std::sync::Arc;

use witgate_config::{Config, Problem, Problems, model};
use witgate_exchange::destination::Wrapper;
use witgate_proxy::snapshot::Wrappers;

/// The transcoders of a configuration by the names of their routes, and all problems. Their files are read.
pub(super) fn of(config: &Config) -> (Wrappers, Problems) {
    let (mut wrappers, mut problems) = (Wrappers::new(), Problems::new());
    for (position, route) in config.routes.iter().enumerate() {
        let model::Action::Forward(model::Forward { transcode: Some(settings), upstreams, .. }) =
            &route.action
        else {
            continue;
        };
        let at = |key: &str| {
            let dot = if key.is_empty() { "" } else { "." };
            format!("routes[{position}].transcode{dot}{key}")
        };
        let speaks = |name: &str| {
            let upstream = config.upstreams.get(name);
            upstream.is_none_or(|upstream| upstream.protocol == model::UpstreamProtocol::Http2)
        };
        if let Some((name, _)) = upstreams.iter().find(|(name, _)| !speaks(name)) {
            let told = format!("the upstream `{name}` does not speak HTTP/2, without which there is no gRPC");
            let hint = format!("write `protocol = \"http2\"` under `[upstreams.{name}]`");
            problems.push(Problem { key: at(""), ..Problem::new(told).with_hint(hint) });
        }
        match load(settings) {
            Ok(wrapper) => drop(wrappers.insert(route.name.clone(), wrapper)),
            Err((key, told)) => problems.push(Problem { key: at(key), ..Problem::new(told) }),
        }
    }
    (wrappers, problems)
}

/// A transcoder, or the key of the setting that is wrong, and why.
type Loaded = Result<Arc<dyn Wrapper>, (&'static str, String)>;

#[cfg(feature = "grpc-transcode")]
fn load(settings: &model::Transcode) -> Loaded {
    Ok(Arc::new(witgate_transcode::Transcoder::load(settings)?))
}

#[cfg(not(feature = "grpc-transcode"))]
fn load(_: &model::Transcode) -> Loaded {
    Err(("", "this build has no transcoding; build it with the Cargo feature `grpc-transcode`".to_owned()))
}
