//! What only a state of kind `file` can meet.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use witgate_exchange::contracts::state::State;
use witgate_exchange::contracts::store::StoreError;
use witgate_state::file::KIND;

use crate::conformance;
use crate::scene::{admits, build, draw, on_a_core, wait_for};

fn open(folder: &Path) -> Result<Arc<dyn State>, String> {
    build(&KIND, &json!({ "folder": folder }), &[])
}

/// A state in a new folder.
fn fresh() -> (TempDir, Arc<dyn State>) {
    let parent = tempfile::tempdir().expect("a scratch folder");
    let state = open(&parent.path().join("state")).expect("a good folder");
    (parent, state)
}

/// Waits until there is something.
fn wait_for_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_for(what, || {
        found = look();
        found.is_some()
    });
    found.expect("it was waited for")
}

#[test]
fn conforms() {
    let parent = tempfile::tempdir().expect("a scratch folder");
    conformance::holds(|| open(&parent.path().join("state")).expect("a good folder"));
}

#[test]
fn what_is_in_the_file_is_there_when_it_is_opened_again() {
    let (parent, state) = fresh();
    on_a_core(async {
        assert!(admits(state.counter().as_ref(), &[draw(1, 3, 5)]).await);
        let store = state.store("p", 2000);
        store.set("s", "k", vec![7; 1000], None).await.expect("whole");
        store.increment("s", "n", 5, Some(Duration::from_secs(3600))).await.expect("whole");
    });
    drop(state);
    let state = wait_for_some("the file to be closed", || open(&parent.path().join("state")).ok());
    on_a_core(async {
        assert!(!admits(state.counter().as_ref(), &[draw(1, 3, 5)]).await);
        assert!(admits(state.counter().as_ref(), &[draw(1, 2, 5)]).await);
        let store = state.store("p", 2000);
        assert_eq!(store.get("s", "k").await, Ok(Some(vec![7; 1000])));
        assert_eq!(store.increment("s", "n", 1, None).await, Ok(6));
        assert_eq!(
            store.set("s", "l", vec![7; 1000], None).await,
            Err(StoreError::Full),
            "what is there counts"
        );
        assert!(store.held_bytes().is_some_and(|held| held > 1000));
    });
}

#[test]
fn one_folder_is_one_state_in_one_process() {
    let (parent, state) = fresh();
    let again =
        open(&parent.path().join("state")).expect("the same file, as a reload with another size opens it");
    on_a_core(async {
        state.store("p", 2000).set("s", "k", b"v".to_vec(), None).await.expect("whole");
        assert_eq!(again.store("p", 2000).get("s", "k").await, Ok(Some(b"v".to_vec())));
    });
}

#[test]
fn all_plugins_together_have_a_limit() {
    let parent = tempfile::tempdir().expect("a scratch folder");
    let settings = json!({ "folder": parent.path().join("state"), "size": "4KiB" });
    let state = build(&KIND, &settings, &[]).expect("a good folder");
    on_a_core(async {
        state.store("p", 1 << 20).set("s", "k", vec![7; 2500], None).await.expect("whole");
        assert_eq!(state.store("q", 1 << 20).set("s", "k", vec![7; 2500], None).await, Err(StoreError::Full));
        state.store("p", 1 << 20).remove("s", "k").await.expect("whole");
        assert_eq!(state.store("q", 1 << 20).set("s", "k", vec![7; 2500], None).await, Ok(()));
    });
}

#[test]
fn a_folder_that_is_not_ours_alone_is_refused() {
    let parent = tempfile::tempdir().expect("a scratch folder");
    let told = |folder: &Path| open(folder).err().unwrap_or_default();
    let shared = parent.path().join("shared");
    std::fs::create_dir(&shared).expect("a folder");
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o750)).expect("ours");
    assert!(told(&shared).contains("0700"), "{}", told(&shared));
    let link = parent.path().join("link");
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o700)).expect("ours");
    symlink(&shared, &link).expect("a link");
    assert!(told(&link).contains("symbolic link"), "{}", told(&link));
    let file = shared.join("state.redb");
    symlink("/dev/zero", &file).expect("a link");
    assert!(told(&shared).contains("cannot open"), "{}", told(&shared));
    std::fs::remove_file(&file).expect("ours");
    std::fs::write(&file, b"x").expect("ours");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("ours");
    assert!(told(&shared).contains("0600"), "{}", told(&shared));
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("ours");
    std::fs::write(&file, vec![b'x'; 100_000]).expect("ours");
    assert!(told(&shared).contains("cannot be used"), "not a file of ours: {}", told(&shared));
    assert!(told(Path::new("state")).contains("not absolute"));
    std::fs::remove_file(&file).expect("ours");
    assert!(open(&shared).is_ok());
}
