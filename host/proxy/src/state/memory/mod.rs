//! State in memory: it is lost when the process ends, and other gateways do not see it. Choose it for limits and
//! stores that need not outlive a restart.

mod counter;
mod keys;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::Problems;
use witgate_exchange::contracts::counter::Counter;
use witgate_exchange::contracts::state::{BuildContext, Kind, State};
use witgate_exchange::contracts::store::KeyStore;

pub use self::counter::MemoryCounter;
pub use self::keys::MemoryKeys;

/// The settings of the kind `memory`: none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {}

/// The row of this kind.
pub const KIND: Kind = Kind { name: "memory", build };

fn build(
    settings: &witgate_config::Settings,
    _context: BuildContext<'_>,
) -> Result<Arc<dyn State>, Problems> {
    let Settings {} = settings.parse()?;
    Ok(empty())
}

/// An empty state in memory.
pub fn empty() -> Arc<dyn State> {
    Arc::new(Memory::default())
}

/// State in memory. Counter and stores are made when they are first used.
#[derive(Default)]
pub struct Memory {
    counter: OnceLock<Arc<MemoryCounter>>,
    /// The store of each plugin, by its name.
    stores: Mutex<HashMap<String, Arc<MemoryKeys>>>,
}

impl State for Memory {
    fn counter(&self) -> Arc<dyn Counter> {
        Arc::clone(self.counter.get_or_init(Arc::default)) as _
    }

    fn store(&self, plugin: &str, bytes: usize) -> Arc<dyn KeyStore> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let store = stores.entry(plugin.to_owned()).or_insert_with(|| Arc::new(MemoryKeys::new(bytes)));
        store.set_budget(bytes);
        Arc::clone(store) as _
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_plugin_has_the_same_keys_and_the_budget_of_now() {
        let state = Memory::default();
        let set =
            |store: &Arc<dyn KeyStore>, bytes: usize| store.set("s", "k", vec![0; bytes], None).at_once();
        assert!(set(&state.store("p", 1000), 100).is_some_and(|done| done.is_ok()));
        let again = state.store("p", 500);
        assert_eq!(again.get("s", "k").at_once(), Some(Ok(Some(vec![0; 100]))));
        assert!(set(&again, 600).is_some_and(|done| done.is_err()));
        assert_eq!(state.store("other", 1000).get("s", "k").at_once(), Some(Ok(None)));
        assert!(Arc::ptr_eq(&state.counter(), &state.counter()));
    }

    #[test]
    fn a_setting_is_refused() {
        let settings = serde_json::json!({ "size": 5 });
        let settings = witgate_config::Settings::unwritten("state.s", settings.as_object().cloned().unwrap());
        let context = BuildContext { secrets: &[], serving: true, memory: empty };
        let problems = build(&settings, context).err().expect("there are no settings");
        assert!(problems[0].message.contains("`size`"), "{problems:?}");
    }
}
