//! Routes that say they carry streams without an end, and bindings that would wait for it.
//!
//! Nobody can see such a stream as a whole: a gRPC stream is answered while it is sent, and what follows an upgrade is no body at
//! all. A route says what it carries by its conditions: `content-type` of `application/grpc`, or a header `upgrade`.

use std::collections::BTreeMap;
use std::sync::Arc;

use witgate_config::model::{RouteMatch, ValueMatch};
use witgate_config::{Problem, Problems};
use witgate_exchange::contracts::{Binding, BodyAccess, Extent, Interest};

use super::routes::note_once;
use crate::router::Route;

/// Reports each binding of the route that reads bodies as a whole although the route carries streams.
pub(super) fn check(
    route: &Route,
    scopes: [&Vec<String>; 3],
    plugins: &BTreeMap<String, Arc<dyn Binding>>,
    problems: &mut Problems,
) {
    let Some(streams) = carried(&route.config.matches) else { return };
    for (name, plugin) in scopes.into_iter().flatten().filter_map(|name| plugins.get_key_value(name)) {
        let Some(what) = whole(plugin.interest()) else { continue };
        let hint =
            "bind a plugin that reads a beginning (`peek`) or chunks, or take the binding from this route";
        let message = format!(
            "route `{}` carries {streams}, and the binding `{name}` reads the whole body of each {what}, which would not come to \
             an end",
            route.name
        );
        let problem = Problem { key: format!("bindings.{name}"), ..Problem::new(message).with_hint(hint) };
        note_once(problem, problems);
    }
}

/// What a route with these conditions carries; `None`: it does not say that it carries streams.
fn carried(matches: &RouteMatch) -> Option<&'static str> {
    matches.headers.iter().find_map(|field| match (field.name.as_str(), &field.value) {
        ("content-type", ValueMatch::Exact(value) | ValueMatch::Prefix(value))
            if value.starts_with("application/grpc") && !value.starts_with("application/grpc-web") =>
        {
            Some("gRPC streams")
        }
        ("upgrade", ValueMatch::Present | ValueMatch::Exact(_) | ValueMatch::Prefix(_)) => Some("upgrades"),
        _ => None,
    })
}

/// Whose bodies the binding reads as a whole.
fn whole(interest: &Interest) -> Option<&'static str> {
    let decisions = [interest.authenticates_by_body, interest.refuses_by_body, interest.routes_by_body];
    let decides = decisions.iter().flatten().any(|reading| matches!(reading.extent, Extent::Whole(_)));
    if decides || interest.request_body == BodyAccess::Buffered {
        return Some("request");
    }
    (interest.response_body == BodyAccess::Buffered).then_some("response")
}

#[cfg(test)]
mod tests {
    use witgate_config::model::FieldMatch;
    use witgate_exchange::contracts::{BodyForm, Reading};

    use super::*;

    fn says(name: &str, value: ValueMatch) -> Option<&'static str> {
        let headers = vec![FieldMatch { name: name.into(), value }];
        carried(&RouteMatch { headers, ..RouteMatch::default() })
    }

    #[test]
    fn a_route_says_by_its_conditions_what_it_carries() {
        let exact = |text: &str| ValueMatch::Exact(text.into());
        assert_eq!(says("content-type", exact("application/grpc")), Some("gRPC streams"));
        assert_eq!(says("content-type", ValueMatch::Prefix("application/grpc".into())), Some("gRPC streams"));
        assert_eq!(says("content-type", exact("application/grpc+proto")), Some("gRPC streams"));
        assert_eq!(says("upgrade", exact("websocket")), Some("upgrades"));
        assert_eq!(says("upgrade", ValueMatch::Present), Some("upgrades"));
        assert_eq!(says("upgrade", ValueMatch::Absent), None);
        assert_eq!(says("content-type", exact("application/grpc-web")), None);
        assert_eq!(says("content-type", ValueMatch::Prefix("application/".into())), None);
        assert_eq!(says("x-upgrade", exact("websocket")), None);
        assert_eq!(carried(&RouteMatch::default()), None);
    }

    #[test]
    fn only_who_reads_to_the_end_reads_as_a_whole() {
        let reading = |extent| Some(Reading { form: BodyForm::Raw, extent });
        let nothing = || Interest::NOTHING.clone();
        assert_eq!(whole(&nothing()), None);
        assert_eq!(whole(&Interest { refuses_by_body: reading(Extent::Peek(10)), ..nothing() }), None);
        assert_eq!(
            whole(&Interest { refuses_by_body: reading(Extent::Whole(10)), ..nothing() }),
            Some("request")
        );
        assert_eq!(whole(&Interest { request_body: BodyAccess::Streamed, ..nothing() }), None);
        assert_eq!(whole(&Interest { request_body: BodyAccess::Buffered, ..nothing() }), Some("request"));
        assert_eq!(whole(&Interest { response_body: BodyAccess::Buffered, ..nothing() }), Some("response"));
    }
}
