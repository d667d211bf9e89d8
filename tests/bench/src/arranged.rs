//! Builds the gateway with its code in the order of execution: a step after linking, done by LLVM's `llvm-bolt` if
//! it is installed.
//!
//! A request runs through about a hundred kilobytes of code, most of it once, and the first-level cache of a
//! processor holds about 32. The compiler orders code within one function; after linking, code that runs together
//! can be placed together over the whole program, and jumps that are mostly taken can be inverted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::peers::on_path;
use crate::process::printed;

/// Linker option that keeps the relocations, without which code cannot be moved.
pub(crate) const LINKED: &str = "-Clink-arg=-Wl,--emit-relocs";

/// Versions to look for, the newest first; Debian puts them into the names of the programs.
const VERSIONS: std::ops::RangeInclusive<u32> = 16..=40;

/// The two programs of LLVM.
pub(crate) struct Bolt {
    bolt: PathBuf,
    merge: PathBuf,
}

impl Bolt {
    /// Looks for the programs.
    pub(crate) fn find() -> Option<Bolt> {
        let versioned = VERSIONS.rev().map(|version| format!("llvm-bolt-{version}"));
        let found =
            std::iter::once("llvm-bolt".to_owned()).chain(versioned).find_map(|name| on_path(&name))?;
        // The program looks for its library beside itself, so a symbolic link has to be resolved.
        let bolt = found.canonicalize().ok()?;
        let merge = bolt.with_file_name("merge-fdata");
        merge.is_file().then_some(Bolt { bolt, merge })
    }

    /// Makes a program that records which paths its code takes: each run writes a file into this folder.
    ///
    /// # Errors
    /// The tool fails.
    pub(crate) fn watch(&self, program: &Path, folder: &Path, to: &Path) -> Result<()> {
        let file = folder.join("ways");
        let file = file.to_str().context("the target folder's path is not UTF-8")?;
        printed(
            Command::new(&self.bolt)
                .arg(program)
                .arg("-o")
                .arg(to)
                .arg("-instrument")
                .arg(format!("--instrumentation-file={file}"))
                .arg("--instrumentation-file-append-pid"),
        )
        .map(drop)
    }

    /// Arranges a program by the records in that folder.
    ///
    /// # Errors
    /// A tool fails, or there are no records.
    pub(crate) fn arrange(&self, program: &Path, folder: &Path, to: &Path) -> Result<()> {
        let ways: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        ensure!(!ways.is_empty(), "the program that was watched has written nothing");
        let merged = folder.with_extension("merged");
        fs::write(&merged, printed(Command::new(&self.merge).args(&ways))?)?;
        let options = [
            "-reorder-blocks=ext-tsp",
            "-reorder-functions=hfsort+",
            "-split-functions",
            "-split-all-cold",
            "-split-eh",
        ];
        printed(
            Command::new(&self.bolt).arg(program).arg("-o").arg(to).arg("-data").arg(&merged).args(options),
        )
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts;

    /// The program panics and catches the panic, so that the test also covers the tables for unwinding.
    const PROGRAM: &str = r#"
        fn odd(number: u64) -> u64 {
            if number % 2 == 0 { panic!("{number} is even") } else { number }
        }
        fn main() {
            std::panic::set_hook(Box::new(|_| {}));
            let odds = (0..1000).filter_map(|number| std::panic::catch_unwind(move || odd(number)).ok());
            println!("{}", odds.sum::<u64>());
        }"#;

    #[test]
    fn a_program_does_the_same_when_it_is_watched_and_when_it_is_arranged() {
        let Some(bolt) = Bolt::find() else {
            assert!(
                std::env::var_os("CI").is_none(),
                "llvm-bolt is not installed, and in CI nothing is skipped"
            );
            eprintln!("skipped: llvm-bolt is not installed");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let [source, program, watched, ways, arranged] =
            ["source.rs", "program", "watched", "ways", "arranged"].map(|name| folder.path().join(name));
        fs::write(&source, PROGRAM).unwrap();
        let mut compile = artifacts::tool("rustc");
        compile.args(["--edition=2024", "-Copt-level=2", LINKED, "-o"]).arg(&program).arg(&source);
        printed(&mut compile).unwrap();
        fs::create_dir(&ways).unwrap();
        bolt.watch(&program, &ways, &watched).unwrap();
        let said = |program: &Path| printed(&mut Command::new(program)).unwrap();
        assert_eq!(said(&watched), "250000\n");
        bolt.arrange(&program, &ways, &arranged).unwrap();
        assert_eq!(said(&arranged), "250000\n");
        assert_ne!(fs::read(&arranged).unwrap(), fs::read(&program).unwrap());
    }

    #[test]
    fn without_anything_seen_nothing_is_arranged() {
        let folder = tempfile::tempdir().unwrap();
        let bolt = Bolt { bolt: "llvm-bolt".into(), merge: "merge-fdata".into() };
        let failed = bolt.arrange(Path::new("program"), folder.path(), Path::new("arranged")).unwrap_err();
        assert_eq!(failed.to_string(), "the program that was watched has written nothing");
    }
}
