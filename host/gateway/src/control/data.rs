//! The files of `[data]`: read by a load, held once for all bindings that use them.
//!
//! No file is read on the data path. A load reads what has changed aside; its contents take part in deciding which version of
//! a binding serves, as the binding's settings do. A file that cannot be read leaves its last good contents in use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use witgate_config::{Config, Problem, Problems, file, model};
use witgate_wasm::Data;

use crate::watch::Fingerprint;

/// The files of a configuration. A clone shares their contents.
#[derive(Clone, Default)]
pub(crate) struct DataFiles(BTreeMap<String, Held>);

/// One file as it was read.
#[derive(Clone)]
struct Held {
    settings: model::Data,
    digest: [u8; 32],
    content: Arc<Data>,
    /// Why these contents are used although the file has changed.
    problem: Option<String>,
}

/// The files to watch because of `[data]`.
pub(crate) fn watched(config: &Config) -> impl Iterator<Item = PathBuf> {
    config.data.values().map(|data| data.file.clone())
}

impl DataFiles {
    /// The files of another configuration, and all problems. A file with the same contents is carried over as the same object,
    /// and one that cannot be read any more keeps its contents. `fingerprint` was taken when the configuration was read; files
    /// that have the digest in it are not read again.
    pub(crate) fn next(&self, config: &Config, fingerprint: &Fingerprint) -> (DataFiles, Problems) {
        let (mut files, mut problems) = (BTreeMap::new(), Problems::new());
        for (name, settings) in &config.data {
            let before = self.0.get(name).filter(|before| before.settings == *settings);
            match held(settings, before, fingerprint.digest(&settings.file)) {
                Ok(held) => drop(files.insert(name.clone(), held)),
                Err(told) => problems.push(Problem {
                    key: format!("data.{name}.file"),
                    ..Problem::new(told).with_hint("the file must be there when the gateway starts")
                }),
            }
        }
        (DataFiles(files), problems)
    }

    /// The contents of a file; `None` if it is not declared or has a problem.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Data>> {
        self.0.get(name).map(|held| &held.content)
    }

    /// The files whose last good contents are used in place of the present ones: their names, and why.
    pub(crate) fn reservations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, held)| Some((name.as_str(), held.problem.as_deref()?)))
    }
}

/// A file: as it was held before if it has not changed or cannot be used, else as it is now.
///
/// # Errors
/// It cannot be used, and was not held before.
fn held(settings: &model::Data, before: Option<&Held>, digest: Option<[u8; 32]>) -> Result<Held, String> {
    if let Some(before) = before.filter(|before| digest == Some(before.digest)) {
        return Ok(Held { problem: None, ..before.clone() });
    }
    let read = file::read(&settings.file, settings.max_size).map_err(|error| error.to_string());
    let bytes =
        read.and_then(|bytes| if bytes.is_empty() { Err("it is empty".to_owned()) } else { Ok(bytes) });
    match (bytes, before) {
        (Ok(bytes), _) => {
            let digest = Sha256::digest(&bytes).into();
            let same = before.filter(|before| before.digest == digest);
            let content = same.map_or_else(|| Arc::new(Data::new(bytes)), |same| Arc::clone(&same.content));
            Ok(Held { settings: settings.clone(), digest, content, problem: None })
        }
        (Err(why), Some(before)) => {
            let told = format!(
                "`{}` cannot be used: {why}; its last good contents stay in use",
                settings.file.display()
            );
            Ok(Held { problem: Some(told), ..before.clone() })
        }
        (Err(why), None) => Err(format!("`{}` cannot be used: {why}", settings.file.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::watch::WatchList;

    fn config(file: &Path, max_size: &str) -> Config {
        let text = format!("[data.d]\nfile = \"{}\"\nmax_size = \"{max_size}\"\n", file.display());
        witgate_config::parse_str(&text).unwrap_or_else(|failure| panic!("{}", failure.render(false))).config
    }

    fn next(files: &DataFiles, config: &Config) -> (DataFiles, Problems) {
        let watched: BTreeSet<PathBuf> = watched(config).collect();
        let list = WatchList { files: watched, folders: BTreeMap::new() };
        files.next(config, &Fingerprint::take(&list, &Fingerprint::default()))
    }

    /// Puts something at a path that cannot be used.
    type Spoil = fn(&Path);

    fn bytes(files: &DataFiles) -> &[u8] {
        files.get("d").expect("it is held").bytes()
    }

    #[test]
    fn a_file_with_the_same_bytes_is_the_same_object_and_a_changed_one_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("table");
        let config = config(&file, "1KiB");
        std::fs::write(&file, "one").unwrap();
        let (first, problems) = next(&DataFiles::default(), &config);
        assert!(problems.is_empty());
        assert_eq!(bytes(&first), b"one");
        std::fs::write(&file, "one").unwrap();
        let (second, _) = next(&first, &config);
        assert!(Arc::ptr_eq(first.get("d").unwrap(), second.get("d").unwrap()));
        std::fs::write(&file, "two").unwrap();
        let (third, _) = next(&second, &config);
        assert_eq!((bytes(&third), bytes(&second)), (&b"two"[..], &b"one"[..]));
        let (none, _) = next(&third, &witgate_config::parse_str("").unwrap().config);
        assert!(none.get("d").is_none());
    }

    #[test]
    fn the_last_good_contents_stay_when_the_file_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("table");
        let config = config(&file, "8");
        std::fs::write(&file, "good").unwrap();
        let (good, _) = next(&DataFiles::default(), &config);
        let spoil: [(&str, Spoil); 5] = [
            ("No such file", |_| {}),
            ("it is too large", |file| std::fs::write(file, "123456789").unwrap()),
            ("it is empty", |file| std::fs::write(file, "").unwrap()),
            ("a folder", |file| std::fs::create_dir(file).unwrap()),
            ("a device", |file| std::os::unix::fs::symlink("/dev/zero", file).unwrap()),
        ];
        for (expected, spoil) in spoil {
            let _nothing_there = std::fs::remove_file(&file).or_else(|_| std::fs::remove_dir(&file));
            spoil(&file);
            let (kept, problems) = next(&good, &config);
            assert!(problems.is_empty(), "{problems:?}");
            assert!(Arc::ptr_eq(kept.get("d").unwrap(), good.get("d").unwrap()));
            let (name, told) = kept.reservations().next().expect("it is told");
            assert!(name == "d" && told.contains(expected) && told.contains("last good"), "{told}");

            let (_, problems) = next(&DataFiles::default(), &config);
            assert_eq!(problems[0].key, "data.d.file");
            assert!(problems[0].message.contains(expected), "{problems:?}");
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, "good").unwrap();
        let (again, _) = next(&next(&good, &config).0, &config);
        assert_eq!(again.reservations().count(), 0, "the file is good again");
    }

    #[test]
    fn another_file_under_the_same_name_has_no_last_good_contents() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("table");
        std::fs::write(&file, "good").unwrap();
        let (good, _) = next(&DataFiles::default(), &config(&file, "8"));
        let (_, problems) = next(&good, &config(&folder.path().join("other"), "8"));
        assert_eq!(problems.len(), 1);
    }
}
