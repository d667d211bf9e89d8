//! A process that is measured: started here, read from `/proc`, ended here.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

/// A running process. Killed when dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command with its output thrown away.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        Ok(Process { child })
    }

    /// CPU time (user and system) that all threads of the process have used so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let folder = format!("/proc/{}/task", self.child.id());
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(&folder).context("the process has ended")? {
            let path = task?.path().join("schedstat");
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            nanoseconds += text.split(' ').next().context("schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; either way its exit is collected.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
