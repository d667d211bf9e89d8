//! Which version is in service after a file that its plugin reads has changed, or the secrets of the fleet have.

use super::*;

impl Scene {
    /// Writes the file and reads it as a load does.
    fn writes_data(&mut self, content: &str) {
        let file = self.folder.path().join("table");
        fs::write(&file, content).unwrap();
        let list = crate::watch::WatchList { files: [file].into(), ..Default::default() };
        let fingerprint = crate::watch::Fingerprint::take(&list, &Default::default());
        let (data, problems) = self.data.next(&self.config, &fingerprint);
        assert!(problems.is_empty(), "{problems:?}");
        self.data = data;
    }

    /// A scene whose binding may read the file.
    fn with_data(content: &str) -> Scene {
        let mut scene = Scene::new("reads 1");
        let file = scene.folder.path().join("table");
        scene.config.data.insert("table".to_owned(), model::Data { file, max_size: 1024 });
        scene.config.bindings.get_mut("b").unwrap().grants.data = Some(vec!["table".to_owned()]);
        scene.writes_data(content);
        scene.reload().unwrap();
        scene
    }

    fn reads(&self) -> Vec<u8> {
        let current = self.library.bindings["b"].current.as_ref().expect("a version is in service");
        current.data["table"].bytes().to_vec()
    }
}

#[test]
fn a_changed_file_makes_another_version_and_an_equal_one_does_not() {
    let mut scene = Scene::with_data("good 1");
    let before = scene.serving().1;
    scene.writes_data("good 1");
    scene.reload().unwrap();
    assert_eq!(scene.serving().1, before);
    scene.writes_data("good 2");
    scene.reload().unwrap();
    assert_ne!(scene.serving().1, before);
    assert_eq!(scene.reads(), b"good 2");
    assert_eq!(scene.library.loader.compiled.get(), 1, "of the same component");
    assert_eq!(scene.status().previous, None);
}

#[test]
fn contents_that_the_plugin_refuses_never_replace_good_ones() {
    let mut scene = Scene::with_data("good 1");
    let before = scene.serving();
    scene.writes_data("bad");
    scene.reload().unwrap();
    assert_eq!((scene.serving(), scene.reads()), (before.clone(), b"good 1".to_vec()));
    assert_eq!(scene.status().state, BindingState::LastGood);
    assert!(scene.status().problem.unwrap().contains("the table is malformed"));

    scene.write("broken");
    scene.reload().unwrap();
    assert_eq!(scene.serving(), before, "the plugin is changed and refused as well");

    scene.write("reads 1");
    scene.config.bindings.get_mut("b").unwrap().settings = settings("a");
    assert_eq!(
        scene.reload().unwrap_err().configuration.len(),
        1,
        "new settings are not put in service with old data"
    );
    scene.config.bindings.get_mut("b").unwrap().settings = Settings::default();

    scene.writes_data("good 2");
    scene.reload().unwrap();
    assert_eq!((scene.reads(), scene.status().state), (b"good 2".to_vec(), BindingState::Current));
}

#[test]
fn contents_that_are_refused_at_the_start_are_a_mistake() {
    let mut scene = Scene::new("reads 1");
    let file = scene.folder.path().join("table");
    scene.config.data.insert("table".to_owned(), model::Data { file, max_size: 1024 });
    scene.config.bindings.get_mut("b").unwrap().grants.data = Some(vec!["table".to_owned()]);
    scene.writes_data("bad");
    assert_eq!(scene.reload().unwrap_err().configuration.len(), 1);
}

#[test]
fn another_secret_of_the_fleet_makes_another_version() {
    let mut scene = Scene::new("good 1");
    scene.reload().unwrap();
    let before = scene.serving().1;
    scene.config.gateway.secrets.push(model::Secret::new(*b"another secret of the fleet     "));
    scene.reload().unwrap();
    assert_ne!(scene.serving().1, before, "its keys are derived from it");
}
