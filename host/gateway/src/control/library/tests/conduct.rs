//! Which version is in service after a version performed well or badly.

use std::sync::Mutex;

use super::*;

/// A fake [`Conduct`]: the calls that the version received, and its results.
#[derive(Default)]
pub(super) struct Fake(Mutex<Noted>);

#[derive(Clone, Copy, Default)]
struct Noted {
    calls: Calls,
    /// The trial in progress, with the calls that it is compared with.
    trial: Option<Calls>,
    bad: bool,
    put_back: u32,
    in_service: bool,
}

impl Fake {
    fn noted(&self) -> Noted {
        *self.0.lock().unwrap()
    }

    fn note(&self, change: impl FnOnce(&mut Noted)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl Conduct for Fake {
    fn latest_calls(&self) -> Calls {
        self.noted().calls
    }

    fn begin_trial(&self, before: Calls) {
        self.note(|noted| noted.trial = Some(before));
    }

    fn is_on_trial(&self) -> bool {
        self.noted().trial.is_some()
    }

    fn put_back(&self) {
        self.note(|noted| (noted.trial, noted.put_back) = (None, noted.put_back + 1));
    }

    fn is_good(&self) -> bool {
        !self.noted().bad
    }

    fn in_service(self: Arc<Self>, is_in_service: bool) {
        self.note(|noted| noted.in_service = is_in_service);
    }
}

/// Calls of a version that performed well.
const WELL: Calls = Calls { made: 700, failed: 3 };

impl Scene {
    /// Writes a file and loads it.
    fn puts(&mut self, content: &str) {
        self.write(content);
        self.reload().unwrap();
    }

    /// The fake `Conduct` of the version that was prepared last.
    fn newest(&self) -> Arc<Fake> {
        Arc::clone(self.library.loader.conducts.borrow().last().expect("a version"))
    }

    /// What the version in service does when it fails too often.
    fn fails(&mut self) {
        self.newest().note(|noted| noted.bad = true);
        let version = self.serving().1;
        assert!(self.library.can_revert("b", version), "there is a version to go back to");
        self.rollback(BindingState::Reverted).unwrap();
    }

    fn set(&mut self, key: &str) {
        self.config.bindings.get_mut("b").unwrap().settings = settings(key);
    }
}

#[test]
fn a_bad_file_is_on_trial_each_time_it_is_put_in_service() {
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    assert!(scene.newest().noted().trial.is_none(), "there is nothing to go back to");
    scene.newest().note(|noted| noted.calls = WELL);
    for _ in 0..3 {
        scene.puts("bad");
        assert_eq!(scene.serving().0, "bad");
        assert_eq!(scene.newest().noted().trial, Some(WELL), "judged against the version before");
        scene.fails();
        assert_eq!((scene.serving().0.as_str(), scene.status().state), ("good", BindingState::Reverted));
        scene.puts("good");
        assert_eq!((scene.serving().0.as_str(), scene.status().state), ("good", BindingState::Current));
    }
}

#[test]
fn a_bad_file_is_on_trial_when_it_is_forced_into_service() {
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    scene.newest().note(|noted| noted.calls = WELL);
    scene.puts("bad");
    scene.fails();
    for _ in 0..2 {
        scene.load(true).unwrap();
        assert_eq!((scene.serving().0.as_str(), scene.newest().noted().trial), ("bad", Some(WELL)));
        scene.fails();
        assert_eq!(scene.serving().0, "good");
    }
}

#[test]
fn a_version_that_stays_in_service_stays_as_it_is() {
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    scene.puts("newer");
    scene.newest().begin_trial(WELL);
    scene.reload().unwrap();
    assert_eq!(scene.newest().noted().trial, Some(WELL), "its trial does not begin anew");
}

#[test]
fn what_is_gone_back_to_is_warm_and_begins_anew() {
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    let (good, first) = (scene.newest(), scene.serving());
    scene.puts("bad");
    scene.fails();
    assert_eq!(scene.serving(), first);
    assert_eq!((good.noted().put_back, good.noted().trial), (1, None));
}

#[test]
fn a_rollback_never_goes_to_a_version_that_was_taken_back() {
    for state in [BindingState::Reverted, BindingState::RolledBack] {
        let mut scene = Scene::new("good");
        scene.reload().unwrap();
        scene.puts("bad");
        scene.rollback(state).unwrap();
        let (serving, previous) = (scene.serving(), scene.status().previous);
        assert_eq!((serving.0.as_str(), previous), ("good", None));
        assert!(!scene.library.can_revert("b", serving.1));
        for _ in 0..2 {
            let why = scene.rollback(BindingState::RolledBack).unwrap_err();
            assert!(why.contains("`witgate reload --force` tries it again"), "{why}");
            assert_eq!(scene.serving(), serving);
        }
        scene.reload().unwrap();
        assert_eq!((scene.serving(), scene.status().state), (serving, state), "it is still held back");

        scene.puts("newer");
        scene.rollback(BindingState::RolledBack).unwrap();
        assert_eq!(scene.serving().0, "good", "which the bad one between them changes nothing about");
    }
}

#[test]
fn a_version_that_is_held_back_is_not_compiled_again() {
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    scene.puts("bad");
    scene.fails();
    let compiled = scene.library.loader.compiled.get();
    (0..3).for_each(|_| scene.reload().unwrap());
    scene.load(true).unwrap();
    assert_eq!(scene.library.loader.compiled.get(), compiled);
    scene.fails();
    scene.puts("newer");
    scene.puts("bad");
    assert_eq!(scene.library.loader.compiled.get(), compiled + 2, "nothing is kept for longer");
}

#[test]
fn a_version_that_is_replaced_while_it_fails_on_trial_is_not_gone_back_to() {
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    scene.newest().note(|noted| noted.calls = WELL);
    scene.puts("bad");
    scene.newest().note(|noted| noted.bad = true);
    scene.puts("as bad");
    assert_eq!(scene.newest().noted().trial, Some(WELL), "judged against the last good one");
    scene.fails();
    assert_eq!(scene.serving().0, "good");
}

#[test]
fn the_good_file_back_on_disk_is_not_its_own_previous_version() {
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    scene.puts("bad");
    scene.newest().note(|noted| noted.bad = true);
    scene.puts("good");
    assert_eq!((scene.status().previous, scene.newest().noted().trial), (None, None));
    let why = scene.rollback(BindingState::RolledBack).unwrap_err();
    assert!(why.contains("there is no version"), "{why}");
}

#[test]
fn a_rollback_serves_with_the_settings_of_now_or_says_why_it_cannot() {
    let mut scene = Scene::new("needs a");
    scene.set("a");
    scene.reload().unwrap();
    scene.write("good");
    scene.set("b");
    scene.reload().unwrap();
    let serving = scene.serving();
    let why = scene.rollback(BindingState::RolledBack).unwrap_err();
    assert!(why.contains("cannot serve any more") && why.contains("`a` is missing"), "{why}");
    assert_eq!(scene.serving(), serving);
    scene.set("a");
    scene.reload().unwrap();
    scene.rollback(BindingState::RolledBack).unwrap();
    assert_eq!(scene.serving().0, "needs a");
}

#[test]
fn other_settings_begin_a_trial_anew_but_not_one_that_is_over() {
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    scene.newest().note(|noted| noted.calls = WELL);
    scene.puts("newer");
    scene.set("a");
    scene.reload().unwrap();
    assert_eq!(scene.newest().noted().trial, Some(WELL));
    scene.newest().note(|noted| noted.trial = None);
    scene.set("b");
    scene.reload().unwrap();
    assert_eq!(scene.newest().noted().trial, None, "no older file is an answer to new settings");
    assert!(scene.status().previous.is_some());
    // Settings that return to an earlier value count as changed too.
    scene.puts("newest");
    scene.set("a");
    scene.reload().unwrap();
    scene.set("b");
    scene.reload().unwrap();
    assert_eq!(scene.newest().noted().trial, Some(Calls::default()));
}

#[test]
fn after_a_degraded_start_there_is_nothing_to_go_back_to() {
    let mut scene = Scene::new("broken");
    scene.config.gateway.start = Start::Degraded;
    scene.reload().unwrap();
    assert!(scene.rollback(BindingState::RolledBack).is_err());
    scene.puts("bad");
    assert!(!scene.library.can_revert("b", scene.serving().1));
    assert!(scene.rollback(BindingState::RolledBack).is_err());
    scene.puts("good");
    scene.rollback(BindingState::RolledBack).unwrap();
    assert_eq!(scene.serving().0, "bad", "the operator's word: nothing was found wrong with it");
}

#[test]
fn each_binding_of_a_file_has_a_trial_of_its_own() {
    let mut scene = Scene::new("good");
    let other = scene.config.bindings["b"].clone();
    scene.config.bindings.insert("c".to_owned(), other);
    scene.reload().unwrap();
    scene.puts("bad");
    scene.rollback(BindingState::Reverted).unwrap();
    let serving = |scene: &Scene| {
        ["b", "c"].map(|name| {
            let versions = &scene.library.bindings[name];
            versions.current.as_ref().map_or(String::new(), |version| version.component.clone())
        })
    };
    assert_eq!(serving(&scene), ["good", "bad"]);
    scene.reload().unwrap();
    assert_eq!(serving(&scene), ["good", "bad"]);
    let version = scene.library.bindings["c"].serving.version();
    assert!(scene.library.can_revert("c", version));
    let draft =
        scene.library.draft_previous("c", scene.plan(), BindingState::Reverted, String::new()).unwrap();
    scene.library.keep(draft);
    assert_eq!(serving(&scene), ["good", "good"]);
}

#[test]
fn a_version_that_failed_after_it_was_replaced_is_not_gone_back_to() {
    let mut scene = Scene::new("good");
    scene.reload().unwrap();
    let good = scene.newest();
    scene.puts("newer");
    // Calls of connections that the version still served, or that ended after the swap.
    good.note(|noted| noted.bad = true);
    assert!(!scene.library.can_revert("b", scene.serving().1));
    let why = scene.rollback(BindingState::RolledBack).unwrap_err();
    assert!(why.contains("mostly answered") && why.contains("file"), "{why}");
    assert_eq!(scene.serving().0, "newer");
}

#[test]
fn exactly_the_version_that_serves_is_told_so() {
    let mut scene = Scene::new("good 1");
    let told = |scene: &Scene| -> Vec<bool> {
        scene.library.loader.conducts.borrow().iter().map(|conduct| conduct.noted().in_service).collect()
    };
    scene.reload().unwrap();
    assert_eq!(told(&scene), [true]);
    scene.reload().unwrap();
    assert_eq!(told(&scene), [true]);
    scene.write("good 2");
    scene.reload().unwrap();
    assert_eq!(told(&scene), [false, true]);
    scene.rollback(BindingState::RolledBack).unwrap();
    assert_eq!(told(&scene), [true, false]);
    scene.config.bindings.clear();
    scene.reload().unwrap();
    assert_eq!(told(&scene), [false, false]);
}
