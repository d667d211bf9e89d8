//! The rate-limiting contract: bindings name the buckets on which a request draws, and the gateway counts.
//!
//! Every binding is called before anything is counted, so that either all buckets of a request are charged or
//! none. Buckets belong to a binding by its name: they survive reloads and new versions of the plugin, and two
//! bindings of one plugin never share a bucket.

mod headers;

use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use http::HeaderValue;
use witgate_config::model::OnFailure;
use witgate_exchange::contracts::counter::{BucketState, Counter, Draw, Rate};
use witgate_exchange::contracts::{Binding, Bucket, Call, Function, Phase};
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::settling::{Drawn, Settling};
use witgate_exchange::turn;

use crate::pipeline::call;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::remembered::{Question, Rememberable};
use crate::pipeline::validate::Invalid;
use crate::router::Route;

/// The most buckets that one binding may name for one request.
const BUCKETS: usize = 32;

/// Charges the buckets of the request. The states of the buckets are also written to the headers of the response.
///
/// # Errors
/// `RateLimited` with `Retry-After`, `PluginFailed`.
pub(super) async fn run(exchange: &mut Exchange, route: &Route) -> Result<(), Fault> {
    let mut drawn: Option<Rc<Draws>> = None;
    for limiting in &route.rate_limiting {
        if exchange.leaves_out(&**limiting) {
            continue;
        }
        let question = Question::new(&**limiting, Function::Draw, &exchange.facts.head, &exchange.snapshot);
        let answer = call::ask(
            &mut exchange.facts.record,
            question,
            || limiting.draw(Call { head: &exchange.facts.head, fetch: &exchange.snapshot }),
            |buckets| Draws::check(&**limiting, buckets),
        );
        if let Some(more) = answer.await?.filter(|more| !more.draws.is_empty()) {
            drawn = Some(match drawn {
                None => more,
                Some(before) => Rc::new(before.with(&more)),
            });
        }
    }
    let Some(drawn) = drawn else { return Ok(()) };
    let Ok(states) = exchange.snapshot.counter.charge(&drawn.draws).await else {
        return uncounted(exchange, route);
    };
    let states = states.as_slice();
    headers::write(&drawn, states, &mut exchange.facts.response_headers);
    if route.rate_limiting.iter().any(|limiting| limiting.settles()) {
        let settling = drawn.settling(states, &exchange.snapshot.counter);
        Arc::make_mut(&mut exchange.facts.head).settling = settling.map(Arc::new);
    }
    let wait = states.iter().filter(|state| !state.admitted).map(|state| state.retry_after).max();
    exchange.telemetry.metrics().rate_limit(&route.name, wait.is_none());
    match wait {
        None => Ok(()),
        Some(wait) => Err(headers::retry_after(drawn.exceeded(states), wait)),
    }
}

/// The outcome if the counter cannot be reached. It is treated as a failed call of every binding that was called, so one with
/// `on_failure = "deny"` is enough to refuse the request.
fn uncounted(exchange: &Exchange, route: &Route) -> Result<(), Fault> {
    let mut called = route.rate_limiting.iter().filter(|limiting| !exchange.leaves_out(&***limiting));
    match called.find(|limiting| limiting.on_failure() == OnFailure::Deny) {
        Some(limiting) => {
            Err(call::denied(&**limiting, Phase::RateLimiting, "the counter cannot be reached"))
        }
        None => Ok(()),
    }
}

/// The buckets on which a request draws.
#[derive(Debug)]
struct Draws {
    draws: Vec<Draw>,
    /// The name of each bucket's policy.
    policies: Vec<String>,
    /// The name of the binding that each bucket belongs to.
    bindings: Vec<Arc<str>>,
    /// The value of `RateLimit-Policy` for all buckets.
    told: HeaderValue,
}

impl Draws {
    fn check(binding: &dyn Binding, buckets: Vec<Bucket>) -> Result<Self, Invalid> {
        if buckets.len() > BUCKETS {
            return Err(Invalid::new("too many buckets"));
        }
        let mut draws = Vec::with_capacity(buckets.len());
        let mut policies = Vec::with_capacity(buckets.len());
        let bindings = vec![Arc::clone(binding.name()); buckets.len()];
        let mut told: Vec<String> = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            draws.push(draw(binding, &bucket, check(&bucket)?));
            told.push(headers::policy(&bucket));
            policies.push(bucket.policy);
        }
        Ok(Draws { draws, policies, bindings, told: headers::field(told.join(", ")) })
    }

    /// The fault of a request that these states refuse. The client is told the names of the policies, which
    /// `RateLimit-Policy` has too; the log is told the bindings as well.
    fn exceeded(&self, states: &[BucketState]) -> Fault {
        let refusing = || {
            let named = self.policies.iter().zip(&self.bindings).zip(states);
            named.filter(|(_, state)| !state.admitted).map(|(named, _)| named)
        };
        let policies: Vec<_> = refusing().map(|(policy, _)| format!("`{policy}`")).collect();
        let causes: Vec<_> =
            refusing().map(|(policy, binding)| format!("policy `{policy}` of binding `{binding}`")).collect();
        Fault::new(FaultKind::RateLimited)
            .detail(format!("the limit of the policy {} is used up", policies.join(", ")))
            .cause(causes.join(", "))
    }

    /// What may be settled of these draws; `None` if nothing was charged.
    fn settling(&self, states: &[BucketState], counter: &Arc<dyn Counter>) -> Option<Settling> {
        if !states.iter().all(|state| state.admitted && state.counted) {
            return None;
        }
        let named = self.policies.iter().zip(&self.bindings);
        let drawn =
            self.draws.iter().zip(states).zip(named).map(|((draw, state), (policy, binding))| Drawn {
                binding: Arc::clone(binding),
                policy: policy.as_str().into(),
                draw: *draw,
                reset: state.reset,
            });
        Some(Settling::new(Arc::clone(counter), turn::now(), drawn.collect()))
    }

    /// The buckets together with those of another binding.
    fn with(&self, more: &Draws) -> Draws {
        let told = [self.told.as_bytes(), more.told.as_bytes()].join(&b", "[..]);
        Draws {
            draws: [&self.draws[..], &more.draws].concat(),
            policies: [&self.policies[..], &more.policies].concat(),
            bindings: [&self.bindings[..], &more.bindings].concat(),
            told: headers::field(told),
        }
    }
}

impl call::Decision for Draws {
    fn in_words(&self) -> &'static str {
        if self.draws.is_empty() { "no bucket" } else { "draws" }
    }
}

impl Rememberable for Draws {
    fn size(&self) -> usize {
        let each = size_of::<Draw>() + size_of::<String>() + size_of::<Arc<str>>();
        self.draws.len() * each + self.policies.iter().map(String::len).sum::<usize>() + self.told.len()
    }
}

fn check(bucket: &Bucket) -> Result<Rate, Invalid> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if bucket.policy.is_empty() || bucket.policy.len() > 64 || !bucket.policy.bytes().all(token) {
        return Err(Invalid::new("a policy is not a token of at most 64 characters"));
    }
    if bucket.key.len() > 256 {
        return Err(Invalid::new("a bucket's key is longer than 256 bytes"));
    }
    Rate::of(bucket.limit, bucket.window, bucket.burst.unwrap_or(bucket.limit))
        .ok_or_else(|| Invalid::new("a limit or window is zero, or a bucket takes over a century to fill"))
}

fn draw(binding: &dyn Binding, bucket: &Bucket, rate: Rate) -> Draw {
    let mut digest = Context::new(&SHA256);
    let mut policy = DefaultHasher::new();
    for part in [binding.name().as_bytes(), bucket.policy.as_bytes()] {
        digest.update(&(part.len() as u64).to_le_bytes());
        digest.update(part);
        policy.write(part);
    }
    digest.update(bucket.key.as_bytes());
    let digest = digest.finish();
    let (half, _) = digest.as_ref().split_first_chunk().expect("a SHA-256 digest has more than 16 bytes");
    Draw { bucket: u128::from_le_bytes(*half), policy: policy.finish(), cost: bucket.cost, rate }
}
