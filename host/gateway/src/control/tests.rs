//! The control plane within the test's process, whose state the tests inspect.

use std::path::Path;
use std::sync::Weak;
use std::time::{Duration, Instant};

use super::library::tests::slow::{Answers, SLOW};
use super::*;

/// The longest time a test waits for a condition.
const DEADLINE: Duration = Duration::from_secs(20);

fn start(folder: &Path) -> Control {
    let path = folder.join("witgate.toml");
    write(&path, 0);
    Control::start(Source::Path(path), SOURCES).unwrap_or_else(|failure| panic!("{failure}"))
}

/// Writes a configuration that differs by `number`.
fn write(path: &Path, number: usize) {
    let text = format!(
        "[admin]\naddress = \"off\"\n[telemetry]\naccess_log = \"off\"\n[gateway]\nworkers = 1\n\
         [[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         [[routes]]\nname = \"all\"\nupstream = \"users\"\ntimeout = \"{}ms\"\n\
         [upstreams.users]\nendpoints = [\"127.0.0.1:{}\"]\n",
        number + 1,
        number % 2 + 1
    );
    std::fs::write(path.with_extension("new"), text).expect("written");
    std::fs::rename(path.with_extension("new"), path).expect("renamed");
}

impl Control {
    /// Handles messages until no load is waiting or in progress.
    fn settle(&mut self) {
        loop {
            self.begin_load();
            if self.loading.is_none() {
                return;
            }
            let message = self.messages.recv_timeout(DEADLINE).expect("the load ends");
            self.carry_out(message);
        }
    }

    /// Handles messages until a load has ended.
    fn until_loaded(&mut self) {
        let mut loaded = false;
        while !loaded {
            let message = self.messages.recv_timeout(DEADLINE).expect("the load ends");
            loaded = matches!(message, Message::Loaded(_));
            self.carry_out(message);
        }
    }

    fn reload(&mut self) -> Change {
        let (reply, mut answer) = tokio::sync::oneshot::channel();
        self.handle.reload("a test".to_owned(), false, Some(reply)).expect("it does not drain");
        self.settle();
        answer.try_recv().expect("who asks is told")
    }
}

#[test]
fn nothing_is_held_of_snapshots_that_two_hundred_reloads_have_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = start(folder.path());
    let mut replaced: Vec<Weak<Snapshot>> = Vec::new();
    for number in 1..=200 {
        replaced.push(Arc::downgrade(&control.data_plane.snapshot()));
        write(&folder.path().join("witgate.toml"), number);
        let change = control.reload();
        assert!(change.applied, "{:?}", change.problems);
        assert_eq!(control.data_plane.snapshot().version, number as u64 + 1);
    }
    let begun = Instant::now();
    let held = || replaced.iter().filter(|snapshot| snapshot.strong_count() > 0).count();
    while held() > 0 {
        assert!(begun.elapsed() < DEADLINE, "{} of 200 snapshots are still held", held());
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn reloads_that_come_during_a_load_are_one_load_and_all_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = start(folder.path());
    control.settle();
    write(&folder.path().join("witgate.toml"), 1);
    control.handle.reload("first".to_owned(), false, None).expect("it does not drain");
    control.begin_load();
    assert!(control.handle.status().busy.as_ref().is_some_and(|busy| busy.reason.contains("first")));

    // Written after the load has begun, so only a later load can have read it.
    write(&folder.path().join("witgate.toml"), 2);
    let answers: Vec<_> = (0..100)
        .map(|_| {
            let (reply, answer) = tokio::sync::oneshot::channel();
            control.handle.reload("later".to_owned(), false, Some(reply)).expect("it does not drain");
            answer
        })
        .collect();
    assert!(control.handle.status().busy.as_ref().is_some_and(|busy| busy.waiting >= 100));
    control.settle();
    let snapshot = control.data_plane.snapshot();
    assert_eq!(snapshot.config.routes[0].timeout, Some(Duration::from_millis(3)));
    assert!(snapshot.version <= 3, "at most two loads: {}", snapshot.version);
    for mut answer in answers {
        let change = answer.try_recv().expect("everybody is told");
        assert!(change.applied && change.reason.contains("later (100 times)"), "{change:?}");
    }
    assert_eq!(control.handle.status().busy, None);
}

#[test]
fn what_was_loaded_before_a_plugin_was_put_back_is_loaded_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = start(folder.path());
    control.settle();
    write(&folder.path().join("witgate.toml"), 1);
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    control.handle.reload("a test".to_owned(), true, Some(reply)).expect("it does not drain");
    control.begin_load();
    // As if a plugin had been put back meanwhile.
    control.generation += 1;
    control.until_loaded();
    assert_eq!(control.data_plane.snapshot().version, 1, "what it made is not put in service");
    control.settle();
    assert!(answer.try_recv().is_ok_and(|change| change.applied));
    assert_eq!(control.data_plane.snapshot().version, 2);
}

#[test]
fn a_drain_waits_for_no_load_and_nothing_is_loaded_any_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = start(folder.path());
    assert!(control.handle.is_ready());
    let handle = control.handle.clone();
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    handle.reload("a test".to_owned(), false, Some(reply)).expect("it does not drain yet");
    handle.drain("a test");
    assert!(!handle.is_ready(), "at once, whatever the control thread does");
    assert_eq!(handle.status().phase, GatewayPhase::Draining);
    assert!(handle.reload("too late".to_owned(), false, None).is_err_and(|told| told.contains("draining")));
    control.begin_load();
    assert!(control.serve().is_ok());
    assert!(answer.try_recv().is_err(), "it is told by its place being dropped");
    assert!(handle.ask(Request::Rollback { binding: "x".to_owned(), reply: oneshot() }).is_err());
}

fn oneshot() -> tokio::sync::oneshot::Sender<Change> {
    tokio::sync::oneshot::channel().0
}

/// A gateway whose plugin `p` comes from a source that hangs, with a load under way that waits for it.
fn waiting_for_a_source(folder: &Path) -> (Control, Answers) {
    let path = folder.join("witgate.toml");
    write(&path, 0);
    let source = Source::Path(path.clone());
    let mut control = Control::start(source, SLOW).unwrap_or_else(|failure| panic!("{failure}"));
    control.settle();
    let answers = Answers::at(&folder.join("p.sock"));
    let text = std::fs::read_to_string(&path).expect("it was written");
    let folder = format!("[gateway]\nplugin_folder = {folder:?}\nplugins = [\"p\"]\nworkers = 1\n");
    let text = text.replace("[gateway]\nworkers = 1\n", &folder) + "[plugins.p]\nfile = \"p.sock\"\n";
    std::fs::write(&path, text).expect("written");
    control.handle.reload("a plugin".to_owned(), false, None).expect("it does not drain");
    control.begin_load();
    (control, answers)
}

#[test]
fn a_reload_that_needs_no_plugin_does_not_wait_for_one_that_hangs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut control, answers) = waiting_for_a_source(folder.path());
    let _hung = answers.asked();
    write(&folder.path().join("witgate.toml"), 1);
    let begun = Instant::now();
    let change = control.reload();
    assert!(change.applied && change.reason.contains("a plugin"), "both are told: {change:?}");
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    assert_eq!(control.data_plane.snapshot().config.routes[0].timeout, Some(Duration::from_millis(2)));
}

#[test]
fn neither_a_rollback_nor_a_drain_waits_for_a_source_that_hangs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut control, answers) = waiting_for_a_source(folder.path());
    let _hung = answers.asked();
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    let rollback = Request::Rollback { binding: "p".to_owned(), reply };
    control.handle.ask(rollback).expect("it is taken");
    while answer.try_recv().is_err() {
        let message = control.messages.recv_timeout(DEADLINE).expect("it was asked");
        control.carry_out(message);
    }
    assert!(control.loading.is_some(), "the load waits still");
    let begun = Instant::now();
    control.handle.drain("a test");
    assert!(control.serve().is_ok());
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
}
