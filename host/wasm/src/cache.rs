//! Compiled code on disk, so that a restart does not compile again.
//!
//! The code in an entry is executed, so the folder must belong to the gateway's user alone, and each entry carries
//! a message authentication code (HMAC-SHA-256) over the digest of the component, the compatibility hash of the
//! engine, and the code. The key is in a file beside the folder, so that write access to the folder alone is not
//! enough to forge an entry. A cache that fails a check is not used; the gateway then compiles, which is slower.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use wasmtime::component::Component;
use witgate_config::file::private as folder;
use witgate_config::model::LogLevel;

use crate::deserialize::deserialize;
use crate::inspect::hexadecimal;
use crate::journal::Journal;

/// Length of the message authentication code at the beginning of an entry, in bytes.
const TAG: usize = 32;

/// The largest entry that is read, in bytes: slightly more than the largest code that compilation may produce.
const ENTRY: u64 = (512 << 20) + 4096;

/// Number of entries that are kept; the oldest ones are removed first.
const ENTRIES: usize = 64;

/// The cache of one folder.
pub(crate) struct Cache {
    folder: PathBuf,
    key: hmac::Key,
}

impl Cache {
    /// Opens the folder, creating it if it does not exist. Returns `None` and writes a line to the log if the
    /// folder cannot be trusted.
    pub(crate) fn open(path: &Path, journal: &dyn Journal) -> Option<Self> {
        let opened = folder::prepare(path).and_then(|()| folder::key(path, fill));
        match opened {
            Ok(key) => Some(Cache { folder: path.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, &key) }),
            Err(reason) => {
                let text = format!("compiled plugins are not cached in {}: {reason}", path.display());
                journal.write(LogLevel::Warn, "-", &text);
                None
            }
        }
    }

    /// The compiled code of a component for this engine; `None` if there is no valid entry.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, digest: &[u8; 32]) -> Option<Component> {
        let path = self.path(engine, digest);
        let component = match folder::read(&path, ENTRY) {
            Ok(entry) => self.sound(engine, digest, &entry).and_then(|code| deserialize(engine, code).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(_) => None,
        };
        if component.is_none() {
            // The entry is damaged, forged, or accessible to other users, so it is removed.
            let _gone = fs::remove_file(&path);
        }
        component
    }

    /// The code in an entry, if this gateway wrote the entry for this engine and component.
    fn sound<'e>(&self, engine: &wasmtime::Engine, digest: &[u8; 32], entry: &'e [u8]) -> Option<&'e [u8]> {
        let (tag, code) = entry.split_at_checked(TAG)?;
        let computed = self.authenticate(engine, digest, code);
        verify_slices_are_equal(tag, computed.as_ref()).is_ok().then_some(code)
    }

    /// Stores the code of a component. If it cannot be written, the component is compiled again next time.
    pub(crate) fn store(&self, engine: &wasmtime::Engine, digest: &[u8; 32], code: &[u8]) {
        let tag = self.authenticate(engine, digest, code);
        let mut entry = tag.as_ref().to_vec();
        entry.extend_from_slice(code);
        let _unkept = folder::write(&self.path(engine, digest), &entry);
        folder::trim(&self.folder, "code", ENTRIES);
    }

    /// The message authentication code of an entry, over the engine, the component and the code.
    fn authenticate(&self, engine: &wasmtime::Engine, digest: &[u8; 32], code: &[u8]) -> hmac::Tag {
        let mut covered = hmac::Context::with_key(&self.key);
        covered.update(digest);
        covered.update(&compatibility(engine).to_le_bytes());
        covered.update(code);
        covered.sign()
    }

    fn path(&self, engine: &wasmtime::Engine, digest: &[u8; 32]) -> PathBuf {
        self.folder.join(format!("{}-{:016x}.code", hexadecimal(digest), compatibility(engine)))
    }
}

fn fill(bytes: &mut [u8]) -> Result<(), ()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| ())
}

/// A hash that differs between engines that cannot run each other's code.
fn compatibility(engine: &wasmtime::Engine) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Journal for Lines {
        fn enabled(&self, _level: LogLevel) -> bool {
            true
        }

        fn write(&self, _level: LogLevel, _binding: &str, message: &str) {
            self.0.lock().unwrap().push(message.to_owned());
        }
    }

    /// The smallest valid component.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn kept(folder: &Path) -> (Cache, wasmtime::Engine, PathBuf) {
        let engine = wasmtime::Engine::default();
        let cache = Cache::open(folder, &Lines::default()).expect("the folder is ours");
        cache.store(&engine, &[1; 32], &engine.precompile_component(EMPTY).unwrap());
        let path = cache.path(&engine, &[1; 32]);
        (cache, engine, path)
    }

    #[test]
    fn what_was_kept_is_loaded_also_by_the_next_process() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("code");
        let (_, engine, _) = kept(&folder);
        let again = Cache::open(&folder, &Lines::default()).unwrap();
        assert!(again.load(&engine, &[1; 32]).is_some());
        assert!(again.load(&engine, &[2; 32]).is_none());
    }

    #[test]
    fn an_entry_that_was_touched_is_not_loaded_and_goes() {
        let parent = tempfile::tempdir().unwrap();
        let (cache, engine, path) = kept(&parent.path().join("code"));
        let sound = fs::read(&path).unwrap();
        for at in [0, TAG, sound.len() - 1] {
            let mut touched = sound.clone();
            touched[at] ^= 1;
            folder::write(&path, &touched).unwrap();
            assert!(cache.load(&engine, &[1; 32]).is_none(), "byte {at}");
            assert!(!path.exists());
        }
        // A valid entry copied to the name of another component is refused, too.
        folder::write(&cache.path(&engine, &[2; 32]), &sound).unwrap();
        assert!(cache.load(&engine, &[2; 32]).is_none());
    }

    #[test]
    fn a_folder_that_others_could_write_to_is_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let lines = Lines::default();
        let open = parent.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::open(&open, &lines).is_none());
        let linked = parent.path().join("linked");
        std::os::unix::fs::symlink(parent.path(), &linked).unwrap();
        assert!(Cache::open(&linked, &lines).is_none());
        let texts = lines.0.lock().unwrap().join("\n");
        assert!(texts.contains("0700") && texts.contains("symbolic link"), "{texts}");
    }

    #[test]
    fn a_key_that_others_could_read_is_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("code");
        drop(kept(&folder));
        let key = folder::key_path(&folder).unwrap();
        fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Cache::open(&folder, &Lines::default()).is_none());
    }

    #[test]
    fn the_folder_does_not_grow_without_end() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("code");
        let (cache, engine, _) = kept(&folder);
        let code = engine.precompile_component(EMPTY).unwrap();
        for number in 0..ENTRIES + 10 {
            cache.store(&engine, &[u8::try_from(number).unwrap(); 32], &code);
        }
        assert!(fs::read_dir(&folder).unwrap().count() <= ENTRIES);
    }
}
