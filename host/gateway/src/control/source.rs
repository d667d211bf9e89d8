//! Where a configuration comes from, and how what is wrong with it is told.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use witgate_config::{Config, Loaded, Problem, Problems, SourceMap};

use super::library;
use crate::exit::{Exit, Failure};
use crate::watch::{Fingerprint, WatchList};

/// Where a configuration comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A file, or a folder of files. Watched.
    Path(PathBuf),
    /// Made by a command; there is nothing to watch and a reload finds the same.
    Made(Arc<Config>),
}

/// A configuration, and what was read to get it.
pub(crate) struct Reading {
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// Its text, for rendering problems that are found later.
    pub(crate) sources: SourceMap,
    /// What to watch.
    pub(crate) watch: WatchList,
    /// What it looked like.
    pub(crate) fingerprint: Fingerprint,
}

/// Why a configuration, or what it asks for, was refused. Everything is as it was before.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What a process that cannot start because of it ends with.
    pub(crate) exit: Exit,
    /// What is wrong.
    pub(crate) problems: Problems,
    /// Where.
    pub(crate) sources: SourceMap,
    /// What may put it right when it changes.
    pub(crate) files: Vec<PathBuf>,
}

impl Source {
    /// Reads the configuration.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn read(&self) -> Result<Reading, Refusal> {
        match self {
            Source::Made(config) => Ok(Reading::of(config.clone(), SourceMap::default(), Vec::new(), None)),
            Source::Path(path) => match witgate_config::load(path) {
                Ok(Loaded { config, sources, files }) => {
                    Ok(Reading::of(Arc::new(config), sources, files, Some(path)))
                }
                Err(failure) => Err(Refusal {
                    exit: Exit::Config,
                    problems: failure.problems,
                    sources: failure.sources,
                    files: failure.files,
                }),
            },
        }
    }

    /// For messages; empty where there is no file.
    pub(crate) fn describe(&self) -> String {
        match self {
            Source::Path(path) => path.display().to_string(),
            Source::Made(_) => String::new(),
        }
    }

    /// What to watch while there is no configuration that could say it.
    pub(crate) fn watch_list(&self, files: &[PathBuf]) -> WatchList {
        let mut list = WatchList { files: files.iter().cloned().collect(), folders: BTreeMap::new() };
        match self {
            Source::Path(path) if path.is_dir() => drop(list.folders.insert(path.clone(), "toml")),
            Source::Path(path) => drop(list.files.insert(path.clone())),
            Source::Made(_) => {}
        }
        list
    }
}

impl Reading {
    fn of(config: Arc<Config>, sources: SourceMap, files: Vec<PathBuf>, path: Option<&Path>) -> Reading {
        let source = path.map_or_else(|| Source::Made(config.clone()), |path| Source::Path(path.to_owned()));
        let mut watch = source.watch_list(&files);
        watch.files.extend(config.plugins.values().map(|plugin| library::file(&config, &plugin.file)));
        watch.folders.insert(config.gateway.plugin_folder.clone(), "wasm");
        let mut fingerprint = Fingerprint::take(&watch, &Fingerprint::default());
        for (file, text) in &sources.files {
            fingerprint.set_content(file, text.as_bytes());
        }
        Reading { config, sources, watch, fingerprint }
    }

    /// Files in the plugin folder that no plugin declares.
    pub(crate) fn undeclared(&self) -> Vec<String> {
        let folder = &self.config.gateway.plugin_folder;
        let names = crate::watch::names(folder, "wasm").into_iter();
        names
            .filter(|name| {
                !self.config.plugins.values().any(|plugin| folder.join(&plugin.file) == folder.join(name))
            })
            .collect()
    }

    /// Problems found with what this configuration asks for.
    pub(crate) fn refusal(&self, exit: Exit, mut problems: Problems) -> Refusal {
        if self.sources.files.is_empty() {
            // There is no text to point at: the keys have to say where.
            problems.iter_mut().for_each(|problem| problem.span = None);
        }
        let files = self.watch.files.iter().cloned().collect();
        Refusal { exit, problems, sources: self.sources.clone(), files }
    }
}

impl Refusal {
    /// As people read it: file, line, caret, hint.
    pub(crate) fn render(&self, color: bool) -> String {
        witgate_config::render(&self.problems, &self.sources, color)
    }

    /// One by one, for log and status.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let trouble = |problem: &Problem| Trouble {
            message: problem.message.clone(),
            place: self.place(problem),
            rendered: witgate_config::render(std::slice::from_ref(problem), &self.sources, false),
        };
        self.problems.iter().map(trouble).collect()
    }

    /// File and line of a problem; its key, where it has none.
    fn place(&self, problem: &Problem) -> String {
        let span = problem.span.as_ref();
        let found = span.and_then(|span| Some((self.sources.files.get(span.file)?, span.range.start)));
        found.map_or_else(
            || problem.key.clone(),
            |((path, text), start)| {
                let before = text.as_bytes().iter().take(start);
                format!("{}:{}", path.display(), before.filter(|byte| **byte == b'\n').count() + 1)
            },
        )
    }
}

/// One thing that is wrong with a change, as log and status tell it.
pub(crate) struct Trouble {
    /// In one line.
    pub(crate) message: String,
    /// Where; empty if that is nowhere.
    pub(crate) place: String,
    /// With the place and a hint, in several lines.
    pub(crate) rendered: String,
}

impl From<String> for Trouble {
    fn from(message: String) -> Self {
        Trouble { rendered: message.clone(), place: String::new(), message }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let count = match refusal.problems.len() {
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        let rendered = refusal.render(std::io::stderr().is_terminal());
        Failure::new(refusal.exit, format!("{}\n\n{count}.", rendered.trim_end()))
    }
}
