//! Why a plugin is not put into service, in messages that say what to do.

use std::fmt;

use witgate_config::{Problem, Problems};

/// A plugin was not put into service. The previous version stays in service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal.
    pub reason: Reason,
    /// At least one problem: what is wrong and what to do. Problems with settings say where the setting was
    /// written.
    pub problems: Problems,
}

/// Kinds of refusals, for metrics and status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The file cannot be read, or is not a component.
    Malformed,
    /// The file does not have the pinned digest.
    Digest,
    /// The component exports no contract of this gateway, or one of another version.
    Contract,
    /// The component imports an interface that the gateway does not offer.
    Import,
    /// The component imports an interface that the binding is not granted.
    Grant,
    /// The component cannot be compiled or linked.
    Compile,
    /// The set-up of the first instance failed.
    Failed,
    /// The settings are wrong.
    Settings,
    /// The plugin declared interest in something that it cannot have.
    Interest,
}

impl Reason {
    /// The name in metrics and status.
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
    /// A refusal with one problem.
    pub(crate) fn new(reason: Reason, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Refusal { reason, problems: vec![problem(message, hint)] }
    }

    /// A refusal with several problems; `Ok` if there is none.
    pub(crate) fn of(reason: Reason, problems: Problems) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Refusal { reason, problems }) }
    }

    /// The same refusal; problems that have no place in the configuration yet get this key.
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
