//! Versions belong to the binding, whatever its plugin is called: another `plugin` key makes another version of
//! the binding.

use super::*;

impl Scene {
    /// Declares the plugin `q` with this file, and binds it.
    fn renames(&mut self, content: &str) -> Result<(), Objections> {
        fs::write(self.folder.path().join("q.wasm"), content).unwrap();
        let plugin = model::Plugin { file: "q.wasm".into(), ..self.config.plugins["p"].clone() };
        self.config.plugins.insert("q".to_owned(), plugin);
        self.config.bindings.get_mut("b").unwrap().plugin = "q".to_owned();
        self.reload()
    }

    fn names_the_first_plugin_again(&mut self) {
        self.config.bindings.get_mut("b").unwrap().plugin = "p".to_owned();
    }

    fn is_on_trial(&self) -> bool {
        self.library.bindings["b"].current.as_ref().is_some_and(|current| current.conduct.is_on_trial())
    }
}

#[test]
fn another_plugin_is_on_trial_and_the_one_before_is_gone_back_to() {
    for state in [BindingState::Reverted, BindingState::RolledBack] {
        let mut scene = Scene::new("good");
        scene.reload().unwrap();
        scene.renames("bad").unwrap();
        assert_eq!((scene.serving().0.as_str(), scene.is_on_trial()), ("bad", true));
        assert!(scene.library.can_revert("b", scene.serving().1));
        scene.rollback(state).unwrap();
        assert_eq!((scene.serving().0.as_str(), scene.status().state), ("good", state));
        assert_eq!(scene.status().plugin, "q", "the configuration says so");
        scene.reload().unwrap();
        assert_eq!((scene.serving().0.as_str(), scene.status().state), ("good", state));
    }
}

#[test]
fn a_file_that_was_taken_back_stays_held_under_another_name_until_it_is_forced() {
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    scene.write("bad");
    scene.reload().unwrap();
    scene.rollback(BindingState::Reverted).unwrap();
    scene.renames("bad").unwrap();
    assert_eq!((scene.serving().0.as_str(), scene.status().state), ("good", BindingState::Reverted));
    scene.names_the_first_plugin_again();
    scene.reload().unwrap();
    assert_eq!((scene.serving().0.as_str(), scene.status().state), ("good", BindingState::Reverted));
    scene.load(true).unwrap();
    assert_eq!((scene.serving().0.as_str(), scene.is_on_trial()), ("bad", true));
}

#[test]
fn a_plugin_that_is_only_called_otherwise_is_not_its_own_previous_version() {
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    scene.write("newer");
    scene.reload().unwrap();
    scene.renames("newer").unwrap();
    assert!(scene.is_on_trial(), "its trial goes on under the other name");
    scene.rollback(BindingState::RolledBack).unwrap();
    assert_eq!(scene.serving().0, "good");
}

#[test]
fn a_plugin_that_cannot_be_loaded_is_refused_where_another_one_serves() {
    for start in [Start::default(), Start::Degraded] {
        let mut scene = Scene::new("good");
        scene.config.gateway.start = start;
        scene.reload().unwrap();
        let serving = scene.serving();
        for bad in ["broken", "traps at once"] {
            let objections = scene.renames(bad).unwrap_err();
            assert!(objections.plugins[0].message.contains("the plugin `q` of binding `b`"), "{bad}");
            assert_eq!((scene.serving(), scene.status().plugin.as_str()), (serving.clone(), "p"), "{bad}");
        }
        assert_eq!(scene.renames("needs a").unwrap_err().configuration.len(), 1);
        scene.names_the_first_plugin_again();
        scene.reload().unwrap();
        assert_eq!(scene.serving(), serving);
    }
}

#[test]
fn a_plugin_before_that_does_not_fit_the_settings_of_now_says_so() {
    let mut scene = Scene::new("needs a");
    scene.config.bindings.get_mut("b").unwrap().settings = settings("a");
    scene.reload().unwrap();
    scene.config.bindings.get_mut("b").unwrap().settings = settings("b");
    scene.renames("good").unwrap();
    let why = scene.rollback(BindingState::RolledBack).unwrap_err();
    assert!(why.contains("cannot serve any more") && why.contains("`a` is missing"), "{why}");
    assert_eq!(scene.serving().0, "good");
}
