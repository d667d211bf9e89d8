//! A process that is measured: started here, read from `/proc`, and ended here with all processes that it started.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::pause;

/// Runs a command to its end; returns what it printed.
///
/// # Errors
/// The command cannot be run or fails; the error has its standard error.
pub(crate) fn printed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A running process. It is ended when dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command. Its output is discarded; its standard error is shown.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        Ok(Process { child })
    }

    /// Whether the process still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// CPU time (user and system) that all threads of its processes have used.
    ///
    /// The time of ended threads is not included; none of the proxies ends threads while it serves.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for process in self.tree() {
            let folder = format!("/proc/{process}/task");
            for task in fs::read_dir(&folder).context("the process has ended")? {
                let path = task?.path().join("schedstat");
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                nanoseconds += text.split(' ').next().context("schedstat")?.parse::<u64>()?;
            }
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Proportional set size in KiB: a page shared by several of its processes counts once.
    pub(crate) fn memory(&self) -> Result<f64> {
        let mut kibibytes = 0.0;
        for process in self.tree() {
            let path = format!("/proc/{process}/smaps_rollup");
            let text = fs::read_to_string(&path).with_context(|| path.clone())?;
            kibibytes += proportional(&text).with_context(|| path)?;
        }
        Ok(kibibytes)
    }

    /// The process and all its descendants.
    fn tree(&self) -> Vec<u32> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let process = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            // A process may end between being listed and being read.
            let status = fs::read_to_string(entry.path().join("stat")).ok();
            if let (Some(process), Some(parent)) = (process, status.as_deref().and_then(parent)) {
                parents.push((process, parent));
            }
        }
        let mut tree = vec![self.child.id()];
        let mut next = 0;
        while next < tree.len() {
            let above = tree[next];
            tree.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(process, _)| *process));
            next += 1;
        }
        tree
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // The process may have ended already.
            let _ = kill_process(process, signal);
        }
    }
}

impl Drop for Process {
    /// Sends TERM first, so that a master process ends its workers.
    fn drop(&mut self) {
        if self.runs() {
            self.signal(Signal::TERM);
        }
        let begun = Instant::now();
        while self.runs() && begun.elapsed() < Duration::from_secs(3) {
            pause(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The parent in `/proc/PID/stat`. The name before it is in parentheses and may contain any character.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The proportional set size in `smaps_rollup`, in KiB.
fn proportional(rollup: &str) -> Option<f64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_hide_the_parent() {
        assert_eq!(parent("12 (a b) c) S 7 12 12 0 -1"), Some(7));
        assert_eq!(parent("nonsense"), None);
    }

    #[test]
    fn pss_is_read_in_kibibytes() {
        let text = "5600-7ff [rollup]\nRss:    2048 kB\nPss:     777 kB\nPss_Anon: 1 kB\n";
        assert_eq!(proportional(text), Some(777.0));
        assert_eq!(proportional("Rss: 1 kB\n"), None);
    }

    #[test]
    fn children_are_counted_and_end_with_their_parent() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap 'kill $child; exit' TERM; sleep 60 & child=$!; wait"]);
        let process = Process::start(&mut command).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while process.tree().len() < 2 {
            assert!(Instant::now() < deadline, "the shell starts its child");
            pause(Duration::from_millis(5));
        }
        assert!(process.memory().unwrap() > 0.0);
        assert!(process.cpu().unwrap() > Duration::ZERO);
    }
}
