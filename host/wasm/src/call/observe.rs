//! Contract `observe`.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use witgate_exchange::contracts::{CallFailure, Phase};
use witgate_exchange::log_entry::{End, LogEntry};

use super::Running;
use crate::bindings::draft::exports::witgate::plugin0_2_0::observe as contract;
use crate::plugin::Loaded;

/// Calls `observe` with a batch.
pub(crate) async fn observe(binding: &Loaded, batch: &[Arc<LogEntry>]) -> Result<(), CallFailure> {
    let upstreams = binding.background.upstreams();
    let mut running = Running::begin_in_background(binding, Phase::Observe, &*upstreams).await?;
    let exported = running.instance()?.exports.observe.clone().ok_or(CallFailure::Unavailable)?;
    let rights = binding.pool.rights();
    // A grant of a header is none of a credential.
    let granted = rights.grants.headers.iter().filter(|name| !rights.credentials.hide_name(name));
    let granted: Vec<&str> = granted.map(String::as_str).collect();
    let parts: Vec<Parts<'_>> = batch.iter().map(|entry| Parts::of(entry, &granted)).collect();
    let exchanges: Vec<contract::Exchange<'_>> =
        batch.iter().zip(&parts).map(|(entry, parts)| exchange(entry, parts)).collect();
    let answer = running.invoke(exported.func_observe(), (&exchanges[..],)).await;
    running.end(&answer, |()| 0)
}

/// What of an exchange has to be put together before it can be borrowed.
struct Parts<'a> {
    trace_id: Option<String>,
    client_address: String,
    headers: Vec<(&'a str, &'a [u8])>,
    steps: Vec<contract::Step<'a>>,
}

impl<'a> Parts<'a> {
    fn of(entry: &'a LogEntry, granted: &[&'a str]) -> Parts<'a> {
        let head = &entry.head;
        let headers = granted
            .iter()
            .flat_map(|name| head.headers.get_all(*name).iter().map(|value| (*name, value.as_bytes())));
        let steps = entry.plugins.iter().map(|call| contract::Step {
            binding: &call.binding,
            phase: call.phase,
            microseconds: microseconds(call.time),
            failure: call.failure.map(CallFailure::as_str),
        });
        Parts {
            trace_id: head.trace_id(),
            client_address: head.client.address.to_string(),
            headers: headers.collect(),
            steps: steps.collect(),
        }
    }
}

fn exchange<'a>(entry: &'a LogEntry, parts: &'a Parts<'a>) -> contract::Exchange<'a> {
    let head = &entry.head;
    let ended_at = entry.ended.duration_since(UNIX_EPOCH).unwrap_or_default();
    contract::Exchange {
        ended_at: u64::try_from(ended_at.as_millis()).unwrap_or(u64::MAX),
        microseconds: microseconds(entry.time),
        listener: &entry.listener,
        route: head.route_name(),
        request_id: &head.request_id,
        trace_id: parts.trace_id.as_deref(),
        client_address: &parts.client_address,
        subject: head.identity.as_ref().map(|identity| &*identity.subject),
        method: head.method.as_str(),
        authority: &head.authority,
        path: head.path(),
        headers: &parts.headers,
        status: entry.status.as_u16(),
        end: match entry.end {
            End::Complete => contract::End::Complete,
            End::ClientGone => contract::End::ClientGone,
            End::Cut => contract::End::Cut,
        },
        received: entry.received,
        sent: entry.sent,
        fault: entry.fault.as_ref().map(|(kind, _)| kind.describe().code),
        upstream: entry.upstream_name(),
        endpoint: entry.endpoint.as_ref().map(|(_, endpoint)| &**endpoint),
        attempts: entry.attempts,
        upstream_microseconds: entry.upstream_time.map(microseconds),
        steps: &parts.steps,
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
