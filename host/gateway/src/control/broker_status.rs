//! The state of brokers and consumers, as the admin listener and `witgate brokers` show it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use witgate_exchange::contracts::broker::{Broker, BrokerStatus};
use witgate_proxy::consume::{Consumer, ConsumerStatus};
use witgate_proxy::snapshot::Snapshot;

/// All brokers and consumers, by name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct MessageStatus {
    pub(crate) brokers: Vec<BrokerRow>,
    pub(crate) consumers: Vec<ConsumerRow>,
}

/// One broker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BrokerRow {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// Why it is not connected; absent while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
    /// The failure or warning that was met last, whether or not it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
    /// Messages that wait for their confirm.
    pub(crate) in_flight: usize,
    /// Bytes of their bodies.
    pub(crate) in_flight_bytes: usize,
    /// Counts since it was made.
    pub(crate) messages: BTreeMap<String, u64>,
}

/// One consumer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConsumerRow {
    pub(crate) name: String,
    pub(crate) broker: String,
    pub(crate) from: String,
    /// Why nothing is fetched; absent if nothing is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
    /// The code of why no request begins; absent if nothing holds them back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<String>,
    /// Messages that are fetched and not settled.
    pub(crate) unsettled: usize,
    /// Counts since it began.
    pub(crate) messages: BTreeMap<String, u64>,
}

impl MessageStatus {
    /// The state of what a snapshot has.
    pub(crate) fn of(snapshot: &Snapshot) -> MessageStatus {
        let kind = |name: &str| snapshot.config.brokers.get(name).map(|broker| broker.kind.clone());
        let brokers = snapshot.brokers.iter();
        let brokers =
            brokers.map(|(name, broker)| BrokerRow::of(name, kind(name).unwrap_or_default(), &**broker));
        let consumers = snapshot.consumers.iter().map(|(name, consumer)| ConsumerRow::of(name, consumer));
        MessageStatus { brokers: brokers.collect(), consumers: consumers.collect() }
    }
}

impl BrokerRow {
    fn of(name: &str, kind: String, broker: &dyn Broker) -> BrokerRow {
        let BrokerStatus { problem, last_error, in_flight, in_flight_bytes, messages } = broker.status();
        let (name, messages) = (name.to_owned(), by_name(messages));
        BrokerRow { name, kind, problem, last_error, in_flight, in_flight_bytes, messages }
    }
}

impl ConsumerRow {
    fn of(name: &str, consumer: &Consumer) -> ConsumerRow {
        let ConsumerStatus { broker, from, problem, paused, unsettled, messages } = consumer.status();
        let (name, paused, messages) = (name.to_owned(), paused.map(str::to_owned), by_name(messages));
        ConsumerRow { name, broker, from, problem, paused, unsettled, messages }
    }
}

fn by_name(counts: Vec<(&'static str, u64)>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}
