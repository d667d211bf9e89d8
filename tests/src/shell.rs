//! A shell that runs the commands of a document one after the other, as a reader would type them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use crate::{DEADLINE, pause};

/// The text that marks the end of a command's output.
const END: &str = "--end-of-command--";

/// One bash process, which keeps variables and folder from command to command. Killed when dropped.
pub struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// A shell in a folder.
    pub fn new(folder: &Path) -> Self {
        let mut process = Command::new("bash")
            .arg("--norc")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash can be run");
        let input = process.stdin.take().expect("its input is ours");
        let output = BufReader::new(process.stdout.take().expect("its output is ours"));
        let mut shell = Shell { process, input, output };
        shell.run("exec 2>&1");
        shell
    }

    /// Runs one command; returns its output and exit code.
    pub fn run(&mut self, command: &str) -> (String, i32) {
        writeln!(self.input, "{command}\necho \"{END} $?\"").expect("bash reads");
        let mut text = String::new();
        loop {
            let before = text.len();
            let count = self.output.read_line(&mut text).expect("bash writes");
            assert!(count > 0, "bash ended in the middle of `{command}`:\n{text}");
            if let Some(at) = text[before..].find(END) {
                let code = text[before + at + END.len()..].trim().parse().expect("an exit code");
                text.truncate(before + at);
                return (text, code);
            }
        }
    }

    /// Runs the lines of a block. A line that ends with `# -> TEXT` must print TEXT within [`DEADLINE`], because a
    /// change on disk takes effect after a moment; any other line must succeed.
    pub fn follow(&mut self, block: &str) {
        for line in block.replace("\\\n", " ").lines().filter(|line| !line.trim().is_empty()) {
            let Some((command, expected)) = line.split_once("# -> ") else {
                let (output, code) = self.run(line);
                assert_eq!(code, 0, "`{line}` failed:\n{output}");
                continue;
            };
            let begun = Instant::now();
            loop {
                let (output, _) = self.run(command);
                if output.contains(expected.trim()) {
                    break;
                }
                assert!(begun.elapsed() < DEADLINE, "`{command}` never printed `{expected}` but:\n{output}");
                pause();
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Waiting for the killed process collects its exit status.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A block of a Markdown document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The heading above it.
    pub section: String,
    /// The language behind its fence.
    pub language: String,
    /// Its text.
    pub text: String,
}

/// The fenced blocks of a Markdown document.
pub fn blocks(document: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut section = String::new();
    let mut open: Option<Block> = None;
    for line in document.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open =
                    Some(Block { section: section.clone(), language: language.into(), text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {
                if let Some(heading) = line.strip_prefix('#') {
                    section = heading.trim_matches(['#', ' ']).to_owned();
                }
            }
        }
    }
    found
}
