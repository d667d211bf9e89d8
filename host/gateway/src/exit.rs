//! Exit codes of the process. The numbers are an interface: scripts match on them.

use std::fmt;
use std::process::ExitCode;

/// Why a command did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Anything without a number of its own.
    Failure = 1,
    /// Wrong usage of the command line. clap uses the same number by itself.
    Usage = 2,
    /// The configuration has problems.
    Config = 3,
    /// A plugin was refused.
    PluginRefused = 4,
    /// The admin listener of the running gateway could not be reached.
    AdminUnreachable = 5,
}

/// How a command failed: the exit code, and the message at the terminal.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// Printed to standard error. Empty if everything was printed already.
    pub(crate) message: String,
}

/// What a command returns.
pub(crate) type ExitResult = Result<(), Failure>;

impl Failure {
    /// A failure with its exit code and message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure { exit, message: message.into() }
    }

    /// Prints the message and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("{self}");
        }
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rendered problems are whole blocks that begin with "error" themselves.
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
