//! Scripts that the server runs atomically.

use redis::Cmd;

/// A script and its name on the server, which is the SHA-1 of its text.
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    /// A script with this text.
    pub(super) fn new(text: &'static str) -> Script {
        Script { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }

    /// Runs the script by its name. The server refuses with `NOSCRIPT` if it has not seen the text since it
    /// started.
    pub(super) fn by_hash(&self, call: &ScriptCall) -> Cmd {
        call.with("EVALSHA", &self.hash)
    }

    /// Runs the script by its text, which the server remembers from then on.
    pub(super) fn by_text(&self, call: &ScriptCall) -> Cmd {
        call.with("EVAL", self.text)
    }
}

/// The keys and arguments of one run of a script.
#[derive(Default)]
pub(super) struct ScriptCall {
    pub(super) keys: Vec<String>,
    pub(super) arguments: Vec<Vec<u8>>,
}

impl ScriptCall {
    /// Adds an argument as text.
    pub(super) fn push(&mut self, argument: impl ToString) {
        self.arguments.push(argument.to_string().into_bytes());
    }

    fn with(&self, command: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(command);
        command.arg(script).arg(self.keys.len()).arg(&self.keys);
        for argument in &self.arguments {
            command.arg(argument.as_slice());
        }
        command
    }
}
