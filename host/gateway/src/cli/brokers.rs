//! `witgate brokers`

use clap::Args;
use http::Method;

use super::output::{Format, print, table};
use super::place::AdminPlace;
use super::status::read;
use crate::admin::client::ask;
use crate::control::broker_status::{BrokerRow, ConsumerRow, MessageStatus};
use crate::exit::ExitResult;

/// Show the brokers and consumers of a running gateway: whether they are connected, what is in flight, what became of
/// messages, and the last failure.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    admin: AdminPlace,
    #[command(flatten)]
    format: Format,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let place = arguments.admin.place();
    let answer = ask(&place, Method::GET, "/brokers")?;
    let status: MessageStatus = read(&place, &answer)?;
    print(arguments.format, &status, || describe(&status))
}

fn describe(status: &MessageStatus) -> String {
    if status.brokers.is_empty() {
        return "no broker is configured\n".to_owned();
    }
    let brokers: Vec<_> = status.brokers.iter().map(broker).collect();
    let mut text = table(
        ["BROKER", "KIND", "STATE", "IN FLIGHT", "PUBLISHED", "CONFIRMED", "RETURNED", "FAILED", "CONSUMED"],
        &brokers,
    );
    if !status.consumers.is_empty() {
        let consumers: Vec<_> = status.consumers.iter().map(consumer).collect();
        text.push('\n');
        text += &table(
            [
                "CONSUMER",
                "BROKER",
                "FROM",
                "STATE",
                "UNSETTLED",
                "ACKNOWLEDGED",
                "TRIED AGAIN",
                "DEAD",
                "DISCARDED",
            ],
            &consumers,
        );
    }
    for broker in &status.brokers {
        if let Some(error) = &broker.last_error {
            text += &format!("\nlast failure of broker {}: {error}\n", broker.name);
        }
    }
    text
}

fn broker(row: &BrokerRow) -> [String; 9] {
    let count = |name: &str| row.messages.get(name).copied().unwrap_or(0).to_string();
    [
        row.name.clone(),
        row.kind.clone(),
        row.problem.as_ref().map_or_else(|| "connected".to_owned(), |_| "not connected".to_owned()),
        row.in_flight.to_string(),
        count("published"),
        count("confirmed"),
        count("returned"),
        count("failed"),
        count("consumed"),
    ]
}

fn consumer(row: &ConsumerRow) -> [String; 9] {
    let count = |name: &str| row.messages.get(name).copied().unwrap_or(0).to_string();
    let state = match (&row.problem, &row.paused) {
        (Some(_), _) => "does not fetch".to_owned(),
        (None, Some(code)) => format!("paused: {code}"),
        (None, None) => "fetches".to_owned(),
    };
    [
        row.name.clone(),
        row.broker.clone(),
        row.from.clone(),
        state,
        row.unsettled.to_string(),
        count("acknowledged"),
        count("tried-again"),
        count("dead-lettered"),
        count("discarded"),
    ]
}
