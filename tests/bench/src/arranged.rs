//! The gateway with its code in the order in which it runs: a step behind the linker, made by LLVM's `llvm-bolt` where
//! that is installed.
//!
//! A request runs through a hundred kilobytes of code, most of it once, and a processor's first cache holds 32. A
//! compiler decides function by function what stands where; behind the linker, what runs together can be put together
//! over the whole program, and jumps that are mostly taken can be turned round. Plain requests on two Intel cores, seven
//! to eleven interleaved rounds: 0.85 of the time in user space, half of the jumps, 0.88 of the misses of that cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::peers::on_path;
use crate::process::printed;

/// What the linker has to leave in a program so that its parts can be moved.
pub(crate) const LINKED: &str = "-Clink-arg=-Wl,--emit-relocs";

/// Versions that are looked for, the newest first; Debian puts them into the name.
const VERSIONS: std::ops::RangeInclusive<u32> = 16..=40;

/// The two programs.
pub(crate) struct Bolt {
    bolt: PathBuf,
    merge: PathBuf,
}

impl Bolt {
    /// Looks for them.
    pub(crate) fn find() -> Option<Bolt> {
        let versioned = VERSIONS.rev().map(|version| format!("llvm-bolt-{version}"));
        let found =
            std::iter::once("llvm-bolt".to_owned()).chain(versioned).find_map(|name| on_path(&name))?;
        // It looks for its library beside itself, where a link would lead it astray.
        let bolt = found.canonicalize().ok()?;
        let merge = bolt.with_file_name("merge-fdata");
        merge.is_file().then_some(Bolt { bolt, merge })
    }

    /// Makes a program that writes, into a file of this folder for each time it ran, which way its code went.
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

    /// Arranges a program by what is in that folder.
    ///
    /// # Errors
    /// A tool fails, or nothing was written.
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

    /// It panics and catches that, so that what unwinds has to be right behind the move, too.
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
