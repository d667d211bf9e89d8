//! What the process ends with. The numbers are an interface: scripts match on them.

use std::fmt;
use std::process::ExitCode;

/// Why a command did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Anything that has no number of its own.
    Failure = 1,
    /// The command line makes no sense. clap uses the same number by itself.
    Usage = 2,
    /// The configuration has problems.
    Config = 3,
    /// A plugin was refused.
    PluginRefused = 4,
    /// The admin listener of the running gateway could not be reached.
    AdminUnreachable = 5,
}

/// How a command failed: the number, and what the person at the terminal is told.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) exit: Exit,
    /// Printed to standard error. Empty where everything has been said.
    pub(crate) message: String,
}

/// What a command returns.
pub(crate) type ExitResult = Result<(), Failure>;

impl Failure {
    /// A failure with its number and message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure { exit, message: message.into() }
    }

    /// Tells the person, and gives the number to end with.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("{self}");
        }
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rendered problems come as whole blocks that begin with "error" themselves.
        if self.message.starts_with("error") {
            formatter.write_str(self.message.trim_end())
        } else {
            write!(formatter, "error: {}", self.message.trim_end())
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::new(Exit::Failure, format!("{error:#}"))
    }
}
