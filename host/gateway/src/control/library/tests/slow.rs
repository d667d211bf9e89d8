//! A slow source of plugins: a Unix socket whose other end responds when a test lets it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use super::*;
use crate::control::library::source::SOURCES;

/// The kinds of sources with one more: a plugin whose file ends in `.sock` is read from that socket.
pub(crate) const SLOW: &[SourceKind] = &[SourceKind { key: "file", of }, SOURCES[0]];

fn of(config: &Config, plugin: &model::Plugin) -> Option<Arc<dyn PluginSource>> {
    let path = config.gateway.plugin_folder.join(&plugin.file);
    path.extension().is_some_and(|extension| extension == "sock").then(|| Arc::new(Socket(path)) as _)
}

struct Socket(PathBuf);

impl PluginSource for Socket {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn fetch(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let read = UnixStream::connect(&self.0).and_then(|mut socket| socket.read_to_end(&mut bytes));
        read.map(|_| bytes).map_err(|error| format!("cannot be read: {error}"))
    }
}

/// The other end of the socket. It responds to each connection once the test provides the content.
pub(crate) struct Answers {
    asked: Mutex<Receiver<UnixStream>>,
}

impl Answers {
    pub(crate) fn at(path: &Path) -> Answers {
        let listener = UnixListener::bind(path).expect("the socket is bound");
        let (ask, asked) = sync_channel(64);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if ask.send(socket).is_err() {
                    return;
                }
            }
        });
        Answers { asked: Mutex::new(asked) }
    }

    /// Waits until a fetch connects.
    pub(crate) fn asked(&self) -> UnixStream {
        self.asked.lock().unwrap().recv_timeout(Duration::from_secs(20)).expect("the source is asked")
    }

    /// Whether a fetch has connected that [`asked`](Answers::asked) has not returned.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.lock().unwrap().try_recv().is_ok()
    }
}

/// A library with the plugin `p` of binding `b` from a socket, and the names of sources that responded late.
fn scene(deadline: Duration) -> (Scene, Answers, Receiver<String>) {
    let (late, told) = sync_channel(64);
    let fetches = Fetches::new(move |name| drop(late.send(name.to_owned()))).with_deadline(deadline);
    let mut scene = Scene::new("");
    scene.library = Library::new(Texts::default(), SLOW, fetches);
    let answers = Answers::at(&scene.folder.path().join("p.sock"));
    scene.config.plugins.get_mut("p").expect("declared").file = "p.sock".into();
    (scene, answers, told)
}

impl Scene {
    /// Loads while the source responds with this content.
    fn load_answered(&mut self, answers: &Answers, content: &str) -> Result<(), Objections> {
        self.library.fetches().begin_load();
        std::thread::scope(|scope| {
            scope.spawn(|| answers.asked().write_all(content.as_bytes()).expect("it is read"));
            self.reload()
        })
    }

    /// Loads while the source does not respond. Returns the result and how long the load took.
    fn load_unanswered(&mut self) -> (Result<(), Objections>, Duration) {
        self.library.fetches().begin_load();
        let begun = Instant::now();
        (self.reload(), begun.elapsed())
    }
}

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(200);

#[test]
fn a_plugin_comes_from_a_source_that_is_no_file() {
    let (mut scene, answers, _) = scene(LONG);
    scene.load_answered(&answers, "good 1").expect("it is loaded");
    assert_eq!(scene.serving().0, "good 1");
    assert!(scene.status().file.ends_with("p.sock"));
    scene.load_answered(&answers, "broken").expect("the version in service goes on");
    assert_eq!((scene.serving().0.as_str(), scene.status().state), ("good 1", BindingState::LastGood));
}

#[test]
fn a_source_that_hangs_is_given_up_at_the_deadline_and_the_last_good_version_serves() {
    let (mut scene, answers, told) = scene(SHORT);
    scene.load_answered(&answers, "good 1").expect("it is loaded");
    let (loaded, took) = scene.load_unanswered();
    loaded.expect("the version in service goes on");
    assert!(took >= SHORT, "{took:?}");
    let status = scene.status();
    assert_eq!((scene.serving().0.as_str(), status.state), ("good 1", BindingState::LastGood));
    let problem = status.problem.expect("it says why");
    assert!(
        problem.contains("p.sock has not answered for") && problem.contains("at most 200ms"),
        "{problem}"
    );

    // The late response is used by the next load, which is requested automatically.
    let mut hung = answers.asked();
    hung.write_all(b"good 2").expect("it is read");
    drop(hung);
    let name = told.recv_timeout(Duration::from_secs(20)).expect("a load is asked for");
    assert!(name.ends_with("p.sock"));
    scene.load_unanswered().0.expect("it is loaded");
    assert_eq!((scene.serving().0.as_str(), scene.status().state), ("good 2", BindingState::Current));
    assert!(!answers.is_asked(), "without asking once more");
    scene.load_answered(&answers, "good 3").expect("it is loaded");
    assert_eq!(scene.serving().0, "good 3", "what came late is taken once");
}

#[test]
fn a_source_that_hangs_is_asked_once_and_what_came_late_does_not_hide_a_later_change() {
    let (mut scene, answers, told) = scene(SHORT);
    scene.load_answered(&answers, "good 1").expect("it is loaded");
    scene.load_unanswered().0.expect("the version in service goes on");
    let mut hung = answers.asked();
    for _ in 0..20 {
        scene.load_unanswered().0.expect("the version in service goes on");
    }
    assert!(!answers.is_asked(), "not while it hangs");
    hung.write_all(b"good 2").expect("it is read");
    drop(hung);
    told.recv_timeout(Duration::from_secs(20)).expect("a load is asked for");
    scene.load_answered(&answers, "good 3").expect("it is loaded");
    assert_eq!(scene.serving().0, "good 3");
}

#[test]
fn without_an_earlier_version_a_source_that_hangs_is_an_objection_or_has_a_stand_in() {
    let (mut scene, _answers, _) = scene(SHORT);
    let objections = scene.load_unanswered().0.expect_err("there is nothing to go on with");
    let problem = &objections.plugins[0];
    assert_eq!(problem.key, "plugins.p.file");
    assert!(problem.message.contains("has not answered for"), "{problem:?}");
    scene.config.gateway.start = Start::Degraded;
    scene.load_unanswered().0.expect("a stand-in serves");
    assert_eq!(scene.status().state, BindingState::Unavailable);
}

#[test]
fn several_sources_that_hang_cost_the_time_of_one() {
    let (mut scene, _answers, _) = scene(Duration::from_secs(1));
    let mut others = Vec::new();
    for name in ["q", "r", "s"] {
        others.push(Answers::at(&scene.folder.path().join(format!("{name}.sock"))));
        let plugin =
            model::Plugin { file: format!("{name}.sock").into(), ..scene.config.plugins["p"].clone() };
        scene.config.plugins.insert(name.to_owned(), plugin);
        let binding = model::Binding { plugin: name.to_owned(), ..scene.config.bindings["b"].clone() };
        scene.config.bindings.insert(name.to_owned(), binding);
    }
    let (loaded, took) = scene.load_unanswered();
    assert_eq!(loaded.expect_err("none is there").plugins.len(), 4);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_source_that_answers_soon_is_waited_for_even_if_another_load_is_requested() {
    let (mut scene, answers, _) = scene(LONG);
    scene.load_answered(&answers, "good 1").expect("it is loaded");
    for version in ["good 2", "good 3", "good 4"] {
        scene.library.fetches().begin_load();
        scene.library.fetches().interrupt();
        std::thread::scope(|scope| {
            scope.spawn(|| answers.asked().write_all(version.as_bytes()).expect("it is read"));
            scene.reload()
        })
        .expect("it is loaded");
        assert_eq!(scene.serving().0, version, "what the source has now, not what it had before");
        assert!(!scene.library.fetches().was_interrupted());
    }
}

#[test]
fn a_load_that_is_to_hurry_waits_no_longer() {
    let (mut scene, answers, _) = scene(LONG);
    scene.load_answered(&answers, "good 1").expect("it is loaded");
    scene.library.fetches().begin_load();
    let fetches = scene.library.fetches().clone();
    let loaded = std::thread::scope(|scope| {
        scope.spawn(|| {
            let _asked = answers.asked();
            fetches.interrupt();
            // The source hangs until the load has ended.
            while !fetches.was_interrupted() {
                std::thread::yield_now();
            }
        });
        scene.reload()
    });
    loaded.expect("the version in service goes on");
    assert!(scene.library.fetches().was_interrupted(), "so that the load is done again");
}
