//! Decides when changing files are whole.
//!
//! A file that was moved into place is whole at once. One that is written in place passes through states that are
//! valid but mean something else: empty, or cut off between two tables. So it counts as whole when nothing has
//! changed for a short time, or for a longer time if there are signs of a writer at work: it holds the file open,
//! or the file has become shorter, is missing or does not parse.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use witgate_config::file;

use super::fingerprint::{CONFIGURATION, Fingerprint};
use super::writers::{Writer, Writers};

/// How long nothing must have changed if there is no sign of a writer.
const QUIET: Duration = Duration::from_millis(125);

/// How long nothing must have changed if there is one.
const DOUBT: Duration = Duration::from_secs(2);

/// How long to wait, after the latest change, for a writer that holds a file open.
const OPEN: Duration = Duration::from_secs(10);

/// After this time files are read as they are, even if they still change.
const PATIENCE: Duration = Duration::from_secs(60);

/// Changes that may not be complete yet.
pub(super) struct Burst {
    begun: Instant,
    /// The last fingerprint, and since when the files are in this state.
    seen: Fingerprint,
    since: Instant,
    /// Files that became shorter or disappeared meanwhile.
    shortened: BTreeSet<PathBuf>,
    /// Whether files parse, as of the last fingerprint.
    parsed: Vec<(PathBuf, bool)>,
    /// Whether a fingerprint was taken at all.
    looked: bool,
}

/// The verdict on a burst of changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Files may still be changing.
    Wait,
    /// Everything is as it was read.
    Same,
    /// Something has changed, and it is whole.
    Changed,
}

impl Burst {
    /// A burst that begins now, of files with this fingerprint when they were read.
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

    /// The last fingerprint.
    pub(super) fn seen(&self) -> &Fingerprint {
        &self.seen
    }

    /// Adds a fingerprint.
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
        // What the first fingerprint shows was already so when the burst began.
        if std::mem::replace(&mut self.looked, true) {
            self.since = now;
        }
    }

    /// Whether the last fingerprint differs from what was read, and the files are whole.
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

    /// How long nothing must have changed for a file to count as whole.
    fn needed(&mut self, file: &Path, baseline: &Fingerprint, writers: &Writers) -> Duration {
        let writer = writers.of(file);
        let moved = match writer {
            Some(writer) => writer == Writer::Moved,
            None => self.seen.is_replaced(file, baseline),
        };
        // An incomplete component is refused, so the version in service would stay.
        let component = file.extension().is_some_and(|extension| extension == "wasm");
        if writer == Some(Writer::Open) {
            return OPEN;
        }
        if moved || component {
            return QUIET;
        }
        // Without events about a writer, one may hold the file open.
        let empty = self.seen.size(file).unwrap_or(0) == 0;
        let doubtful = writer.is_none() || empty || self.shortened.contains(file) || !self.parses(file);
        if doubtful { DOUBT } else { QUIET }
    }

    /// Whether a file of the configuration is valid TOML. Other files always count as valid.
    fn parses(&mut self, file: &Path) -> bool {
        if file.extension().is_none_or(|extension| extension != CONFIGURATION) {
            return true;
        }
        if let Some((_, parses)) = self.parsed.iter().find(|(known, _)| known == file) {
            return *parses;
        }
        // A file that cannot be read is left to the load, which refuses it with a message.
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

    /// A folder with one file, and a watcher whose events the test sends.
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

        /// Writes a file in place.
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

        /// Takes a fingerprint at a time after the burst began.
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
        // Another writer appends half of its text, cut between two tables, and then the rest.
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
            // Each text has another length, because the clock of a file system may be too coarse to tell two
            // writes apart.
            scene.write("a.toml", &format!("a = \"{}\"", "x".repeat(number as usize)));
            assert_eq!(scene.after(Duration::from_secs(number)), Verdict::Wait);
        }
        assert_eq!(scene.after(PATIENCE), Verdict::Changed);
    }
}
