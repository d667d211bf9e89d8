//! Upstreams: the request is forwarded to an endpoint.
//!
//! If there are several upstreams, one is chosen by weight. The path for the upstream may differ from the
//! client's. Forwarding itself is in [`witgate_upstream`].

use std::sync::Arc;

use http::Response;
use http::uri::PathAndQuery;
use witgate_config::model::{self, Action};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::head::RequestHead;
use witgate_upstream::Forward;

use super::bridge::Bridge;
use super::split::Split;
use super::{BuildInputs, Built, Destination, DestinationKind, Mistake, shared};
use crate::router::{Pattern, Template, decode, single_slash};

pub(super) const ROW: DestinationKind =
    DestinationKind { kind: "upstream", summary: "the request is forwarded to an endpoint", build };

fn build(inputs: &BuildInputs<'_>) -> Option<Built> {
    let Action::Forward(settings) = inputs.action else { return None };
    let made = ToUpstream::compile(settings, inputs).and_then(|destination| {
        if settings.bridge == model::GrpcBridge::default() {
            return shared(Ok(destination));
        }
        check_protocol(settings, inputs)?;
        let forward = destination.forward.clone();
        shared(Ok(Bridge::new(settings.bridge, Arc::new(destination), forward)))
    });
    Some(made)
}

/// Calls of gRPC need HTTP/2.
fn check_protocol(settings: &model::Forward, inputs: &BuildInputs<'_>) -> Result<(), Mistake> {
    let speaks =
        |name: &String| inputs.upstreams.get(name.as_str()).is_none_or(|upstream| upstream.speaks_http2());
    match settings.upstreams.iter().find(|(name, _)| !speaks(name)) {
        None => Ok(()),
        Some((name, _)) => Err((
            "grpc_bridge",
            format!("the upstream `{name}` does not speak HTTP/2, without which there is no gRPC"),
            format!("write `protocol = \"http2\"` under `[upstreams.{name}]`"),
        )),
    }
}

/// Chooses an upstream and forwards to it.
struct ToUpstream {
    split: Split,
    rewrite: Rewrite,
    /// Whether slashes at the beginning of a rewritten path become one.
    merges: bool,
    forward: Arc<Forward>,
}

impl ToUpstream {
    fn compile(settings: &model::Forward, inputs: &BuildInputs<'_>) -> Result<Self, Mistake> {
        let split = Split::new(&settings.upstreams).ok_or_else(|| {
            (
                "upstreams",
                "no upstream has a weight above 0".into(),
                "give one of them a weight, or remove the route".into(),
            )
        })?;
        let rewrite = Rewrite::compile(&settings.rewrite, inputs.pattern)?;
        let merges = inputs.merge_slashes;
        Ok(ToUpstream {
            split,
            rewrite,
            merges,
            forward: Arc::new(Forward::new(inputs.upstreams.clone(), settings)),
        })
    }
}

impl Destination for ToUpstream {
    /// Advances the weighted split over upstreams.
    fn choose(&self, facts: &mut Facts) -> Result<bool, Fault> {
        if let Some(target) = self.rewrite.apply(&facts.head, self.merges)? {
            Arc::make_mut(&mut facts.head).upstream_target = Some(target);
        }
        facts.upstream = Some(self.split.next().clone());
        Ok(true)
    }

    fn serve<'a>(
        &'a self,
        facts: &'a mut Facts,
        body: Body,
    ) -> MaybeReady<'a, Result<Response<Body>, Fault>> {
        self.forward.serve(facts, body)
    }
}

/// A compiled rewrite of the path for the upstream.
enum Rewrite {
    /// The path as it is.
    Keep,
    /// These decoded segments are removed from the beginning.
    Strip(Vec<String>),
    /// The template is filled in from the request.
    Template(Template),
}

impl Rewrite {
    fn compile(rewrite: &model::Rewrite, pattern: &Pattern) -> Result<Self, Mistake> {
        Ok(match rewrite {
            model::Rewrite::Keep => Rewrite::Keep,
            model::Rewrite::StripPrefix(prefix) => {
                let segments = prefix.split('/').filter(|segment| !segment.is_empty());
                Rewrite::Strip(segments.map(|segment| decode(segment).into_owned()).collect())
            }
            model::Rewrite::Template(text) => {
                let template =
                    Template::parse(text, pattern).map_err(|(message, hint)| ("rewrite", message, hint))?;
                if !text.starts_with(['/', '{']) {
                    return Err((
                        "rewrite",
                        format!("the rewrite `{text}` is not a path"),
                        format!("write `/{text}`"),
                    ));
                }
                Rewrite::Template(template)
            }
        })
    }

    /// The path and query for the upstream; `None` leaves them as they are.
    fn apply(&self, head: &RequestHead, merges: bool) -> Result<Option<PathAndQuery>, Fault> {
        let absolute = |path: &str| {
            if merges || path.is_empty() { single_slash(path).to_owned() } else { path.to_owned() }
        };
        let target = match self {
            Rewrite::Keep => None,
            Rewrite::Strip(prefix) => {
                strip(head.path(), prefix).map(|path| with_query(&absolute(path), head.query()))
            }
            Rewrite::Template(template) => {
                let filled = template.fill(head.path(), head.query(), head.host());
                let query = head.query().filter(|_| !filled.contains('?'));
                Some(with_query(&absolute(&filled), query))
            }
        };
        let checked =
            target.map(|target| PathAndQuery::try_from(target).map_err(|_| Fault::new(FaultKind::BadPath)));
        checked.transpose()
    }
}

/// The rest of a path after a prefix of segments; `None` if the path does not begin with them.
fn strip<'a>(path: &'a str, prefix: &[String]) -> Option<&'a str> {
    let mut rest = path;
    for expected in prefix {
        let inner = rest.strip_prefix('/')?;
        let end = inner.find('/').unwrap_or(inner.len());
        let (segment, after) = inner.split_at(end);
        if decode(segment) != expected.as_str() {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

fn with_query(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use witgate_config::model::Rewrite;

    use super::super::tests::{built, forward};
    use crate::testing;

    /// The path and query that the upstream would get.
    fn rewritten(pattern: &str, rewrite: Rewrite, target: &str) -> String {
        let mut facts = testing::facts(testing::head(Method::GET, target, &[]));
        assert!(built(pattern, forward(rewrite)).choose(&mut facts).unwrap());
        assert_eq!(facts.upstream.as_deref(), Some("origin"));
        facts.head.upstream_target.as_ref().unwrap_or(&facts.head.target).to_string()
    }

    #[test]
    fn paths_are_rewritten_without_being_decoded() {
        let strip = || Rewrite::StripPrefix("/api".into());
        for (target, expected) in [
            ("/api/users/a%2Fb?x=1", "/users/a%2Fb?x=1"),
            ("/api", "/"),
            ("/api/", "/"),
            ("/api//evil.example", "/evil.example"),
            ("/other/x", "/other/x"),
        ] {
            assert_eq!(rewritten("/*", strip(), target), expected, "{target}");
        }
        let template = || Rewrite::Template("/v2/{id}/x{rest}".into());
        assert_eq!(rewritten("/users/{id}/{*rest}", template(), "/users/a%20b/c/d?q"), "/v2/a%20b/xc/d?q");
        let template = Rewrite::Template("/search{query}".into());
        assert_eq!(rewritten("/*", template, "/any?q=1"), "/search?q=1");
    }
}
