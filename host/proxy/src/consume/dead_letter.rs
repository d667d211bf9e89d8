//! What cannot be delivered goes to the dead letter, with headers that say why.

use std::time::Duration;

use bytes::Bytes;
use witgate_config::model::LogLevel;
use witgate_exchange::contracts::broker::{Incoming, Outgoing, PublishFailure};
use witgate_telemetry::CoreTelemetry;

use super::Consumer;
use super::request::OURS;
use super::verdict::Reason;
use crate::destination::publish::{Unconfirmed, confirmed, new_id};

/// How often the same message may become a dead letter of one consumer. More often means that the dead letters lead back
/// to the consumer.
const MOST_ROUNDS: u32 = 5;

/// The header that counts the rounds.
const ROUNDS: &str = "witgate-dead-letter-rounds";

/// Time for the confirm of a dead letter.
const CONFIRM: Duration = Duration::from_secs(30);

/// The waits between two tries to store a dead letter.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

impl Consumer {
    /// Stores the message as a dead letter, or discards it if that is configured. While it cannot be stored, the consumer
    /// begins no request, and only the storing is tried again. False: the consumer ends before that.
    pub(super) async fn store_dead_letter(
        &self,
        telemetry: &CoreTelemetry,
        message: &Incoming,
        reason: &Reason,
        attempts: u32,
    ) -> bool {
        let (Some(broker), Some(target)) = (&self.dead_letter, &self.settings.dead_letter) else {
            let name: &str = &self.name;
            let what = "a message was discarded that could not be delivered";
            telemetry.log(
                LogLevel::Warn,
                what,
                &[("consumer", &name), ("code", &reason.code), ("attempts", &attempts)],
            );
            return true;
        };
        let rounds = rounds(message);
        let mut wait = FIRST_WAIT;
        let mut stuck = None;
        loop {
            let code = if rounds >= MOST_ROUNDS {
                "dead-letter-circle"
            } else {
                let letter = self.outgoing(message, reason, attempts, rounds);
                let letter = Outgoing { to: target.to.clone(), key: target.key.clone(), ..letter };
                match confirmed(&**broker, letter, CONFIRM).await {
                    Ok(()) => return true,
                    Err(why) => code(&why),
                }
            };
            if stuck.is_none() {
                let name: &str = &self.name;
                let what = "a consumer stops, because a dead letter cannot be stored";
                telemetry.log(LogLevel::Error, what, &[("consumer", &name), ("code", &code)]);
            }
            stuck.get_or_insert_with(|| self.pause.stuck(code));
            let random = wait.mul_f64(0.5 + fastrand::f64() / 2.0);
            if tokio::time::timeout(random, self.pause.stopped()).await.is_ok() {
                return false;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// The message with what is said about it.
    fn outgoing(&self, message: &Incoming, reason: &Reason, attempts: u32, rounds: u32) -> Outgoing {
        let own = message.headers.iter().filter(|(name, _)| !name.to_ascii_lowercase().starts_with(OURS));
        let mut headers: Vec<(String, Bytes)> = own.cloned().collect();
        let status = reason.status.map(|status| status.as_str().to_owned());
        let said = [
            ("reason", Some(reason.code.to_owned())),
            ("status", status),
            ("attempts", Some(attempts.to_string())),
            ("consumer", Some(self.name.to_string())),
            ("from", Some(self.settings.from.clone())),
            ("key", message.key.clone()),
            ("rounds", Some((rounds + 1).to_string())),
        ];
        for (what, value) in said {
            headers.extend(value.map(|value| (format!("witgate-dead-letter-{what}"), Bytes::from(value))));
        }
        Outgoing {
            id: message.id.clone().unwrap_or_else(new_id),
            to: String::new(),
            key: None,
            content_type: message.content_type.clone(),
            headers,
            body: message.body.clone().unwrap_or_default(),
            ttl: None,
            rooms: Vec::new(),
        }
    }
}

/// How often the message was a dead letter before.
fn rounds(message: &Incoming) -> u32 {
    let told = message.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(ROUNDS));
    told.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or(0)
}

/// The code of why a dead letter was not stored.
fn code(why: &Unconfirmed) -> &'static str {
    match why {
        Unconfirmed::Failed(PublishFailure::Unreachable(_)) => "dead-letter-unreachable",
        Unconfirmed::Failed(PublishFailure::Full(_)) => "dead-letter-full",
        Unconfirmed::Failed(PublishFailure::Refused(_)) => "dead-letter-refused",
        Unconfirmed::Failed(PublishFailure::Unroutable(_)) => "dead-letter-unroutable",
        Unconfirmed::Failed(PublishFailure::Lost(_)) => "dead-letter-lost",
        Unconfirmed::TimedOut(_) => "dead-letter-timeout",
    }
}
