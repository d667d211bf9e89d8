//! Where a message goes, and its key.

use witgate_config::model::{self, Composed, Piece};
use witgate_exchange::contracts::broker::Broker;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::head::RequestHead;

use crate::destination::Mistake;

/// The target of the messages of one route.
pub(super) struct Target {
    to: Composed,
    key: Option<Composed>,
    /// The values that `to` may have; empty if it is the same for all requests.
    allow: Vec<String>,
}

impl Target {
    pub(super) fn compile(settings: &model::Publish, broker: &dyn Broker) -> Result<Target, Mistake> {
        let key = settings.key.as_ref();
        // A key that a request has a part in is checked when it is known.
        let known = key.map(|key| key.fixed().unwrap_or_else(|| "known-later".to_owned()));
        let fixed = settings.to.fixed();
        for to in fixed.iter().chain(&settings.allow) {
            if broker.key_is_the_queue(to) && key.is_some_and(Composed::depends_on_the_request) {
                let hint =
                    "publish to an exchange, to which the queues are bound that may be chosen".to_owned();
                return Err(("publish", "a request would choose any queue of the broker".to_owned(), hint));
            }
            let hint = "see the page on messages for the names that the broker takes".to_owned();
            broker.check_target(to, known.as_deref()).map_err(|why| ("publish", why, hint))?;
        }
        Ok(Target { to: settings.to.clone(), key: settings.key.clone(), allow: settings.allow.clone() })
    }

    /// The target of one request: where to, and the key.
    ///
    /// # Errors
    /// `BadMessage` if the request lacks a part, or has one with a meaning for the broker, or leads elsewhere than allowed.
    pub(super) fn fill(
        &self,
        head: &RequestHead,
        broker: &dyn Broker,
    ) -> Result<(String, Option<String>), Fault> {
        let to = compose(&self.to, head, broker)?;
        let key = self.key.as_ref().map(|key| compose(key, head, broker)).transpose()?;
        if self.to.depends_on_the_request() && !self.allow.contains(&to) {
            return Err(bad("messages of this request's kind are not taken"));
        }
        broker.check_target(&to, key.as_deref()).map_err(|why| bad("it has no valid target").cause(why))?;
        Ok((to, key))
    }
}

fn compose(text: &Composed, head: &RequestHead, broker: &dyn Broker) -> Result<String, Fault> {
    let mut composed = String::new();
    for piece in &text.0 {
        let (what, part) = match piece {
            Piece::Literal(literal) => {
                composed.push_str(literal);
                continue;
            }
            Piece::Parameter(name) => {
                let found = head.parameters.iter().find(|(known, _)| **known == **name);
                (format!("the parameter `{name}`"), found.map(|(_, value)| value.as_str()))
            }
            Piece::Header(name) => {
                let mut values = head.headers.get_all(name.as_str()).iter();
                let only = values.next().filter(|_| values.next().is_none());
                (format!("the header `{name}`"), only.and_then(|value| value.to_str().ok()))
            }
            Piece::Claim(name) => (
                format!("the claim `{name}`"),
                head.identity.as_ref().and_then(|identity| identity.claim(name)),
            ),
            Piece::Subject => {
                ("the subject".to_owned(), head.identity.as_ref().map(|identity| identity.subject.as_str()))
            }
        };
        let Some(part) = part else {
            return Err(bad(format!("{what} is missing, is repeated or is no text")));
        };
        if !broker.may_fill(part) {
            return Err(bad(format!(
                "{what} has a character that has a meaning for the broker, or is empty"
            )));
        }
        composed.push_str(part);
    }
    Ok(composed)
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(FaultKind::BadMessage).detail(detail)
}
