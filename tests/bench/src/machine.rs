//! A description of the machine, which a reader needs to interpret the figures.

use std::fs;
use std::process::Command;

/// Facts about the machine.
pub(crate) struct Machine {
    /// The day of the run, as `2026-11-25`.
    pub(crate) date: String,
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
}

impl Machine {
    /// Reads the facts; those that cannot be read are `unknown`.
    pub(crate) fn read() -> Machine {
        let unknown = || String::from("unknown");
        let date = Command::new("date").args(["-u", "+%F"]).output().ok();
        let date = date.and_then(|output| String::from_utf8(output.stdout).ok());
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        Machine {
            date: date.map_or_else(unknown, |text| text.trim().into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: model(&processors).map_or_else(unknown, Into::into),
            kernel: kernel.map_or_else(unknown, |text| text.trim().into()),
        }
    }

    /// The description in one line.
    pub(crate) fn describe(&self) -> String {
        format!("{}; {} cores, {}; Linux {}", self.date, self.cores, self.processor, self.kernel)
    }
}

/// The first processor's name in `/proc/cpuinfo`.
fn model(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_the_first_named() {
        assert_eq!(
            model("processor : 0\nmodel name\t: A CPU @ 2 GHz\nmodel name\t: B\n"),
            Some("A CPU @ 2 GHz")
        );
        assert_eq!(model("processor : 0\n"), None);
    }
}
