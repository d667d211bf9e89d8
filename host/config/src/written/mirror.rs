//! `routes.mirror`: copies of requests for another upstream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, Size, Text};

/// The largest `body_limit`, since copied bodies are in memory.
const MOST_BODY: u64 = 64 << 20;

/// Copies of this route's requests for another upstream, e.g. to try out its next version. A copy is sent once,
/// after the body of the request was forwarded; it carries `x-shadow: 1`, its response is dropped, and the caller
/// never waits for it. A request that asks to switch protocols is not mirrored.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["upstream"]))]
pub(super) struct Mirror {
    /// Name of the upstream that gets the copies.
    #[schemars(length(min = 1))]
    upstream: String,
    /// The share of requests that are copied, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    share: f64,
    /// Time for a copy, including its response.
    timeout: Text<Duration>,
    /// Copies in flight at once, over all cores. Further ones are dropped and counted.
    #[schemars(range(min = 1, max = 1_000_000))]
    max_concurrent: usize,
    /// Bytes of a request body that are copied. A request with a longer body is not mirrored, which is counted.
    body_limit: Text<Size>,
}

impl Default for Mirror {
    fn default() -> Self {
        Self {
            upstream: String::new(),
            share: 1.0,
            timeout: Text::of("5s"),
            max_concurrent: 64,
            body_limit: Text::of("64KiB"),
        }
    }
}

impl Mirror {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::Mirror {
        scope.check_upstream(&child(at, "upstream"), &self.upstream);
        scope.check_size(at, "body_limit", self.body_limit.value.0, (0, MOST_BODY));
        model::Mirror {
            upstream: self.upstream,
            share: self.share,
            timeout: scope.check_positive(at, "timeout", self.timeout.value.0),
            max_concurrent: self.max_concurrent,
            body_bytes: self.body_limit.value.in_memory(),
        }
    }
}
