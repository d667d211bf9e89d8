//! Where a configuration comes from, and how what is wrong with it is told.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use witgate_config::{Config, Loaded, Problem, Problems, SourceMap};

use super::library;
use crate::exit::{Exit, Failure};
use crate::watch::{CONFIGURATION, Fingerprint, WatchList};

/// How often a configuration is read that changes while it is read.
const TRIES: usize = 20;

/// Time before it is read again.
const PAUSE: Duration = Duration::from_millis(20);

/// Where a configuration comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A file, or a folder of files. Watched.
    Path(PathBuf),
    /// Made by a command; there is nothing to watch and a reload finds the same.
    Made(Arc<Config>),
}

/// A configuration, and what was read to get it.
pub(crate) struct ConfigReading {
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// Its text, for rendering problems that are found later.
    pub(crate) sources: SourceMap,
    /// What to watch.
    pub(crate) watch: WatchList,
    /// What it looked like.
    pub(crate) fingerprint: Fingerprint,
    /// Every file the configuration depends on, those of plugins apart.
    pub(crate) files: Vec<PathBuf>,
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
    /// What may put it right when it changes, and what that looked like when it was read. Boxed, so that results stay small.
    pub(crate) watch: Box<(WatchList, Fingerprint)>,
}

impl Source {
    /// Reads the configuration.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn read(&self) -> Result<ConfigReading, Refusal> {
        match self {
            Source::Made(config) => {
                Ok(ConfigReading::of(config.clone(), SourceMap::default(), Vec::new(), None))
            }
            Source::Path(path) => match self.load_whole(path)? {
                Ok(Loaded { config, sources, files }) => {
                    Ok(ConfigReading::of(Arc::new(config), sources, files, Some(path)))
                }
                Err(failure) => Err(self.refused(failure)),
            },
        }
    }

    /// Loads a configuration that nobody changes meanwhile: of two files that are exchanged, both are read before or both
    /// after.
    fn load_whole(&self, path: &Path) -> Result<Result<Loaded, witgate_config::Failure>, Refusal> {
        for _ in 0..TRIES {
            let list = self.watch_list(&[]);
            let before = Fingerprint::metadata(&list);
            let loaded = witgate_config::load(path);
            if Fingerprint::metadata(&list) == before {
                return Ok(loaded);
            }
            std::thread::park_timeout(PAUSE);
        }
        let problem = Problem::new(format!("`{}` was changed each time while it was read", path.display()))
            .with_hint("write files aside and rename them into their place");
        Err(self.refused(witgate_config::Failure {
            problems: vec![problem],
            sources: SourceMap::default(),
            files: vec![path.to_owned()],
        }))
    }

    fn refused(&self, failure: witgate_config::Failure) -> Refusal {
        let watch = self.watch_list(&failure.files);
        let fingerprint = look(&watch, &failure.sources);
        Refusal {
            exit: Exit::Config,
            problems: failure.problems,
            sources: failure.sources,
            watch: Box::new((watch, fingerprint)),
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
            Source::Path(path) if path.is_dir() => drop(list.folders.insert(path.clone(), CONFIGURATION)),
            Source::Path(path) => drop(list.files.insert(path.clone())),
            Source::Made(_) => {}
        }
        list
    }
}

impl ConfigReading {
    fn of(
        config: Arc<Config>,
        sources: SourceMap,
        files: Vec<PathBuf>,
        path: Option<&Path>,
    ) -> ConfigReading {
        let source = path.map_or_else(|| Source::Made(config.clone()), |path| Source::Path(path.to_owned()));
        let mut watch = source.watch_list(&files);
        watch.files.extend(library::source::watched(&config));
        watch.folders.insert(config.gateway.plugin_folder.clone(), "wasm");
        let fingerprint = look(&watch, &sources);
        ConfigReading { config, sources, watch, fingerprint, files }
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
        Refusal {
            exit,
            problems,
            sources: self.sources.clone(),
            watch: Box::new((self.watch.clone(), self.fingerprint.clone())),
        }
    }
}

/// What everything looks like that is watched, and what was read of it.
fn look(watch: &WatchList, sources: &SourceMap) -> Fingerprint {
    let mut fingerprint = Fingerprint::take(watch, &Fingerprint::default());
    for (file, text) in &sources.files {
        fingerprint.set_content(file, text.as_bytes());
    }
    fingerprint
}

impl Refusal {
    /// Problems that have to do with no file.
    pub(crate) fn without_files(exit: Exit, problems: Problems, sources: SourceMap) -> Refusal {
        Refusal { exit, problems, sources, watch: Box::default() }
    }

    /// A load that ended by a fault of the gateway itself, of which standard error has told.
    pub(crate) fn by_panic() -> Refusal {
        let problem =
            Problem::new("the load ended by a fault of the gateway itself: its standard error says where")
                .with_hint("please report it; the version in service is not affected");
        Refusal::without_files(Exit::Failure, vec![problem], SourceMap::default())
    }

    /// As people read it: file, line, caret, hint.
    pub(crate) fn render(&self, color: bool) -> String {
        witgate_config::render(&self.problems, &self.sources, color)
    }

    /// One by one, for log and status.
    pub(crate) fn troubles(&self) -> Vec<ChangeProblem> {
        let trouble = |problem: &Problem| ChangeProblem {
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
pub(crate) struct ChangeProblem {
    /// In one line.
    pub(crate) message: String,
    /// Where; empty if that is nowhere.
    pub(crate) place: String,
    /// With the place and a hint, in several lines.
    pub(crate) rendered: String,
}

impl From<String> for ChangeProblem {
    fn from(message: String) -> Self {
        ChangeProblem { rendered: message.clone(), place: String::new(), message }
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
