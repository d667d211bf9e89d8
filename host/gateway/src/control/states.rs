//! The states of a configuration: where counters and the stores of plugins are kept.
//!
//! A kind of state is a row of [`kinds`]. A state that is declared under `[state.NAME]` is kept with its contents through
//! reloads for as long as its settings are equal. Beside those there is a built-in state, for everything that names none.

use std::collections::BTreeMap;
use std::sync::Arc;

use witgate_config::model::Secret;
use witgate_config::{Config, Problem, Problems, model};
use witgate_exchange::contracts::counter::Counter;
use witgate_exchange::contracts::state::{BuildContext, Health, Kind, State};
use witgate_proxy::state::memory;

/// The kinds of state that need no library of their own.
const BUILT_IN: [Kind; 1] = [memory::KIND];

/// Every kind of state.
pub(crate) fn kinds() -> impl Iterator<Item = &'static Kind> {
    BUILT_IN.iter().chain(witgate_state::KINDS)
}

/// The states of a configuration. A clone shares what they hold.
#[derive(Clone)]
pub(crate) struct States {
    built_in: Arc<dyn State>,
    named: BTreeMap<String, Named>,
    /// Whether they are going to serve, or their settings are only checked.
    serving: bool,
}

/// A state that is declared under `[state.NAME]`.
#[derive(Clone)]
struct Named {
    settings: model::State,
    /// The fleet's secrets that it was made with.
    secrets: Vec<Secret>,
    state: Arc<dyn State>,
}

/// The built-in state only, empty.
impl Default for States {
    fn default() -> Self {
        States { built_in: memory::empty(), named: BTreeMap::new(), serving: true }
    }
}

impl States {
    /// For commands that check a configuration and serve nothing. The states made from it connect to nothing and open no
    /// file.
    pub(crate) fn for_checking() -> States {
        States { serving: false, ..States::default() }
    }

    /// The states of another configuration, and all problems. A state with equal settings is carried over; one with a
    /// problem is left out.
    pub(crate) fn next(&self, config: &Config) -> (States, Problems) {
        let (mut named, mut problems) = (BTreeMap::new(), Problems::new());
        for (name, settings) in &config.state {
            let secrets = &config.gateway.secrets;
            let is_equal = |before: &&Named| before.settings == *settings && before.secrets == *secrets;
            let equal = self.named.get(name).filter(is_equal);
            let context = BuildContext { secrets, serving: self.serving, memory: memory::empty };
            let state =
                equal.map_or_else(|| build(settings, context), |before| Ok(Arc::clone(&before.state)));
            match state {
                Ok(state) => {
                    let (settings, secrets) = (settings.clone(), secrets.clone());
                    named.insert(name.clone(), Named { settings, secrets, state });
                }
                Err(more) => problems.extend(more),
            }
        }
        (States { built_in: Arc::clone(&self.built_in), named, serving: self.serving }, problems)
    }

    /// The kind and the health of each declared state that can be out of reach, by its name.
    pub(crate) fn health(&self) -> impl Iterator<Item = (&str, &str, Health)> {
        self.named.iter().filter_map(|(name, named)| {
            Some((name.as_str(), named.settings.kind.as_str(), named.state.health()?))
        })
    }

    /// The counter of the rate-limiting contract.
    pub(crate) fn counter(&self, gateway: &model::Gateway) -> Arc<dyn Counter> {
        self.get(gateway.counter.as_deref()).counter()
    }

    /// The state that holds the store of a plugin.
    pub(crate) fn of_plugin(&self, plugin: &model::Plugin) -> &Arc<dyn State> {
        self.get(plugin.state.as_deref())
    }

    /// The state of this name, or the built-in one. A name of the configuration is missing here only if its state has a problem;
    /// then the configuration is refused.
    fn get(&self, name: Option<&str>) -> &Arc<dyn State> {
        name.and_then(|name| self.named.get(name)).map_or(&self.built_in, |named| &named.state)
    }
}

fn build(settings: &model::State, context: BuildContext<'_>) -> Result<Arc<dyn State>, Problems> {
    match kinds().find(|kind| kind.name == settings.kind) {
        Some(kind) => (kind.build)(&settings.settings, context),
        None => Err(vec![unknown_kind(settings)]),
    }
}

fn unknown_kind(state: &model::State) -> Problem {
    let kinds: Vec<&str> = kinds().map(|kind| kind.name).collect();
    Problem {
        message: format!("there is no kind of state `{}`", state.kind),
        span: state.settings.spans.get("").cloned(),
        key: state.settings.key.clone(),
        hint: Some(format!("kinds of state are {}", kinds.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        witgate_config::parse_str(text).unwrap_or_else(|failure| panic!("{}", failure.render(false))).config
    }

    fn told(text: &str) -> String {
        let (_, problems) = States::default().next(&config(text));
        problems
            .iter()
            .map(|problem| format!("{}: {} ({:?})\n", problem.key, problem.message, problem.hint))
            .collect()
    }

    const TWO: &str = "[state.one]\nkind = \"memory\"\n[state.two]\nkind = \"memory\"\n\
                       [plugins.a]\nstate = \"one\"\n[plugins.b]\nstate = \"two\"\n[plugins.c]\n";

    #[test]
    fn a_state_goes_on_while_its_settings_are_equal_and_ends_with_its_name() {
        let config_of_two = config(TWO);
        let (first, problems) = States::default().next(&config_of_two);
        assert!(problems.is_empty());
        let of = |states: &States, plugin: &str| Arc::clone(states.of_plugin(&config_of_two.plugins[plugin]));
        assert!(!Arc::ptr_eq(&of(&first, "a"), &of(&first, "b")), "two names are two states");

        let (second, _) = first.next(&config(&format!("{TWO}[gateway]\ncounter = \"one\"\n")));
        for plugin in ["a", "b", "c"] {
            assert!(Arc::ptr_eq(&of(&first, plugin), &of(&second, plugin)), "{plugin}");
        }
        let counter = second.counter(&config(&format!("{TWO}[gateway]\ncounter = \"one\"\n")).gateway);
        assert!(Arc::ptr_eq(&counter, &of(&second, "a").counter()));
        assert!(Arc::ptr_eq(&second.counter(&config("").gateway), &of(&second, "c").counter()));

        let (without, _) = second.next(&config("[state.two]\nkind = \"memory\"\n"));
        let (again, _) = without.next(&config_of_two);
        assert!(!Arc::ptr_eq(&of(&first, "a"), &of(&again, "a")), "it was gone in between");
        assert!(Arc::ptr_eq(&of(&first, "b"), &of(&again, "b")));
        assert!(Arc::ptr_eq(&of(&first, "c"), &of(&again, "c")), "the built-in one is there for ever");
    }

    #[test]
    fn kinds_and_settings_that_do_not_exist_are_told() {
        let told = told("[state.a]\nkind = \"paper\"\n[state.b]\nkind = \"memory\"\nsize = 5\n");
        assert!(
            told.contains("state.a: there is no kind of state `paper`") && told.contains("memory"),
            "{told}"
        );
        assert!(told.contains("state.b.size") && told.contains("`size`"), "{told}");
    }

    #[test]
    fn every_kind_has_a_name_of_its_own_and_refuses_unknown_keys() {
        for (index, kind) in kinds().enumerate() {
            assert!(kinds().take(index).all(|other| other.name != kind.name), "{}", kind.name);
            let told = told(&format!("[state.s]\nkind = \"{}\"\nno_such_key = 1\n", kind.name));
            assert!(told.contains("no_such_key"), "{}: {told}", kind.name);
        }
    }
}
