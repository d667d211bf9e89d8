//! Contract `rate-limiting`.

use std::time::Duration;

use wasmtime::component::Resource;
use witgate_exchange::contracts::{Answer, Bucket, Call, CallFailure, Function, Phase};

use super::{CallInputs, Running, declared, request_head};
use crate::bindings::exports::witgate::plugin::rate_limiting as contract;
use crate::plugin::Loaded;
use crate::pool::Lease;

/// Bytes that a bucket counts for in addition to its names.
const BUCKET: usize = 40;

/// Calls the function that names the buckets a request draws on.
pub(crate) async fn draw<'a>(
    binding: &'a Loaded,
    lease: Option<Lease<'a>>,
    call: Call<'a>,
) -> Result<Answer<Vec<Bucket>>, CallFailure> {
    let mut running =
        Running::begin(binding, lease, Phase::RateLimiting, CallInputs { call, response: None }).await?;
    let exported = running.instance()?.exports.rate_limiting.clone().ok_or(CallFailure::Unavailable)?;
    let shown = binding.shown[Function::Draw as usize];
    let list = declared(&call.head.headers, &binding.interest.request_headers, shown.headers);
    let query = binding.query(call.head, shown);
    let parameters = (request_head(call.head, &list, query.as_deref(), shown), Resource::new_borrow(0));
    let answer = running.invoke(exported.func_draw(), parameters).await;
    let pure = running.is_pure(Function::Draw)?;
    running.end(&answer, |(buckets,)| size(buckets))?;
    let (buckets,) = answer?;
    Ok(Answer { content: buckets.into_iter().map(bucket).collect(), pure })
}

fn size(buckets: &[contract::Bucket]) -> usize {
    buckets.iter().map(|bucket| bucket.policy.len() + bucket.key.len() + BUCKET).sum()
}

fn bucket(bucket: contract::Bucket) -> Bucket {
    Bucket {
        policy: bucket.policy,
        key: bucket.key,
        cost: bucket.cost,
        limit: bucket.limit,
        window: Duration::from_millis(bucket.window),
        burst: bucket.burst,
    }
}
