//! Where a configuration comes from, and how its problems are reported.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use witgate_config::{Config, Loaded, Problem, Problems, SourceMap};

use super::data::{self, DataFiles};
use super::library;
use crate::exit::{Exit, Failure};
use crate::watch::{CONFIGURATION, Fingerprint, WatchList};

/// How often reading is tried if files change while they are read.
const TRIES: usize = 20;

/// Time between tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Where a configuration comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A file, or a folder of files. Watched.
    Path(PathBuf),
    /// Made by a command; there is nothing to watch, and a reload finds the same.
    Made(Arc<Config>),
}

/// A configuration, and what was read for it.
pub(crate) struct ConfigReading {
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// Its text, for rendering problems that are found later.
    pub(crate) sources: SourceMap,
    /// What is to be watched.
    pub(crate) watch: WatchList,
    /// The fingerprint of what is watched.
    pub(crate) fingerprint: Fingerprint,
    /// Every file that the configuration depends on, without those of plugins.
    pub(crate) files: Vec<PathBuf>,
}

/// Why a configuration was refused. Nothing has changed.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The exit code of a process that cannot start because of it.
    pub(crate) exit: Exit,
    /// The problems.
    pub(crate) problems: Problems,
    /// The files that they refer to.
    pub(crate) sources: SourceMap,
    /// What to watch for a correction, and its fingerprint when it was read. Boxed to keep results small.
    pub(crate) watch: Box<(WatchList, Fingerprint)>,
}

impl Source {
    /// Reads the configuration.
    ///
    /// # Errors
    /// All problems in it.
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

    /// Loads a configuration whose files do not change meanwhile: if two files are replaced together, both are
    /// read before or both after.
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

    /// The path for messages; empty if there is no file.
    pub(crate) fn describe(&self) -> String {
        match self {
            Source::Path(path) => path.display().to_string(),
            Source::Made(_) => String::new(),
        }
    }

    /// What to watch while there is no valid configuration that names its files.
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
        watch.files.extend(data::watched(&config));
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

    /// Plugin files that could not be used, each given as `binding: reason`, with the place of the binding.
    pub(crate) fn reservations(&self, told: Vec<String>) -> Vec<ChangeProblem> {
        let trouble = |told: String| {
            let binding = told.split_once(": ").map_or(told.as_str(), |(binding, _)| binding);
            let problem = Problem { key: format!("bindings.{binding}"), ..Problem::default() };
            let told = shortened(&self.sources.without_inserted(&told));
            ChangeProblem { place: place(&self.sources, &problem), ..ChangeProblem::from(told) }
        };
        told.into_iter().map(trouble).collect()
    }

    /// Files of `[data]` whose last good contents are used, with the place where each is declared.
    pub(crate) fn data_reservations(&self, told: &DataFiles) -> Vec<ChangeProblem> {
        let trouble = |(name, told): (&str, &str)| {
            let problem = Problem { key: format!("data.{name}"), ..Problem::default() };
            let told = shortened(&format!("data file `{name}`: {told}"));
            ChangeProblem { place: place(&self.sources, &problem), ..ChangeProblem::from(told) }
        };
        told.reservations().map(trouble).collect()
    }

    /// A refusal with problems that were found after the configuration was read.
    pub(crate) fn refusal(&self, exit: Exit, mut problems: Problems) -> Refusal {
        if self.sources.files.is_empty() {
            // There is no text to quote, so only the keys tell where.
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

/// The fingerprint of everything that is watched, with the contents that were read.
fn look(watch: &WatchList, sources: &SourceMap) -> Fingerprint {
    let mut fingerprint = Fingerprint::take(watch, &Fingerprint::default());
    for (file, text) in &sources.files {
        fingerprint.set_content(file, text.as_bytes());
    }
    fingerprint
}

impl Refusal {
    /// A refusal whose problems concern no watched file.
    pub(crate) fn without_files(exit: Exit, problems: Problems, sources: SourceMap) -> Refusal {
        Refusal { exit, problems, sources, watch: Box::default() }
    }

    /// A load that panicked. Standard error has the message.
    pub(crate) fn by_panic() -> Refusal {
        let problem = Problem::new(
            "the load failed because of a bug in the gateway: its standard error has the details",
        )
        .with_hint("please report it; the version in service is not affected");
        Refusal::without_files(Exit::Failure, vec![problem], SourceMap::default())
    }

    /// The problems for people: file, line, caret, hint.
    pub(crate) fn render(&self, color: bool) -> String {
        witgate_config::render(&self.problems, &self.sources, color)
    }

    /// The problems one by one, for log and status: the first ones, as far as they fit in [`TOLD`] bytes.
    pub(crate) fn troubles(&self) -> Vec<ChangeProblem> {
        let mut troubles = Vec::new();
        let mut room = TOLD;
        for problem in &self.problems {
            let trouble = ChangeProblem {
                message: shortened(&self.sources.publishable(problem, &problem.message)),
                place: place(&self.sources, problem),
                rendered: shortened(&witgate_config::render_for_log(problem, &self.sources)),
            };
            let size = trouble.message.len() + trouble.rendered.len();
            if size > room {
                break;
            }
            room -= size;
            troubles.push(trouble);
        }
        let more = self.problems.len() - troubles.len();
        if more > 0 {
            let message = format!("{more} more problems are not shown; `witgate validate` shows all of them");
            troubles.push(ChangeProblem::from(message));
        }
        troubles
    }
}

/// The most bytes of all problems of one change together, in log and status. A plugin may report as many and as long
/// ones as it likes.
const TOLD: usize = 64 << 10;

/// The most bytes of one problem.
const LONGEST: usize = 4 << 10;

/// The beginning of a text that is too long to be shown as a whole.
fn shortened(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(LONGEST)])
}

/// File and line of a problem, or of the nearest table around it; its key if it is in no file.
fn place(sources: &SourceMap, problem: &Problem) -> String {
    let span = sources.place(problem);
    let found = span.and_then(|span| Some((sources.files.get(span.file)?, span.range.start)));
    found.map_or_else(
        || problem.key.clone(),
        |((path, text), start)| {
            let before = text.as_bytes().iter().take(start);
            format!("{}:{}", path.display(), before.filter(|byte| **byte == b'\n').count() + 1)
        },
    )
}

/// One problem of a change, for log and status.
pub(crate) struct ChangeProblem {
    /// One line.
    pub(crate) message: String,
    /// Where it is; empty if nowhere.
    pub(crate) place: String,
    /// Several lines, with the position and a hint.
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

#[cfg(test)]
mod tests {
    use witgate_config::Span;

    use super::*;

    fn refusal(problems: Problems) -> Refusal {
        let text = "[admin]\naddress = \"off\"\nsocket = \"a.sock\"\n".to_owned();
        let mut sources =
            SourceMap { files: vec![(PathBuf::from("witgate.toml"), text)], ..SourceMap::default() };
        sources.keys.insert("admin".to_owned(), Span { file: 0, range: 0..7 });
        sources.keys.insert("admin.socket".to_owned(), Span { file: 0, range: 33..41 });
        Refusal::without_files(Exit::Config, problems, sources)
    }

    #[test]
    fn a_problem_that_knows_only_its_key_has_a_place() {
        let at = |key: &str| Problem { key: key.to_owned(), ..Problem::new("wrong") };
        let troubles = refusal(vec![at("admin.socket"), at("admin.hosts[3]"), at("nowhere")]).troubles();
        let places: Vec<&str> = troubles.iter().map(|trouble| &*trouble.place).collect();
        assert_eq!(places, ["witgate.toml:3", "witgate.toml:1", "nowhere"]);
    }

    #[test]
    fn what_log_and_status_tell_of_problems_is_bounded() {
        let many: Problems = (0..2_000).map(|_| Problem::new("ä".repeat(2_000))).collect();
        let troubles = refusal(many).troubles();
        let size: usize = troubles.iter().map(|trouble| trouble.message.len() + trouble.rendered.len()).sum();
        assert!(size < TOLD + 1024, "{size} bytes");
        let last = troubles.last().expect("some are told");
        let more = 2_000 - (troubles.len() - 1);
        assert!(last.message.starts_with(&format!("{more} more problems")), "{}", last.message);
        let few = refusal(vec![Problem::new("one"), Problem::new("x".repeat(1 << 20))]).troubles();
        assert_eq!(few.len(), 2, "a long one is told in part");
        assert!(few[1].message.ends_with('…') && few[1].message.len() < LONGEST + 8);
    }
}
