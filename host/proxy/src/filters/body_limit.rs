//! A limit on request bodies for a part of the routes, tighter than the listener's.
//!
//! `body_bytes` of a route and of a listener's limits do the same without a filter. Choose the filter to share one
//! limit by name, on a listener or the whole gateway, while other limits stay. It stands next to the upstream, so
//! it counts the body as plugins left it. Of a gRPC call whose messages the gateway checks, it limits each message.

use http_body_util::{BodyExt, LengthLimitError, Limited};
use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::scalar::{Size, Text};
use witgate_config::{Problems, Settings as Written};
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::grpc_messages;

use super::{Filter, FilterKind, Stage, Step, schema_of};

pub(super) const ROW: FilterKind = FilterKind {
    kind: "body-limit",
    summary: "a limit on request bodies",
    place: Stage::Origin,
    build,
    schema: schema_of::<Settings>,
};

/// Settings of `body-limit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The most bytes of a request body, e.g. `"1MiB"`; 0 refuses every body. Of a gRPC call whose messages are checked (see
    /// `body_bytes` of `gateway.limits`), the most bytes of each message.
    max: Text<Size>,
}

fn build(settings: &Written) -> Result<Box<dyn Filter>, Problems> {
    let Settings { max } = settings.parse()?;
    Ok(Box::new(BodyLimit { max: max.value.0 }))
}

struct BodyLimit {
    max: u64,
}

impl BodyLimit {
    fn limit(&self, facts: &Facts, body: Body) -> Result<Body, Fault> {
        if facts.grpc_messages {
            return Ok(grpc_messages::enforced(body, self.max));
        }
        let size = http_body::Body::size_hint(&body);
        if size.lower() > self.max {
            return Err(Fault::new(FaultKind::BodyTooLarge));
        }
        if size.exact().is_some() {
            // The length is known and allowed, and the protocol ensures that the body has no more bytes than its
            // Content-Length.
            return Ok(body);
        }
        let max = usize::try_from(self.max).unwrap_or(usize::MAX);
        let body = Limited::new(body, max).map_err(|error| -> BodyError {
            if error.is::<LengthLimitError>() { Box::new(Fault::new(FaultKind::BodyTooLarge)) } else { error }
        });
        Ok(Body::wrap(body))
    }
}

impl Filter for BodyLimit {
    fn request<'a>(&'a self, facts: &'a mut Facts, body: Body) -> MaybeReady<'a, Result<Step, Fault>> {
        MaybeReady::over(self.limit(facts, body).map(Step::Proceed))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;
    use witgate_exchange::body::{Body, BodyError};
    use witgate_exchange::fault::{Fault, FaultKind};

    use super::super::Step;
    use super::super::tests::{build, request};
    use crate::testing;

    fn through(body: Body) -> Result<usize, BodyError> {
        let filter = build("body-limit", json!({ "max": 8 })).expect("good settings");
        let mut facts = testing::facts(testing::head(Method::POST, "/", &[]));
        match request(&*filter, &mut facts, body) {
            Ok(Step::Proceed(body)) => testing::run(testing::bytes(body)).map(|bytes| bytes.len()),
            Ok(Step::Answer(_)) => panic!("a limit answers by a fault"),
            Err(fault) => Err(fault.into()),
        }
    }

    fn kind(error: &BodyError) -> Option<FaultKind> {
        error.downcast_ref::<Fault>().map(|fault| fault.kind)
    }

    #[test]
    fn bodies_of_known_and_unknown_length_are_held_to_the_limit() {
        assert_eq!(through(Body::Empty).expect("nothing"), 0);
        assert_eq!(through(Body::from(bytes::Bytes::from_static(b"12345678"))).expect("at the limit"), 8);
        assert_eq!(through(testing::chunks(vec![Ok(b"1234"), Ok(b"5678")])).expect("at the limit"), 8);
        let known = through(Body::from(bytes::Bytes::from_static(b"123456789"))).expect_err("over");
        assert_eq!(kind(&known), Some(FaultKind::BodyTooLarge));
        let streamed = through(testing::chunks(vec![Ok(b"12345678"), Ok(b"9")])).expect_err("over");
        assert_eq!(kind(&streamed), Some(FaultKind::BodyTooLarge));
        let failed = through(testing::chunks(vec![Err("reset")])).expect_err("failed");
        assert_eq!(kind(&failed), None);
    }
}
