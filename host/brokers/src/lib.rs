//! Brokers: where routes with `publish` send messages to, and where consumers get them from.
//!
//! | file | kind | choose it for |
//! |---|---|---|
//! | `memory` | [`memory::KIND`] | trying things out, and messages that may be lost |
//! | `amqp` | [`amqp::KIND`] | RabbitMQ |
//!
//! The trait is [`Broker`](witgate_exchange::contracts::broker::Broker). Each kind is a Cargo feature, because only it needs
//! its client library. Kinds with a connection share [`link`]: a thread with the connection, which is made anew for ever.
//!
//! What a broker sends is a stranger's: its size and form are checked where it is read, and before it enters the walk.

#[cfg(feature = "amqp")]
pub mod amqp;
#[cfg(feature = "amqp")]
pub mod link;
#[cfg(feature = "memory")]
pub mod memory;

use witgate_exchange::contracts::broker::BrokerKind;

/// Every kind of this crate that was compiled in.
pub const KINDS: &[BrokerKind] = &[
    #[cfg(feature = "memory")]
    memory::KIND,
    #[cfg(feature = "amqp")]
    amqp::KIND,
];

/// The names of all kinds that there are, compiled in or not.
pub const NAMES: [&str; 2] = ["memory", "amqp"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        for (index, kind) in KINDS.iter().enumerate() {
            assert!(!kind.summary.is_empty() && NAMES.contains(&kind.name));
            assert!(KINDS[..index].iter().all(|other| other.name != kind.name), "{}", kind.name);
        }
    }
}
