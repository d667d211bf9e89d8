//! When files that change are whole.
//!
//! A file that was moved into its place is whole at once. One that is written in its place passes through states that are
//! valid and mean something else: empty, or cut off between two tables. So it is whole when nothing has changed for a
//! moment, or for longer where something speaks for a writer at work: it holds the file open, the file has become shorter
//! or is not there, or does not parse.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use witgate_config::file;

use super::fingerprint::{CONFIGURATION, Fingerprint};
use super::writers::{Writer, Writers};

/// How long nothing must have changed where nothing speaks against a file.
const QUIET: Duration = Duration::from_millis(125);

/// How long nothing must have changed where something does.
const DOUBT: Duration = Duration::from_secs(2);

/// How long a writer that holds a file open is waited for after its latest change.
const OPEN: Duration = Duration::from_secs(10);

/// After how long files are taken as they are although they go on changing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Changes that are being waited out.
pub(super) struct Burst {
    begun: Instant,
    /// What was seen last, and since when it is so.
    seen: Fingerprint,
    since: Instant,
    /// Files that became shorter or went away meanwhile.
    shortened: BTreeSet<PathBuf>,
    /// Whether files parse that are as they were seen last.
    parsed: Vec<(PathBuf, bool)>,
    /// Whether it has been looked at all.
    looked: bool,
}

/// What is to be done about a burst.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Files may still be changing.
    Wait,
    /// Everything is as it was read.
    Same,
    /// Something else is there, and it is whole.
    Changed,
}

impl Burst {
    /// A burst that begins now, of files that were like this when they were read.
    pub(super) fn new(baseline: &Fingerprint) -> Burst {
        let now = Instant::now();
        Burst {
            begun: now,
            seen: baseline.clone(),
            since: now,
            shortened: BTreeSet::new(),
            parsed: Vec::new(),
            looked: false,
        }
    }

    /// What was seen last.
    pub(super) fn seen(&self) -> &Fingerprint {
        &self.seen
    }

    /// Takes note of what is seen now.
    pub(super) fn see(&mut self, fingerprint: Fingerprint, now: Instant) {
        if fingerprint == self.seen {
            self.looked = true;
            return;
        }
        for file in fingerprint.changed(&self.seen) {
            let (before, after) = (self.seen.size(file), fingerprint.size(file));
            if before > after && !fingerprint.is_replaced(file, &self.seen) {
                self.shortened.insert(file.clone());
            }
        }
        self.parsed.clear();
        self.seen = fingerprint;
        // What is found by the first look was so when the burst began.
        if std::mem::replace(&mut self.looked, true) {
            self.since = now;
        }
    }

    /// Whether what was seen last differs from what was read, and is whole.
    pub(super) fn judge(&mut self, baseline: &Fingerprint, writers: &Writers, now: Instant) -> Verdict {
        if self.seen.differences(baseline).is_empty() {
            return Verdict::Same;
        }
        let changed: Vec<PathBuf> = self.seen.changed(baseline).cloned().collect();
        let needed = changed.iter().map(|file| self.needed(file, baseline, writers)).max();
        let quiet = now.saturating_duration_since(self.since);
        let whole = quiet >= needed.unwrap_or(QUIET);
        if whole || now.saturating_duration_since(self.begun) >= PATIENCE {
            Verdict::Changed
        } else {
            Verdict::Wait
        }
    }

    /// How long nothing must have changed for a file to be whole.
    fn needed(&mut self, file: &Path, baseline: &Fingerprint, writers: &Writers) -> Duration {
        let writer = writers.of(file);
        let moved = match writer {
            Some(writer) => writer == Writer::Moved,
            None => self.seen.is_replaced(file, baseline),
        };
        // Half a component is none, so the one in service would stay.
        let component = file.extension().is_some_and(|extension| extension == "wasm");
        if writer == Some(Writer::Open) {
            return OPEN;
        }
        if moved || component {
            return QUIET;
        }
        // Where events do not tell of a writer, it may hold the file open.
        let empty = self.seen.size(file).unwrap_or(0) == 0;
        let doubtful = writer.is_none() || empty || self.shortened.contains(file) || !self.parses(file);
        if doubtful { DOUBT } else { QUIET }
    }

    /// Whether a file of the configuration is TOML. Of other files nothing is known.
    fn parses(&mut self, file: &Path) -> bool {
        if file.extension().is_none_or(|extension| extension != CONFIGURATION) {
            return true;
        }
        if let Some((_, parses)) = self.parsed.iter().find(|(known, _)| known == file) {
            return *parses;
        }
        // What cannot be read, or not as a file of the configuration, is left to the load that refuses it in words.
        let text = file::read_text(file, file::CONFIGURATION).unwrap_or_default();
        let parses = text.parse::<toml::Table>().is_ok();
        self.parsed.push((file.to_owned(), parses));
        parses
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use notify::event::{AccessKind, AccessMode, CreateKind, DataChange, ModifyKind, RenameMode};
    use notify::{Event, EventKind};

    use super::super::fingerprint::WatchList;
    use super::*;

    const WROTE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const CREATED: EventKind = EventKind::Create(CreateKind::File);
    const MOVED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));

    /// A folder with one file, and a watcher that is told of events by hand.
    struct Scene {
        folder: tempfile::TempDir,
        baseline: Fingerprint,
        burst: Burst,
        writers: Writers,
    }

    impl Scene {
        fn new(content: &str) -> Scene {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("a.toml"), content).unwrap();
            let list = list(folder.path());
            let baseline = Fingerprint::take(&list.with_newcomers(), &Fingerprint::default());
            let burst = Burst::new(&baseline);
            Scene { folder, baseline, burst, writers: Writers::default() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn event(&self, kind: EventKind, name: &str) {
            self.writers.note(&Event::new(kind).add_path(self.path(name)));
        }

        /// Writes a file in its place.
        fn write(&self, name: &str, content: &str) {
            fs::write(self.path(name), content).unwrap();
            self.event(WROTE, name);
        }

        /// Moves a file with this content over another.
        fn move_over(&self, name: &str, content: &str) {
            fs::write(self.path("aside"), content).unwrap();
            fs::rename(self.path("aside"), self.path(name)).unwrap();
            self.event(MOVED, name);
        }

        /// Looks, so long after the burst began.
        fn after(&mut self, time: Duration) -> Verdict {
            let now = self.burst.begun + time;
            let list = list(self.folder.path()).with_newcomers();
            self.burst.see(Fingerprint::take(&list, self.burst.seen()), now);
            self.burst.judge(&self.baseline, &self.writers, now)
        }
    }

    fn list(folder: &Path) -> WatchList {
        let mut list = WatchList::default();
        list.files.insert(folder.join("a.toml"));
        list.folders.insert(folder.to_owned(), CONFIGURATION);
        list
    }

    const FULL: &str = "[gateway]\nstart = \"strict\"\n[[routes]]\npath = \"/\"\n";

    #[test]
    fn what_is_moved_into_its_place_is_whole_at_once_whatever_it_holds() {
        for content in ["a = 1", "", "not TOML"] {
            let mut scene = Scene::new(FULL);
            scene.move_over("a.toml", content);
            assert_eq!(scene.after(Duration::ZERO), Verdict::Wait);
            assert_eq!(scene.after(QUIET), Verdict::Changed, "{content:?}");
        }
    }

    #[test]
    fn what_is_written_in_its_place_is_whole_when_it_is_closed() {
        let mut scene = Scene::new(FULL);
        scene.write("a.toml", &format!("{FULL}[[routes]]\n"));
        assert_eq!(scene.after(DOUBT), Verdict::Wait, "it is still open");
        scene.event(CLOSED, "a.toml");
        assert_eq!(scene.after(DOUBT), Verdict::Changed);
    }

    #[test]
    fn where_events_do_not_come_a_file_must_have_been_quiet_for_longer() {
        let mut scene = Scene::new(FULL);
        fs::write(scene.path("a.toml"), format!("{FULL}[[routes]]\n")).unwrap();
        assert_eq!(scene.after(QUIET), Verdict::Wait);
        assert_eq!(scene.after(DOUBT), Verdict::Changed);
    }

    #[test]
    fn a_writer_that_never_closes_is_not_waited_for_for_ever() {
        let mut scene = Scene::new(FULL);
        scene.write("a.toml", &format!("{FULL}[[routes]]\n"));
        scene.after(Duration::ZERO);
        assert_eq!(scene.after(OPEN - Duration::from_millis(1)), Verdict::Wait);
        assert_eq!(scene.after(OPEN), Verdict::Changed);
    }

    #[test]
    fn a_truncated_file_is_waited_for_also_once_it_grows_again() {
        let mut scene = Scene::new(FULL);
        scene.write("a.toml", "");
        scene.event(CLOSED, "a.toml");
        assert_eq!(scene.after(QUIET), Verdict::Wait);
        // Another writer appends half of what is to come, cut between two tables, and then the rest.
        scene.write("a.toml", &format!("{FULL}{FULL}").replace("[gateway]\nstart = \"strict\"\n", ""));
        scene.event(CLOSED, "a.toml");
        let second = DOUBT / 2;
        assert_eq!(scene.after(second), Verdict::Wait);
        assert_eq!(scene.after(second + QUIET), Verdict::Wait, "it was seen empty");
        assert_eq!(scene.after(second + DOUBT), Verdict::Changed);
    }

    #[test]
    fn what_does_not_parse_or_is_gone_may_still_be_on_its_way() {
        let mut scene = Scene::new(FULL);
        scene.write("a.toml", &format!("{FULL}[[rou"));
        scene.event(CLOSED, "a.toml");
        assert_eq!(scene.after(QUIET), Verdict::Wait);
        assert_eq!(scene.after(DOUBT), Verdict::Changed);

        let mut scene = Scene::new(FULL);
        fs::remove_file(scene.path("a.toml")).unwrap();
        assert_eq!(scene.after(QUIET), Verdict::Wait);
        scene.move_over("a.toml", "a = 1");
        assert_eq!(scene.after(2 * QUIET), Verdict::Wait);
        assert_eq!(scene.after(3 * QUIET), Verdict::Changed, "another was moved there");
    }

    #[test]
    fn a_new_file_of_the_folder_is_waited_for_as_well() {
        let mut scene = Scene::new(FULL);
        scene.event(CREATED, "b.toml");
        scene.write("b.toml", "[[routes]]\n");
        assert_eq!(scene.after(DOUBT), Verdict::Wait, "it is still open");
        scene.write("b.toml", "[[routes]]\npath = \"/admin\"\n");
        scene.event(CLOSED, "b.toml");
        assert_eq!(scene.after(2 * DOUBT), Verdict::Wait, "it has just changed");
        assert_eq!(scene.after(2 * DOUBT + QUIET), Verdict::Changed);
    }

    #[test]
    fn what_ends_as_it_was_is_no_change_and_endless_change_is_taken_at_last() {
        let mut scene = Scene::new(FULL);
        scene.write("a.toml", "");
        assert_eq!(scene.after(QUIET), Verdict::Wait);
        scene.write("a.toml", FULL);
        assert_eq!(scene.after(2 * QUIET), Verdict::Same);

        let mut scene = Scene::new(FULL);
        for number in 0..60_u64 {
            // Each of another length: the clock of a file system may be too coarse to tell two writes apart.
            scene.write("a.toml", &format!("a = \"{}\"", "x".repeat(number as usize)));
            assert_eq!(scene.after(Duration::from_secs(number)), Verdict::Wait);
        }
        assert_eq!(scene.after(PATIENCE), Verdict::Changed);
    }
}
