//! Consumers: messages of a broker that become requests.
//!
//! A message arrives without a connection, and takes the walk of every request ([`serve`](crate::serve::serve)). What is
//! different is only what happens around it: [`request`] makes the request of a message, [`verdict`] decides by its outcome
//! what becomes of the message, [`deliver`] repeats it and settles the message, and [`dead_letter`] publishes what cannot be
//! delivered. [`running`] begins and ends consumers as the snapshots in service name them.

mod dead_letter;
pub(crate) mod deliver;
pub(crate) mod expose;
mod pause;
mod request;
pub(crate) mod running;
mod status;
#[cfg(test)]
pub(crate) mod tests;
mod verdict;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, Uri};
use tokio::sync::Semaphore;
use witgate_config::{Config, Problem, Problems, model};
use witgate_exchange::contracts::broker::{Broker, Consuming};
use witgate_exchange::identity::Identity;

use crate::destination::Brokers;
use crate::router::FieldConditions;
use pause::Pause;
pub use status::ConsumerStatus;
use status::Counts;

/// The consumers of a snapshot, by name.
pub type Consumers = BTreeMap<String, Arc<Consumer>>;

/// One consumer, as its messages use it on every core. It goes on through reloads while its settings are equal.
pub struct Consumer {
    name: Arc<str>,
    settings: model::Consumer,
    broker: Arc<dyn Broker>,
    /// Where messages go that cannot be delivered.
    dead_letter: Option<Arc<dyn Broker>>,
    /// Limits of the listener whose routes it uses.
    limits: model::Limits,
    identity: Option<Arc<Identity>>,
    method: Method,
    target: Uri,
    filter: FieldConditions,
    /// A permit for each request in progress.
    requests: Semaphore,
    pause: Pause,
    /// Messages that are delivered and not settled.
    unsettled: AtomicUsize,
    /// The lines of messages with the same key, for `ordering = "key"`.
    lines: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    counts: Counts,
    /// What fetches for it, while it does.
    consuming: Mutex<Option<Box<dyn Consuming>>>,
}

impl Consumer {
    fn build(name: &str, config: &Config, brokers: &Brokers) -> Result<Consumer, Problems> {
        let settings = &config.consumers[name];
        let problem = |key: &str, message: String| Problem {
            message,
            span: settings.source.spans.get("").cloned(),
            key: format!("consumers.{name}.{key}"),
            hint: None,
        };
        // A broker that is not in service has a problem of its own, which is reported.
        let broker = brokers.get(&settings.broker).ok_or_else(Problems::new)?;
        let listener = config.listeners.iter().find(|listener| listener.name == settings.listener);
        let listener =
            listener.ok_or_else(|| vec![problem("listener", "there is no listener".to_owned())])?;
        broker.check_source(&settings.from, &settings.source)?;
        let dead_letter = settings.dead_letter.as_ref().map(|dead_letter| {
            let broker = brokers.get(&dead_letter.broker);
            let broker = broker.ok_or_else(|| "its broker is not in service".to_owned())?;
            broker.check_target(&dead_letter.to, dead_letter.key.as_deref()).map(|()| Arc::clone(broker))
        });
        let dead_letter = dead_letter.transpose().map_err(|why| vec![problem("dead_letter", why)])?;
        let filter =
            FieldConditions::compile(&settings.filter).map_err(|why| vec![problem("filter", why)])?;
        let method = Method::from_bytes(settings.method.as_bytes());
        let target = format!("http://{}{}", settings.host, settings.path).parse();
        let (Ok(method), Ok(target)) = (method, target) else {
            return Err(vec![problem("path", "method, host and path do not make a request".to_owned())]);
        };
        let identity = settings.identity.as_ref().map(|subject| {
            let binding = format!("consumer:{name}").into();
            Arc::new(Identity { subject: subject.clone(), claims: Vec::new(), binding })
        });
        Ok(Consumer {
            name: name.into(),
            broker: Arc::clone(broker),
            dead_letter,
            limits: listener.limits,
            identity,
            method,
            target,
            filter,
            requests: Semaphore::new(settings.concurrency),
            pause: Pause::default(),
            unsettled: AtomicUsize::new(0),
            lines: Mutex::default(),
            counts: Counts::default(),
            consuming: Mutex::default(),
            settings: settings.clone(),
        })
    }

    /// Whether another consumer would do the same.
    fn is_equal(&self, other: &Consumer) -> bool {
        let same = |one: &Option<Arc<dyn Broker>>, two: &Option<Arc<dyn Broker>>| match (one, two) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (None, None) => true,
            _ => false,
        };
        self.settings == other.settings
            && self.limits == other.limits
            && Arc::ptr_eq(&self.broker, &other.broker)
            && same(&self.dead_letter, &other.dead_letter)
    }

    fn consuming(&self) -> MutexGuard<'_, Option<Box<dyn Consuming>>> {
        self.consuming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line of messages with this key.
    fn line(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(key) {
            return Arc::clone(line);
        }
        // Lines in which nobody stands are removed before there are more of them than messages.
        if lines.len() >= self.settings.prefetch {
            lines.retain(|_, line| Arc::strong_count(line) > 1);
        }
        Arc::clone(lines.entry(key.to_owned()).or_default())
    }
}

/// Builds the consumers of a configuration. Those whose settings are equal are carried over.
pub(crate) fn build(
    config: &Config,
    brokers: &Brokers,
    before: Option<&Consumers>,
    problems: &mut Problems,
) -> Consumers {
    let mut consumers = Consumers::new();
    for name in config.consumers.keys() {
        match Consumer::build(name, config, brokers) {
            Ok(built) => {
                let equal =
                    before.and_then(|before| before.get(name)).filter(|before| before.is_equal(&built));
                consumers.insert(name.clone(), equal.map_or_else(|| Arc::new(built), Arc::clone));
            }
            Err(more) => problems.extend(more),
        }
    }
    consumers
}
