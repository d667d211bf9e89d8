//! A file that is replaced, rewritten, broken and removed while it is watched.

use std::sync::Mutex;

use witgate_exchange::contracts::discovery::{Difference, Refused};

use super::*;

/// Keeps what a source reports.
#[derive(Default)]
struct Heard {
    sets: Mutex<Vec<Vec<String>>>,
    failures: Mutex<Vec<String>>,
    confirmed: Mutex<usize>,
}

impl EndpointSink for Heard {
    fn whole(&self, endpoints: Vec<EndpointSpec>) -> Result<(), Refused> {
        let hosts = endpoints.into_iter().map(|spec| spec.host).collect();
        self.sets.lock().unwrap().push(hosts);
        Ok(())
    }

    fn difference(&self, _: Difference) -> Result<(), Refused> {
        Ok(())
    }

    fn confirm(&self) {
        *self.confirmed.lock().unwrap() += 1;
    }

    fn failed(&self, why: String) {
        self.failures.lock().unwrap().push(why);
    }
}

impl Heard {
    fn last(&self) -> Vec<String> {
        self.sets.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn failure(&self) -> String {
        self.failures.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

/// Waits for a condition, for at most half a minute.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Runs a script beside a source of this file.
fn beside(path: &Path, script: impl AsyncFnOnce(&Heard)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let heard = Heard::default();
        let Ok(mut source) = build(&model::DiscoverySource::File(path.to_owned())) else {
            panic!("a source")
        };
        tokio::select! {
            ended = source.run(&heard) => panic!("it never ends: {ended:?}"),
            () = script(&heard) => {}
        }
    });
}

fn toml_of(hosts: impl IntoIterator<Item = usize>) -> String {
    let hosts: Vec<String> =
        hosts.into_iter().map(|host| format!("\"10.0.{}.{}:80\"", host / 250, host % 250)).collect();
    format!("endpoints = [{}]", hosts.join(", "))
}

#[test]
fn changes_are_noticed_however_the_file_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("e.toml"), folder.path().join("new"));
    std::fs::write(&path, toml_of([1])).unwrap();
    beside(&path, async |heard| {
        eventually("the first set", || heard.last() == ["10.0.0.1"]).await;
        std::fs::write(&path, toml_of([1, 2])).unwrap();
        eventually("written in place", || heard.last().len() == 2).await;
        std::fs::write(&other, toml_of([3])).unwrap();
        std::fs::rename(&other, &path).unwrap();
        eventually("renamed over it", || heard.last() == ["10.0.0.3"]).await;
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        std::fs::write(&other, toml_of([4])).unwrap();
        eventually("behind a symbolic link", || heard.last() == ["10.0.0.4"]).await;
        let confirmed = *heard.confirmed.lock().unwrap();
        eventually("confirmed again", || *heard.confirmed.lock().unwrap() > confirmed).await;
        std::fs::write(&path, "endpoints = []").unwrap();
        eventually("the empty set is reported as it is", || heard.last().is_empty()).await;
    });
}

#[test]
fn what_cannot_be_used_is_told_and_reports_no_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.json");
    beside(&path, async |heard| {
        eventually("it is missing", || heard.failure().contains("cannot read")).await;
        std::fs::write(&path, r#"{"endpoints": ["10.0.0.1:80"]}"#).unwrap();
        eventually("the first set", || heard.last() == ["10.0.0.1"]).await;
        for (contents, words) in [
            (b"".to_vec(), "line 1"),
            (b"\xff\xfe".to_vec(), "not text"),
            (br#"{"endpoints": ["10.0.0.2:80""#.to_vec(), "line 1"),
            (b"endpoints = []".to_vec(), "line 1"),
            (vec![b' '; LARGEST as usize + 1], "too large"),
        ] {
            std::fs::write(&path, &contents).unwrap();
            eventually(words, || heard.failure().contains(words)).await;
            heard.failures.lock().unwrap().clear();
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        eventually("a folder", || heard.failure().contains("cannot read")).await;
        assert_eq!(heard.sets.lock().unwrap().len(), 1, "nothing of this is a set");
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, r#"{"endpoints": ["10.0.0.2:80"]}"#).unwrap();
        eventually("it is in order again", || heard.last() == ["10.0.0.2"]).await;
    });
}

#[test]
fn a_thousand_changes_a_second_are_read_a_few_times() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("e.toml"), folder.path().join("new"));
    std::fs::write(&path, toml_of([0])).unwrap();
    beside(&path, async |heard| {
        eventually("the first set", || heard.last().len() == 1).await;
        let begun = Instant::now();
        let mut turn = 0;
        while begun.elapsed() < 2 * PATIENCE {
            turn += 1;
            std::fs::write(&other, toml_of(0..turn % 100)).unwrap();
            std::fs::rename(&other, &path).unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        std::fs::write(&other, toml_of(0..200)).unwrap();
        std::fs::rename(&other, &path).unwrap();
        eventually("the last one", || heard.last().len() == 200).await;
        let reads = heard.sets.lock().unwrap().len();
        // One for each second that passed, the first, and the last.
        assert!(reads <= begun.elapsed().as_secs() as usize + 3, "{reads} in {:?}", begun.elapsed());
        assert!(heard.failures.lock().unwrap().is_empty());
    });
}
