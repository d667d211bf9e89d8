//! The brokers of a configuration.
//!
//! A kind of broker is a row of [`KINDS`]. A broker is kept, with its connection and whatever it holds,
//! through reloads for as long as its settings are equal.

use std::collections::BTreeMap;
use std::sync::Arc;

use witgate_brokers::{KINDS, NAMES};
use witgate_config::{Config, Problem, Problems, model};
use witgate_exchange::contracts::broker::Broker;

/// The brokers of a configuration. A clone shares them.
#[derive(Clone)]
pub(crate) struct Brokers {
    named: BTreeMap<String, (model::Broker, Arc<dyn Broker>)>,
    /// Whether they are going to serve, or their settings are only checked.
    serving: bool,
}

/// None.
impl Default for Brokers {
    fn default() -> Self {
        Brokers { named: BTreeMap::new(), serving: true }
    }
}

impl Brokers {
    /// For commands that check a configuration and serve nothing. The brokers made from it connect to nothing.
    pub(crate) fn for_checking() -> Brokers {
        Brokers { serving: false, ..Brokers::default() }
    }

    /// The brokers of another configuration, and all problems. One with equal settings is carried over; one with a problem is
    /// left out.
    pub(crate) fn next(&self, config: &Config) -> (Brokers, Problems) {
        let (mut named, mut problems) = (BTreeMap::new(), Problems::new());
        for (name, settings) in &config.brokers {
            let equal = self.named.get(name).filter(|(before, _)| before == settings);
            match equal.map_or_else(|| build(settings, self.serving), |(_, broker)| Ok(Arc::clone(broker))) {
                Ok(broker) => drop(named.insert(name.clone(), (settings.clone(), broker))),
                Err(more) => problems.extend(more),
            }
        }
        (Brokers { named, serving: self.serving }, problems)
    }

    /// The brokers by name, as a snapshot uses them.
    pub(crate) fn in_service(&self) -> BTreeMap<String, Arc<dyn Broker>> {
        self.named.iter().map(|(name, (_, broker))| (name.clone(), Arc::clone(broker))).collect()
    }
}

fn build(settings: &model::Broker, serving: bool) -> Result<Arc<dyn Broker>, Problems> {
    match KINDS.iter().find(|kind| kind.name == settings.kind) {
        Some(kind) => (kind.build)(&settings.settings, serving),
        None => Err(vec![unknown_kind(settings)]),
    }
}

fn unknown_kind(broker: &model::Broker) -> Problem {
    let kind = &broker.kind;
    let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    let (message, hint) = match NAMES.contains(&kind.as_str()) {
        true => (
            format!("the kind of broker `{kind}` is not part of this build"),
            format!("build with the feature `brokers-{kind}`, or use a release, which has all of them"),
        ),
        false => (format!("there is no kind of broker `{kind}`"), format!("kinds are {}", known.join(", "))),
    };
    Problem {
        message,
        span: broker.settings.spans.get("").cloned(),
        key: broker.settings.key.clone(),
        hint: Some(hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        witgate_config::parse_str(text).unwrap_or_else(|failure| panic!("{}", failure.render(false))).config
    }

    #[test]
    fn a_broker_goes_on_while_its_settings_are_equal() {
        let two = "[brokers.a]\nkind = \"memory\"\n[brokers.b]\nkind = \"memory\"\n";
        let (first, problems) = Brokers::default().next(&config(two));
        assert!(problems.is_empty());
        let changed = "[brokers.a]\nkind = \"memory\"\n[brokers.b]\nkind = \"memory\"\nmax_messages = 5\n";
        let (second, _) = first.next(&config(changed));
        let (first, second) = (first.in_service(), second.in_service());
        assert!(Arc::ptr_eq(&first["a"], &second["a"]) && !Arc::ptr_eq(&first["b"], &second["b"]));
    }

    #[test]
    fn every_kind_refuses_unknown_keys_and_unknown_kinds_are_told() {
        let told = |kind: &str| {
            let text = format!("[brokers.b]\nkind = \"{kind}\"\nno_such_key = 1\n");
            let (_, problems) = Brokers::for_checking().next(&config(&text));
            problems
                .iter()
                .map(|problem| format!("{}: {} ({:?})\n", problem.key, problem.message, problem.hint))
                .collect()
        };
        for kind in KINDS {
            let told: String = told(kind.name);
            assert!(told.contains("no_such_key"), "{}: {told}", kind.name);
        }
        let told: String = told("paper");
        assert!(
            told.contains("brokers.b: there is no kind of broker `paper`") && told.contains("memory"),
            "{told}"
        );
    }
}
