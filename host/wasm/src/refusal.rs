//! Why a plugin is not put into service, in words that say what to do.

use std::fmt;

use witgate_config::{Problem, Problems};

/// A plugin that was not put into service. What served before goes on serving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal.
    pub reason: Reason,
    /// What is wrong and what to do; settings with the place they were written at. At least one.
    pub problems: Problems,
}

/// Kinds of refusals, for metrics and status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The file cannot be read, or is no component.
    Malformed,
    /// It is not the file that was pinned.
    Digest,
    /// It has no contract of this gateway, or one of another version.
    Contract,
    /// It imports what the gateway does not offer.
    Import,
    /// It imports what the binding is not granted.
    Grant,
    /// It cannot be compiled or linked.
    Compile,
    /// It failed while it was set up.
    Failed,
    /// The settings are wrong.
    Settings,
    /// It declared interest in what cannot be had.
    Interest,
}

impl Reason {
    /// The word for metrics and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Digest => "digest",
            Reason::Contract => "contract",
            Reason::Import => "import",
            Reason::Grant => "grant",
            Reason::Compile => "compile",
            Reason::Failed => "failed",
            Reason::Settings => "settings",
            Reason::Interest => "interest",
        }
    }
}

impl Refusal {
    /// A refusal for one thing that is wrong.
    pub(crate) fn new(reason: Reason, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Refusal { reason, problems: vec![problem(message, hint)] }
    }

    /// A refusal for several things that are wrong; none if nothing is.
    pub(crate) fn of(reason: Reason, problems: Problems) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Refusal { reason, problems }) }
    }

    /// The same, said of a place in the configuration that has none of its own yet.
    pub(crate) fn about(mut self, key: &str) -> Self {
        for problem in &mut self.problems {
            if problem.key.is_empty() {
                key.clone_into(&mut problem.key);
            }
        }
        self
    }
}

/// A problem without a place in a file.
pub(crate) fn problem(message: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem { message: message.into(), span: None, key: String::new(), hint: Some(hint.into()) }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                formatter.write_str("; ")?;
            }
            formatter.write_str(&problem.message)?;
            if let Some(hint) = &problem.hint {
                write!(formatter, " ({hint})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
