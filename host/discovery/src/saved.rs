//! The last good set of each upstream in a file, for the next process.
//!
//! The next process sends requests to these addresses, so the folder must belong to the gateway's user alone, and
//! each file carries a message authentication code (HMAC-SHA-256) over the upstream, the settings of its source and
//! the set. The key is in a file beside the folder. What fails a check is not used and removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use serde::{Deserialize, Serialize};
use witgate_config::file::private;
use witgate_config::model;
use witgate_exchange::contracts::discovery::{EndpointSpec, Readiness, SavedSet, SavedSets};

/// Length of the message authentication code at the beginning of a file, in bytes.
const TAG: usize = 32;
/// The largest file in bytes.
const LARGEST: u64 = 64 << 20;
/// Sets of more upstreams are not kept.
const MOST: usize = 4096;

/// The sets in one folder, which is opened or created at the first use.
pub struct SetFolder {
    folder: PathBuf,
    /// The key, or the reason why the folder cannot be trusted.
    key: OnceLock<Result<hmac::Key, String>>,
}

/// A set as it is saved.
#[derive(Serialize, Deserialize)]
struct Saved {
    /// Seconds since 1970.
    at: u64,
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize, Deserialize)]
struct Endpoint {
    host: String,
    port: u16,
    name: Option<String>,
    weight: u32,
    zone: Option<String>,
    priority: u32,
    readiness: u8,
}

impl SetFolder {
    /// The sets in this folder.
    pub fn at(folder: PathBuf) -> SetFolder {
        SetFolder { folder, key: OnceLock::new() }
    }

    fn key(&self) -> Result<&hmac::Key, String> {
        let open = || {
            private::prepare(&self.folder)?;
            let fill = |bytes: &mut [u8]| aws_lc_rs::rand::fill(bytes).map_err(|_| ());
            private::key(&self.folder, fill).map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key))
        };
        let told = |why: &String| format!("{}: {why}", self.folder.display());
        self.key.get_or_init(open).as_ref().map_err(told)
    }

    fn path(&self, upstream: &str) -> PathBuf {
        let digest = digest::digest(&digest::SHA256, upstream.as_bytes());
        let name: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(name).with_extension("set")
    }

    /// The message authentication code. Each part is preceded by its length, so that no two sets of parts are the same bytes.
    fn authenticate(
        &self,
        upstream: &str,
        source: &model::DiscoverySource,
        set: &[u8],
    ) -> Result<hmac::Tag, String> {
        let mut covered = hmac::Context::with_key(self.key()?);
        for part in [upstream.as_bytes(), format!("{source:?}").as_bytes(), set] {
            covered.update(&(part.len() as u64).to_le_bytes());
            covered.update(part);
        }
        Ok(covered.sign())
    }

    fn read(&self, path: &Path, upstream: &str, source: &model::DiscoverySource) -> Option<SavedSet> {
        let file = private::read(path, LARGEST).ok()?;
        let (tag, set) = file.split_at_checked(TAG)?;
        verify_slices_are_equal(tag, self.authenticate(upstream, source, set).ok()?.as_ref()).ok()?;
        let saved: Saved = serde_json::from_slice(set).ok()?;
        let age = Duration::from_secs(now().saturating_sub(saved.at));
        Some(SavedSet { endpoints: saved.endpoints.into_iter().map(EndpointSpec::from).collect(), age })
    }
}

impl SavedSets for SetFolder {
    fn load(&self, upstream: &str, source: &model::DiscoverySource) -> Option<SavedSet> {
        self.key().ok()?;
        let path = self.path(upstream);
        let found = self.read(&path, upstream, source);
        if found.is_none() {
            // Damaged, forged, of another source, accessible to other users, or not there at all.
            let _gone = fs::remove_file(&path);
        }
        found
    }

    fn save(
        &self,
        upstream: &str,
        source: &model::DiscoverySource,
        endpoints: &[Arc<EndpointSpec>],
    ) -> Result<(), String> {
        let endpoints = endpoints.iter().map(|spec| Endpoint::from(&**spec)).collect();
        let set = serde_json::to_vec(&Saved { at: now(), endpoints }).map_err(|error| error.to_string())?;
        let mut file = self.authenticate(upstream, source, &set)?.as_ref().to_vec();
        file.extend_from_slice(&set);
        private::write(&self.path(upstream), &file).map_err(|error| error.to_string())?;
        private::trim(&self.folder, "set", MOST);
        Ok(())
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl From<&EndpointSpec> for Endpoint {
    fn from(spec: &EndpointSpec) -> Endpoint {
        let EndpointSpec { host, port, name, weight, zone, priority, readiness } = spec.clone();
        let readiness = match readiness {
            Readiness::NotServing => 0,
            Readiness::Serving => 1,
            Readiness::Ready => 2,
        };
        Endpoint { host, port, name, weight, zone, priority, readiness }
    }
}

impl From<Endpoint> for EndpointSpec {
    fn from(saved: Endpoint) -> EndpointSpec {
        let Endpoint { host, port, name, weight, zone, priority, readiness } = saved;
        let readiness = match readiness {
            0 => Readiness::NotServing,
            1 => Readiness::Serving,
            _ => Readiness::Ready,
        };
        EndpointSpec { host, port, name, weight, zone, priority, readiness }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn source(path: &str) -> model::DiscoverySource {
        model::DiscoverySource::File(path.into())
    }

    fn set() -> Vec<Arc<EndpointSpec>> {
        let other = EndpointSpec {
            name: Some("a".into()),
            weight: 3,
            zone: Some("z".into()),
            priority: 2,
            readiness: Readiness::Serving,
            ..EndpointSpec::at("2001:db8::1", 81)
        };
        vec![Arc::new(EndpointSpec::at("10.0.0.1", 80)), Arc::new(other)]
    }

    #[test]
    fn what_was_saved_is_loaded_by_the_next_process_for_the_same_source_only() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("endpoints");
        SetFolder::at(folder.clone()).save("users", &source("a"), &set()).unwrap();
        let again = SetFolder::at(folder);
        let loaded = again.load("users", &source("a")).unwrap();
        assert!(loaded.age < Duration::from_secs(60));
        let loaded: Vec<_> = loaded.endpoints.into_iter().map(Arc::new).collect();
        assert_eq!(loaded, set());
        assert_eq!(again.load("others", &source("a")), None);
        assert_eq!(again.load("users", &source("b")), None, "another source may mean other endpoints");
        assert_eq!(again.load("users", &source("a")), None, "and what is of no use is removed");
    }

    #[test]
    fn what_was_touched_or_copied_is_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let sets = SetFolder::at(parent.path().join("endpoints"));
        let path = sets.path("users");
        sets.save("users", &source("a"), &set()).unwrap();
        let sound = fs::read(&path).unwrap();
        for at in [0, TAG, sound.len() - 1] {
            let mut touched = sound.clone();
            touched[at] ^= 1;
            private::write(&path, &touched).unwrap();
            assert!(sets.load("users", &source("a")).is_none() && !path.exists(), "byte {at}");
        }
        private::write(&sets.path("others"), &sound).unwrap();
        assert_eq!(sets.load("others", &source("a")), None);
        private::write(&path, &sound[..TAG - 1]).unwrap();
        assert_eq!(sets.load("users", &source("a")), None);
        private::write(&path, &sound).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(sets.load("users", &source("a")), None, "others could read it");
    }

    #[test]
    fn a_folder_that_others_could_write_to_is_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let open = parent.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let save = |folder: PathBuf| SetFolder::at(folder).save("users", &source("a"), &set());
        assert!(save(open).is_err_and(|why| why.contains("0700")));
        let linked = parent.path().join("linked");
        std::os::unix::fs::symlink(parent.path(), &linked).unwrap();
        assert!(save(linked).is_err_and(|why| why.contains("symbolic link")));
    }
}
