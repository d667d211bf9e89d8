//! Fingerprints of files at the time when they were read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use witgate_config::file;

/// The extension of the files of a configuration folder.
pub(crate) const CONFIGURATION: &str = "toml";

/// What is watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WatchList {
    /// Files whose contents count.
    pub(crate) files: BTreeSet<PathBuf>,
    /// Folders in which the *names* of files with one of these extensions count: the configuration folder, the
    /// plugin folder.
    pub(crate) folders: BTreeMap<PathBuf, &'static str>,
}

impl WatchList {
    /// Adds what is in another.
    pub(super) fn extend(&mut self, other: WatchList) {
        self.files.extend(other.files);
        self.folders.extend(other.folders);
    }

    /// The list with all files that are in the configuration folder now, including those that did not exist when
    /// the configuration was read.
    pub(super) fn with_newcomers(&self) -> WatchList {
        let mut list = self.clone();
        for (folder, extension) in self.folders.iter().filter(|(_, extension)| **extension == CONFIGURATION) {
            list.files.extend(names(folder, extension).iter().map(|name| folder.join(name)));
        }
        list
    }

    /// The folders in which events may mean a change: those of all files, including the targets of symbolic links,
    /// and the listed ones.
    pub(super) fn event_folders(&self) -> BTreeSet<PathBuf> {
        let mut folders: BTreeSet<PathBuf> = self.folders.keys().cloned().collect();
        for file in &self.files {
            folders.extend(parent(file));
            folders.extend(fs::canonicalize(file).ok().as_deref().and_then(parent));
        }
        folders.retain(|folder| folder.is_dir());
        folders
    }
}

fn parent(file: &Path) -> Option<PathBuf> {
    let parent = file.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
}

/// The state of a watch list at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    files: BTreeMap<PathBuf, Look>,
    names: BTreeMap<PathBuf, BTreeSet<String>>,
}

/// One file. A file that cannot be read has no digest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    metadata: Option<Metadata>,
    digest: Option<[u8; 32]>,
}

/// Metadata that changes whenever the contents do, on conforming file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Metadata {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    /// The metadata of everything, by path, without reading any file: equal as long as nothing changes.
    pub(crate) fn metadata(list: &WatchList) -> impl PartialEq + use<> {
        let all = list.with_newcomers().files.into_iter();
        all.map(|file| (metadata(&file), file)).collect::<Vec<_>>()
    }

    /// Takes a fingerprint. Files whose metadata is as in `before` are not read again.
    pub(crate) fn take(list: &WatchList, before: &Fingerprint) -> Fingerprint {
        let files =
            list.files.iter().map(|file| (file.clone(), look(file, before.files.get(file)))).collect();
        let names = list.folders.iter().map(|(folder, extension)| (folder.clone(), names(folder, extension)));
        Fingerprint { files, names: names.collect() }
    }

    /// Sets the contents that a file had when it was read, for files that were read before their fingerprint was
    /// taken.
    pub(crate) fn set_content(&mut self, file: &Path, content: &[u8]) {
        if let Some(look) = self.files.get_mut(file) {
            let digest = Some(Sha256::digest(content).into());
            if look.digest != digest {
                *look = Look { metadata: None, digest };
            }
        }
    }

    /// Adds the files that were not watched before.
    pub(super) fn add(&mut self, other: Fingerprint) {
        for (file, look) in other.files {
            self.files.entry(file).or_insert(look);
        }
        for (folder, names) in other.names {
            self.names.entry(folder).or_insert(names);
        }
    }

    /// Whether every file except those listed had the same contents.
    pub(crate) fn agrees(&self, other: &Fingerprint, but_for: &[PathBuf]) -> bool {
        let digests = |print: &Fingerprint| -> BTreeMap<PathBuf, Option<[u8; 32]>> {
            let files = print.files.iter().filter(|(path, _)| !but_for.contains(path));
            files.map(|(path, look)| (path.clone(), look.digest)).collect()
        };
        digests(self) == digests(other)
    }

    /// The paths that differ from `before`.
    pub(super) fn differences(&self, before: &Fingerprint) -> Vec<String> {
        let folders = self.names.iter().filter(|(folder, names)| before.names.get(*folder) != Some(names));
        let paths = self.changed(before).chain(folders.map(|(folder, _)| folder));
        paths.map(|path| path.display().to_string()).collect()
    }

    /// The files whose contents differ from `before`.
    pub(super) fn changed<'f>(&'f self, before: &'f Fingerprint) -> impl Iterator<Item = &'f PathBuf> {
        let digest = |print: &Fingerprint, path: &PathBuf| print.files.get(path).and_then(|look| look.digest);
        let gone = before.files.keys().filter(|path| !self.files.contains_key(*path));
        self.files.keys().chain(gone).filter(move |path| digest(self, path) != digest(before, path))
    }

    /// The size of a file in bytes; `None` if it does not exist or is not known.
    pub(super) fn size(&self, file: &Path) -> Option<u64> {
        Some(self.files.get(file)?.metadata?.size)
    }

    /// Whether a file that existed `before` was replaced by another file.
    pub(super) fn is_replaced(&self, file: &Path, before: &Fingerprint) -> bool {
        let identity = |print: &Fingerprint| {
            let metadata = print.files.get(file)?.metadata?;
            Some((metadata.device, metadata.inode))
        };
        identity(self).zip(identity(before)).is_some_and(|(now, before)| now != before)
    }

    /// The digest of a file; `None` if it is not listed, could not be read, or is larger than anything that is loaded.
    pub(crate) fn digest(&self, file: &Path) -> Option<[u8; 32]> {
        self.files.get(file)?.digest
    }

    /// Whether a file existed and was empty.
    pub(crate) fn is_empty(&self, file: &Path) -> bool {
        let nothing: [u8; 32] = Sha256::digest(b"").into();
        self.files.get(file).is_some_and(|look| look.digest == Some(nothing))
    }
}

fn metadata(file: &Path) -> Option<Metadata> {
    let metadata = fs::metadata(file).ok()?;
    Some(Metadata {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

fn look(file: &Path, before: Option<&Look>) -> Look {
    let metadata = metadata(file);
    match before {
        Some(before) if metadata.is_some() && before.metadata == metadata => before.clone(),
        _ => Look { metadata, digest: digest(file) },
    }
}

/// The digest of a file's contents, which are never in memory as a whole; `None` if it is not a regular file or is larger
/// than anything that is loaded.
fn digest(path: &Path) -> Option<[u8; 32]> {
    let mut content = file::open(path).ok()?.take(file::DATA + 1);
    let mut hasher = Sha256::new();
    let read = std::io::copy(&mut content, &mut hasher).ok()?;
    (read <= file::DATA).then(|| hasher.finalize().into())
}

/// Names of the files with an extension in a folder; empty if there is no such folder.
pub(crate) fn names(folder: &Path, extension: &str) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    names
        .filter(|name| {
            !name.starts_with('.') && Path::new(name).extension().is_some_and(|found| found == extension)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(file: &Path) -> WatchList {
        WatchList { files: BTreeSet::from([file.to_owned()]), folders: BTreeMap::new() }
    }

    #[test]
    fn a_touched_file_is_the_same_and_a_changed_one_of_equal_length_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "one").unwrap();
        let before = Fingerprint::take(&list(&file), &Fingerprint::default());

        let touched = fs::File::options().write(true).open(&file).unwrap();
        touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let after = Fingerprint::take(&list(&file), &before);
        assert!(after.differences(&before).is_empty());

        fs::write(&file, "two").unwrap();
        let after = Fingerprint::take(&list(&file), &before);
        assert_eq!(after.differences(&before), [file.display().to_string()]);
    }

    #[test]
    fn a_swapped_link_in_the_manner_of_kubernetes_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (version, content) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("witgate.toml"), content).unwrap();
        }
        std::os::unix::fs::symlink("..1", root.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/witgate.toml", root.join("witgate.toml")).unwrap();
        let file = root.join("witgate.toml");
        let before = Fingerprint::take(&list(&file), &Fingerprint::default());

        std::os::unix::fs::symlink("..2", root.join("..new")).unwrap();
        fs::rename(root.join("..new"), root.join("..data")).unwrap();
        let after = Fingerprint::take(&list(&file), &before);
        assert_eq!(after.differences(&before), [file.display().to_string()]);
        assert!(
            list(&file).event_folders().contains(root),
            "the folder in which the link is swapped is watched"
        );
    }

    #[test]
    fn what_was_read_before_counts_not_what_is_there_now() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "changed since").unwrap();
        let mut read = Fingerprint::take(&list(&file), &Fingerprint::default());
        read.set_content(&file, b"as it was read");
        let now = Fingerprint::take(&list(&file), &read);
        assert_eq!(now.differences(&read).len(), 1);
    }

    #[test]
    fn a_new_name_in_a_folder_is_a_change_unless_it_is_of_another_kind() {
        let folder = tempfile::tempdir().unwrap();
        let list = WatchList {
            files: BTreeSet::new(),
            folders: BTreeMap::from([(folder.path().to_owned(), "wasm")]),
        };
        let before = Fingerprint::take(&list, &Fingerprint::default());
        fs::write(folder.path().join("notes.txt"), "").unwrap();
        assert!(Fingerprint::take(&list, &before).differences(&before).is_empty());
        fs::write(folder.path().join("new.wasm"), "").unwrap();
        assert_eq!(Fingerprint::take(&list, &before).differences(&before).len(), 1);
    }
}
