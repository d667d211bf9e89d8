//! The metrics of brokers and consumers.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use witgate_exchange::family::Family;

use super::Consumers;
use crate::destination::Brokers;

/// Writes the condition and the counts of every broker and every consumer.
pub(crate) fn encode(
    brokers: &Brokers,
    consumers: &Consumers,
    encoder: &mut DescriptorEncoder,
) -> fmt::Result {
    if brokers.is_empty() {
        return Ok(());
    }
    let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let states: Vec<_> = brokers.iter().map(|(name, broker)| (name.as_str(), broker.status())).collect();
    let help = "Whether a broker is connected (1) or not (0)";
    let mut family = Family::gauges(encoder, "witgate_broker_connected", help)?;
    for (name, status) in &states {
        family.gauge(&[("broker", *name)], i64::from(status.problem.is_none()))?;
    }
    let help = "Messages that wait for the confirm of a broker";
    let mut family = Family::gauges(encoder, "witgate_broker_in_flight", help)?;
    for (name, status) in &states {
        family.gauge(&[("broker", *name)], gauge(status.in_flight))?;
    }
    let help = "Messages of a broker: published, confirmed, returned as unroutable, failed; consumed, and which of these were redelivered";
    let mut family = Family::counters(encoder, "witgate_broker_messages", help)?;
    for (name, status) in &states {
        for (state, count) in &status.messages {
            family.counter(&[("broker", *name), ("state", *state)], *count)?;
        }
    }
    let states: Vec<_> =
        consumers.iter().map(|(name, consumer)| (name.as_str(), consumer.status())).collect();
    let help = "Messages of a consumer that are fetched and not settled";
    let mut family = Family::gauges(encoder, "witgate_consumer_unsettled", help)?;
    for (name, status) in &states {
        family.gauge(&[("consumer", *name)], gauge(status.unsettled))?;
    }
    let help = "Whether a consumer begins no request at the moment (1)";
    let mut family = Family::gauges(encoder, "witgate_consumer_paused", help)?;
    for (name, status) in &states {
        family.gauge(&[("consumer", *name)], i64::from(status.paused.is_some()))?;
    }
    let help = "Messages of a consumer, by what became of them";
    let mut family = Family::counters(encoder, "witgate_consumer_messages", help)?;
    for (name, status) in &states {
        for (state, count) in &status.messages {
            family.counter(&[("consumer", *name), ("state", *state)], *count)?;
        }
    }
    Ok(())
}
