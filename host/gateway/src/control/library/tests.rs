//! How a reload changes versions. The loader reads a component as text: `good`, `traps`, or `needs KEY`.

mod conduct;
mod data;
mod renamed;
pub(crate) mod slow;

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use witgate_config::Settings;

use super::*;
use crate::control::library::source::SOURCES;

#[derive(Default)]
struct Texts {
    compiled: Cell<u32>,
    prepared: Cell<u32>,
    /// The fake `Conduct` of each prepared version, in order.
    conducts: RefCell<Vec<Arc<conduct::Fake>>>,
}

impl Loader for Texts {
    type Component = String;

    fn begin(&self, _config: &model::Gateway, _force: bool) {}

    fn compile(&self, _asked: &WantedBinding<'_>, bytes: &[u8]) -> Result<String, Problems> {
        self.compiled.set(self.compiled.get() + 1);
        let text = String::from_utf8_lossy(bytes).into_owned();
        if text.starts_with("broken") { Err(vec![Problem::new("not a component")]) } else { Ok(text) }
    }

    fn asks(&self, component: &String) -> BTreeSet<String> {
        component.split_whitespace().map(str::to_owned).collect()
    }

    fn contracts(&self, component: &String) -> Contracts {
        Contracts {
            routing: true,
            authentication: component.contains("authenticates"),
            observe: component.contains("observes"),
            ..Contracts::default()
        }
    }

    fn prepare(&self, component: &String, asked: &WantedBinding<'_>) -> Result<Prepared, Refused> {
        self.prepared.set(self.prepared.get() + 1);
        if component.starts_with("traps") {
            return Err(Refused::Component(vec![Problem::new("it traps")]));
        }
        let wanted = component.strip_prefix("needs ").map(str::trim);
        if let Some(key) = wanted.filter(|key| !asked.binding.settings.value.contains_key(*key)) {
            return Err(Refused::Settings(vec![Problem::new(format!("`{key}` is missing"))]));
        }
        if component.starts_with("reads") && asked.data.values().any(|data| data.bytes().starts_with(b"bad"))
        {
            return Err(Refused::Settings(vec![Problem::new("the table is malformed")]));
        }
        let conduct = Arc::<conduct::Fake>::default();
        self.conducts.borrow_mut().push(Arc::clone(&conduct));
        let plugin = Arc::new(Standin::new(asked.name, asked.binding, Some(self.contracts(component))));
        Ok(Prepared { plugin, conduct })
    }
}

struct Scene {
    folder: tempfile::TempDir,
    library: Library<Texts>,
    config: Config,
    states: States,
    data: DataFiles,
}

impl Scene {
    fn new(content: &str) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let scene = Scene {
            folder,
            library: Library::new(Texts::default(), SOURCES, Fetches::new(|_| {})),
            config,
            states: States::default(),
            data: DataFiles::default(),
        };
        scene.write(content);
        scene
    }

    fn write(&self, content: &str) {
        fs::write(self.folder.path().join("plugin.wasm"), content).unwrap();
    }

    fn plan(&self) -> Plan<'_> {
        Plan { config: &self.config, states: &self.states, data: &self.data }
    }

    fn reload(&mut self) -> Result<(), Objections> {
        self.load(false)
    }

    /// Reloads as a load does, states first. Returns the version that is in service then.
    fn reload_with_states(&mut self) -> (String, u64) {
        let (states, problems) = self.states.next(&self.config);
        assert!(problems.is_empty(), "{problems:?}");
        self.states = states;
        self.reload().unwrap();
        self.serving()
    }

    fn load(&mut self, force: bool) -> Result<(), Objections> {
        let draft = self.library.draft(self.plan(), &Force::all(force))?;
        self.library.keep(draft);
        Ok(())
    }

    fn rollback(&mut self, state: BindingState) -> Result<(), String> {
        let draft = self.library.draft_previous("b", self.plan(), state, "by hand".to_owned())?;
        self.library.keep(draft);
        Ok(())
    }

    fn status(&self) -> BindingStatus {
        self.library.status().remove(0)
    }

    fn serving(&self) -> (String, u64) {
        let versions = &self.library.bindings["b"];
        (
            versions.current.as_ref().map_or(String::new(), |version| version.component.clone()),
            versions.serving.version(),
        )
    }
}

fn config(folder: &Path) -> Config {
    let text = format!(
        "[gateway]\nplugin_folder = {folder:?}\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         [plugins.p]\nfile = \"plugin.wasm\"\n[bindings.b]\nplugin = \"p\"\n"
    );
    witgate_config::parse_str(&text).expect("a configuration without mistakes").config
}

fn settings(key: &str) -> Settings {
    let value = serde_json::Map::from_iter([(key.to_owned(), serde_json::Value::Bool(true))]);
    Settings { value, ..Settings::default() }
}

#[test]
fn what_is_equal_is_carried_over_as_the_same_object() {
    let mut scene = Scene::new("good 1");
    scene.reload().unwrap();
    let before = scene.serving();
    scene.reload().unwrap();
    assert_eq!(scene.serving(), before);
    assert_eq!(scene.library.loader.compiled.get(), 1);
    assert_eq!(scene.library.loader.prepared.get(), 1);

    scene.config.bindings.get_mut("b").unwrap().settings = settings("a");
    scene.reload().unwrap();
    assert_ne!(scene.serving().1, before.1, "other settings are another version");
    assert_eq!(scene.library.loader.compiled.get(), 1, "of the same component");
    assert_eq!(scene.status().previous, None, "of which there is no other to go back to");
}

#[test]
fn a_bad_file_never_replaces_a_good_one() {
    let mut scene = Scene::new("good 1");
    scene.reload().unwrap();
    let before = scene.serving();
    for bad in ["broken", "traps at once", "needs key"] {
        scene.write(bad);
        scene.reload().unwrap();
        assert_eq!(scene.serving(), before, "{bad}");
        assert_eq!(scene.status().state, BindingState::LastGood);
        assert!(scene.status().problem.is_some());
    }
    fs::remove_file(scene.folder.path().join("plugin.wasm")).unwrap();
    scene.reload().unwrap();
    assert_eq!(scene.serving(), before);

    scene.write("good 2");
    scene.reload().unwrap();
    assert_eq!(scene.serving().0, "good 2");
    assert_eq!((scene.status().state, scene.status().problem), (BindingState::Current, None));
}

#[test]
fn settings_that_the_file_in_service_refuses_are_a_mistake_in_the_configuration() {
    let mut scene = Scene::new("needs a");
    scene.config.bindings.get_mut("b").unwrap().settings = settings("a");
    scene.reload().unwrap();
    scene.config.bindings.get_mut("b").unwrap().settings = settings("b");
    let objections = scene.reload().unwrap_err();
    assert_eq!(objections.configuration.len(), 1);
    assert!(objections.plugins.is_empty());
}

#[test]
fn a_version_goes_on_with_its_store_and_is_made_anew_for_another() {
    let mut scene = Scene::new("good 1");
    let state = || model::State { kind: "memory".to_owned(), settings: Settings::default() };
    scene.config.state.insert("here".to_owned(), state());
    let first = scene.reload_with_states();
    assert_eq!(scene.reload_with_states(), first);

    scene.config.plugins.get_mut("p").unwrap().state = Some("here".to_owned());
    let moved = scene.reload_with_states();
    assert_ne!(moved, first, "its keys are kept elsewhere");
    assert_eq!(scene.reload_with_states(), moved);
    scene.config.state.insert("there".to_owned(), state());
    assert_eq!(scene.reload_with_states(), moved, "another state is not its own");
    assert_eq!(scene.library.loader.compiled.get(), 1);
}

#[test]
fn a_file_that_waits_for_new_settings_is_taken_once_they_come() {
    let mut scene = Scene::new("good 1");
    scene.reload().unwrap();
    scene.write("needs a");
    scene.reload().unwrap();
    assert_eq!(scene.serving().0, "good 1");
    scene.config.bindings.get_mut("b").unwrap().settings = settings("a");
    scene.reload().unwrap();
    assert_eq!(scene.serving().0, "needs a");
}

#[test]
fn without_an_earlier_version_a_bad_file_is_an_objection_or_has_a_stand_in() {
    let mut scene = Scene::new("broken");
    assert_eq!(scene.reload().unwrap_err().plugins.len(), 1);

    scene.config.gateway.start = Start::Degraded;
    scene.reload().unwrap();
    assert_eq!(scene.status().state, BindingState::Unavailable);
    assert_eq!(
        scene.status().contracts,
        ["authentication"],
        "an unreadable file may have been the door keeper"
    );
    scene.write("traps");
    scene.reload().unwrap();
    assert_eq!(scene.status().contracts, ["routing"], "what the file says about itself is believed");
    scene.write("good");
    scene.reload().unwrap();
    assert_eq!(scene.status().state, BindingState::Current);
}

#[test]
fn a_stand_in_never_replaces_a_plugin_in_service() {
    let mut scene = Scene::new("needs a");
    scene.config.gateway.start = Start::Degraded;
    scene.config.bindings.get_mut("b").unwrap().settings = settings("a");
    scene.reload().unwrap();
    scene.config.bindings.get_mut("b").unwrap().settings = Settings::default();
    assert!(scene.reload().is_err());
    assert_eq!(scene.serving().0, "needs a");
}

#[test]
fn a_rollback_holds_until_the_file_changes() {
    let mut scene = Scene::new("good 1");
    scene.reload().unwrap();
    assert!(scene.rollback(BindingState::RolledBack).is_err(), "there is nothing before the first version");
    let first = scene.serving();
    scene.write("good 2");
    scene.reload().unwrap();
    scene.rollback(BindingState::RolledBack).unwrap();
    assert_eq!(scene.serving(), first, "the very object that was kept warm");
    assert_eq!(scene.status().state, BindingState::RolledBack);

    scene.reload().unwrap();
    assert_eq!(scene.serving(), first, "the file is the one that was rolled back");
    scene.write("good 3");
    scene.reload().unwrap();
    assert_eq!(scene.serving().0, "good 3");
}

#[test]
fn force_tries_a_reverted_version_again() {
    let mut scene = Scene::new("good 1");
    scene.reload().unwrap();
    scene.write("good 2");
    scene.reload().unwrap();
    scene.rollback(BindingState::Reverted).unwrap();
    assert_eq!(scene.status().state, BindingState::Reverted);
    scene.load(true).unwrap();
    assert_eq!(scene.serving().0, "good 2");
    assert_eq!(scene.status().state, BindingState::Current);
}

#[test]
fn a_pinned_digest_refuses_every_other_file() {
    let mut scene = Scene::new("good 1");
    scene.config.plugins.get_mut("p").unwrap().digest = Some(Sha256::digest("good 1").into());
    scene.reload().unwrap();
    scene.write("good 2");
    scene.reload().unwrap();
    assert_eq!(scene.serving().0, "good 1");
    assert!(scene.status().problem.unwrap().contains("`digest` requires"));
}

#[test]
fn a_version_that_asks_for_more_is_not_put_in_service_and_the_difference_is_told() {
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    scene.write("needs fetch");
    scene.reload().unwrap();
    assert_eq!(scene.serving().0, "good");
    let problem = scene.status().problem.unwrap_or_default();
    assert!(problem.contains("`fetch` is missing"), "{problem}");
    assert!(problem.contains("it asks for more than the version in service: fetch, needs"), "{problem}");
    scene.config.bindings.get_mut("b").unwrap().settings.value.insert("fetch".to_owned(), true.into());
    scene.reload().unwrap();
    assert_eq!((scene.serving().0.as_str(), scene.status().problem), ("needs fetch", None));
}

#[test]
fn conditions_change_no_version_and_are_refused_for_what_decides_before_the_identity_is_known() {
    let conditions = |text: &str| {
        let text = format!("[plugins.b]\n[bindings.b]\n{text}\n[[routes]]\nrespond = {{ status = 200 }}\n");
        let config = witgate_config::parse_str(&text).expect("a configuration without mistakes").config;
        config.bindings["b"].clone()
    };
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    let (_, version) = scene.serving();
    let by_claim = conditions("when = { claims = { role = \"admin\" } }\nunless = { subject = \"ann\" }");
    let binding = scene.config.bindings.get_mut("b").unwrap();
    (binding.when, binding.unless) = (by_claim.when.clone(), by_claim.unless.clone());
    scene.reload().unwrap();
    assert_eq!(scene.serving().1, version, "the same version, with its instances");

    let mut scene = Scene::new("authenticates");
    let binding = scene.config.bindings.get_mut("b").unwrap();
    (binding.when, binding.unless) = (by_claim.when, by_claim.unless);
    let refused = scene.reload().unwrap_err().configuration;
    let keys: Vec<_> = refused.iter().map(|problem| &*problem.key).collect();
    assert_eq!(keys, ["bindings.b.when", "bindings.b.unless"], "{refused:?}");
    let by_path = conditions("when = { path = \"/a\" }");
    let binding = scene.config.bindings.get_mut("b").unwrap();
    (binding.when, binding.unless) = (by_path.when.clone(), by_path.unless);
    scene.reload().unwrap();

    // Conditions are judged for a request; what observes is called for batches of finished exchanges.
    let mut scene = Scene::new("observes");
    scene.reload().unwrap();
    scene.config.bindings.get_mut("b").unwrap().when = by_path.when;
    let refused = scene.reload().unwrap_err().configuration;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].key, "bindings.b.when");
    assert!(refused[0].message.contains("observes finished exchanges"), "{refused:?}");
}
