//! The plugins in service, the versions before them, and what a reload makes of both.
//!
//! A reload works on a [`Draft`]: which version each binding would have. Nothing changes until the draft is kept. What
//! is equal is carried over as the very same object, so that its warm instances, counters and quarantine live on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use witgate_config::model::{Binding, Start};
use witgate_config::{Config, Problem, Problems};
use witgate_proxy::pipeline::plugin::{Contracts, Plugin};

use super::standin::Standin;
use super::status::{BindingState, BindingStatus, hexadecimal};

/// SHA-256 of a component's file.
pub(crate) type FileDigest = [u8; 32];

/// Makes plugins of files. The runtime in service; something simpler in the tests of this module.
pub(crate) trait Loader {
    /// A compiled component that bindings can be made of.
    type Component: Clone;

    /// Compiles a component.
    ///
    /// # Errors
    /// Why the file is refused: not a component, of another world, imports that nobody serves.
    fn compile(&self, bytes: &[u8]) -> Result<Self::Component, String>;

    /// Which contracts a component exports.
    fn contracts(&self, component: &Self::Component) -> Contracts;

    /// Makes a binding of a component: checks grants, configures a first instance.
    ///
    /// # Errors
    /// Why this component cannot serve this binding.
    fn prepare(
        &self,
        component: &Self::Component,
        binding: &str,
        config: &Config,
    ) -> Result<Arc<dyn Plugin>, Refused>;
}

/// Why a component cannot serve a binding.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The configuration asks for something else: settings, grants. Each has a place in a file.
    Configuration(Problems),
    /// The component is at fault: it traps, it answers nonsense.
    Component(String),
}

/// The plugins in service.
pub(crate) struct Library<L: Loader> {
    loader: L,
    shelves: BTreeMap<String, Shelf<L::Component>>,
}

/// What a change would put in service.
pub(crate) struct Draft<C> {
    shelves: BTreeMap<String, Shelf<C>>,
}

/// Why there is no draft. Files that were refused are told apart, because they have an exit code of their own.
#[derive(Debug, Default)]
pub(crate) struct Objections {
    /// Mistakes in the configuration.
    pub(crate) configuration: Problems,
    /// Plugins that cannot be loaded and of which there is no earlier version.
    pub(crate) plugins: Problems,
}

/// The versions of one binding.
#[derive(Clone)]
struct Shelf<C> {
    plugin: String,
    file: PathBuf,
    /// What serves: the current version, or a stand-in.
    serving: Arc<dyn Plugin>,
    current: Option<Version<C>>,
    previous: Option<Version<C>>,
    state: BindingState,
    /// A version that is not to be tried again until the file changes, and why.
    held: Option<Held>,
    problem: Option<String>,
}

/// One version of one binding: a component, and the plugin made of it for certain settings.
#[derive(Clone)]
struct Version<C> {
    digest: FileDigest,
    component: C,
    plugin: Arc<dyn Plugin>,
    binding: Binding,
    store_bytes: usize,
}

#[derive(Clone)]
struct Held {
    digest: FileDigest,
    state: BindingState,
    reason: String,
}

/// A file of this draft, read and compiled at most once however many bindings use it.
struct Candidate<C> {
    digest: Option<FileDigest>,
    component: Result<C, String>,
}

impl<L: Loader> Library<L> {
    /// A library in which nothing is in service yet.
    pub(crate) fn new(loader: L) -> Self {
        Library { loader, shelves: BTreeMap::new() }
    }

    /// What the files and a configuration would put in service. With `force`, versions that were rolled back or
    /// reverted are tried again.
    ///
    /// # Errors
    /// Bindings for which there is neither the version on disk nor an earlier one, and mistakes in the configuration.
    pub(crate) fn draft(&self, config: &Config, force: bool) -> Result<Draft<L::Component>, Objections> {
        let mut objections = Objections::default();
        let mut candidates = BTreeMap::new();
        let mut shelves = BTreeMap::new();
        for (name, binding) in &config.bindings {
            let Some(plugin) = config.plugins.get(&binding.plugin) else { continue };
            let candidate = candidates
                .entry(binding.plugin.clone())
                .or_insert_with(|| self.read(&file(config, &plugin.file), plugin.digest));
            match self.shelve(name, binding, config, candidate, force) {
                Ok(shelf) => drop(shelves.insert(name.clone(), shelf)),
                Err(Refused::Configuration(problems)) => objections.configuration.extend(problems),
                Err(Refused::Component(reason)) => {
                    objections.plugins.push(refusal(name, binding, plugin, &reason))
                }
            }
        }
        if objections.is_empty() { Ok(Draft { shelves }) } else { Err(objections) }
    }

    /// What would be in service with the previous version of one binding.
    ///
    /// # Errors
    /// There is no such binding, no previous version, or it cannot serve with the settings of now.
    pub(crate) fn draft_previous(
        &self,
        name: &str,
        config: &Config,
        state: BindingState,
        reason: String,
    ) -> Result<Draft<L::Component>, String> {
        let shelf = self.shelves.get(name).ok_or_else(|| format!("there is no binding `{name}`"))?;
        let (Some(current), Some(previous), Some(binding)) =
            (&shelf.current, &shelf.previous, config.bindings.get(name))
        else {
            return Err(format!("there is no previous version of the plugin of `{name}` in memory"));
        };
        let version = self
            .version(name, binding, config, previous.digest, &previous.component, [Some(previous), None])
            .map_err(|refused| format!("the previous version cannot serve any more: {}", refused.first()))?;
        let held = Held { digest: current.digest, state, reason: reason.clone() };
        let shelf = Shelf {
            serving: version.plugin.clone(),
            current: Some(version),
            previous: Some(current.clone()),
            state,
            held: Some(held),
            problem: Some(reason),
            ..shelf.clone()
        };
        let mut shelves = self.shelves.clone();
        shelves.insert(name.to_owned(), shelf);
        Ok(Draft { shelves })
    }

    /// Keeps a draft that is in service now.
    pub(crate) fn keep(&mut self, draft: Draft<L::Component>) {
        self.shelves = draft.shelves;
    }

    /// SHA-256 of the version of a binding that is in service.
    pub(crate) fn digest(&self, binding: &str) -> Option<FileDigest> {
        Some(self.shelves.get(binding)?.current.as_ref()?.digest)
    }

    /// The state of every binding.
    pub(crate) fn status(&self) -> Vec<BindingStatus> {
        self.shelves.iter().map(|(name, shelf)| shelf.status(name)).collect()
    }

    fn read(&self, file: &Path, pinned: Option<FileDigest>) -> Candidate<L::Component> {
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) => {
                return Candidate {
                    digest: None,
                    component: Err(format!("{} cannot be read: {error}", file.display())),
                };
            }
        };
        let digest: FileDigest = Sha256::digest(&bytes).into();
        if let Some(pinned) = pinned.filter(|pinned| *pinned != digest) {
            let (found, pinned) = (hexadecimal(&digest), hexadecimal(&pinned));
            let reason = format!("{} has the digest {found}, but `digest` asks for {pinned}", file.display());
            return Candidate { digest: Some(digest), component: Err(reason) };
        }
        let known = self.shelves.values().flat_map(|shelf| [&shelf.current, &shelf.previous]).flatten();
        let component = match known.into_iter().find(|version| version.digest == digest) {
            Some(version) => Ok(version.component.clone()),
            None => self.loader.compile(&bytes).map_err(|reason| format!("{}: {reason}", file.display())),
        };
        Candidate { digest: Some(digest), component }
    }

    /// Decides which version a binding gets: that on disk, else the one in service, else a stand-in if that is allowed.
    fn shelve(
        &self,
        name: &str,
        binding: &Binding,
        config: &Config,
        candidate: &Candidate<L::Component>,
        force: bool,
    ) -> Result<Shelf<L::Component>, Refused> {
        let before = self.shelves.get(name).filter(|shelf| shelf.plugin == binding.plugin);
        let held = before
            .and_then(|shelf| shelf.held.clone())
            .filter(|held| !force && candidate.digest == Some(held.digest));
        if let Some(held) = held {
            let version = self.last_good(name, binding, config, before)?;
            return Ok(self.fill(
                binding,
                config,
                before,
                version,
                held.state,
                Some(held.reason.clone()),
                Some(held),
            ));
        }
        let refused = match self.from_disk(name, binding, config, candidate, before) {
            Ok(version) => {
                return Ok(self.fill(binding, config, before, version, BindingState::Current, None, None));
            }
            Err(refused) => refused,
        };
        match (before.and_then(|shelf| shelf.current.as_ref()), refused) {
            (Some(current), refused) if Some(current.digest) != candidate.digest => {
                let version = self.last_good(name, binding, config, before)?;
                let problem = Some(refused.first());
                Ok(self.fill(binding, config, before, version, BindingState::LastGood, problem, None))
            }
            (None, Refused::Component(reason)) if config.gateway.start == Start::Degraded => {
                Ok(self.stand_in(name, binding, config, candidate, reason))
            }
            (_, refused) => Err(refused),
        }
    }

    fn from_disk(
        &self,
        name: &str,
        binding: &Binding,
        config: &Config,
        candidate: &Candidate<L::Component>,
        before: Option<&Shelf<L::Component>>,
    ) -> Result<Version<L::Component>, Refused> {
        let component = candidate.component.as_ref().map_err(|reason| Refused::Component(reason.clone()))?;
        let digest = candidate.digest.unwrap_or_default();
        self.version(name, binding, config, digest, component, before.map_or([None, None], Shelf::versions))
    }

    fn last_good(
        &self,
        name: &str,
        binding: &Binding,
        config: &Config,
        before: Option<&Shelf<L::Component>>,
    ) -> Result<Version<L::Component>, Refused> {
        let current = before.and_then(|shelf| shelf.current.as_ref());
        let current = current.ok_or_else(|| Refused::Component("there is no earlier version".to_owned()))?;
        self.version(name, binding, config, current.digest, &current.component, [Some(current), None])
    }

    /// The version with this digest and the settings of now: one of `known` if all is equal, else a new one.
    fn version(
        &self,
        name: &str,
        binding: &Binding,
        config: &Config,
        digest: FileDigest,
        component: &L::Component,
        known: [Option<&Version<L::Component>>; 2],
    ) -> Result<Version<L::Component>, Refused> {
        let store_bytes = config.plugins.get(&binding.plugin).map_or(0, |plugin| plugin.store_bytes);
        let equal = |version: &&Version<L::Component>| {
            version.digest == digest && version.binding == *binding && version.store_bytes == store_bytes
        };
        if let Some(version) = known.into_iter().flatten().find(equal) {
            return Ok(version.clone());
        }
        let plugin = self.loader.prepare(component, name, config)?;
        Ok(Version { digest, component: component.clone(), plugin, binding: binding.clone(), store_bytes })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one for each field that differs between the outcomes of `shelve`"
    )]
    fn fill(
        &self,
        binding: &Binding,
        config: &Config,
        before: Option<&Shelf<L::Component>>,
        version: Version<L::Component>,
        state: BindingState,
        problem: Option<String>,
        held: Option<Held>,
    ) -> Shelf<L::Component> {
        let previous = before.and_then(|shelf| match &shelf.current {
            Some(current) if current.digest != version.digest => Some(current.clone()),
            _ => shelf.previous.clone(),
        });
        let file =
            config.plugins.get(&binding.plugin).map(|plugin| file(config, &plugin.file)).unwrap_or_default();
        let serving = version.plugin.clone();
        Shelf {
            plugin: binding.plugin.clone(),
            file,
            serving,
            current: Some(version),
            previous,
            state,
            held,
            problem,
        }
    }

    fn stand_in(
        &self,
        name: &str,
        binding: &Binding,
        config: &Config,
        candidate: &Candidate<L::Component>,
        reason: String,
    ) -> Shelf<L::Component> {
        let contracts = candidate.component.as_ref().ok().map(|component| self.loader.contracts(component));
        let file =
            config.plugins.get(&binding.plugin).map(|plugin| file(config, &plugin.file)).unwrap_or_default();
        Shelf {
            plugin: binding.plugin.clone(),
            file,
            serving: Arc::new(Standin::new(name, binding, contracts)),
            current: None,
            previous: None,
            state: BindingState::Unavailable,
            held: None,
            problem: Some(reason),
        }
    }
}

impl<C> Draft<C> {
    /// The plugins of the draft, by binding.
    pub(crate) fn plugins(&self) -> BTreeMap<String, Arc<dyn Plugin>> {
        self.shelves.iter().map(|(name, shelf)| (name.clone(), shelf.serving.clone())).collect()
    }

    /// What of the files could not be taken, as `binding: reason`.
    pub(crate) fn reservations(&self) -> Vec<String> {
        let told = |(name, shelf): (&String, &Shelf<C>)| Some(format!("{name}: {}", shelf.problem.as_ref()?));
        self.shelves.iter().filter_map(told).collect()
    }
}

impl<C> Shelf<C> {
    fn versions(&self) -> [Option<&Version<C>>; 2] {
        [self.current.as_ref(), self.previous.as_ref()]
    }

    fn status(&self, name: &str) -> BindingStatus {
        let digest =
            |version: &Option<Version<C>>| version.as_ref().map(|version| hexadecimal(&version.digest));
        BindingStatus {
            binding: name.to_owned(),
            plugin: self.plugin.clone(),
            file: self.file.display().to_string(),
            state: self.state,
            digest: digest(&self.current),
            previous: digest(&self.previous),
            contracts: contract_names(self.serving.contracts()).into_iter().map(str::to_owned).collect(),
            problem: self.problem.clone(),
        }
    }
}

impl Refused {
    /// In words, for the places where there is one line for it.
    fn first(&self) -> String {
        match self {
            Refused::Component(reason) => reason.clone(),
            Refused::Configuration(problems) => {
                let told = |problem: &Problem| format!("{}: {}", problem.key, problem.message);
                problems.iter().map(told).collect::<Vec<_>>().join("; ")
            }
        }
    }
}

impl Objections {
    fn is_empty(&self) -> bool {
        self.configuration.is_empty() && self.plugins.is_empty()
    }
}

/// Stand-ins for all bindings, for looking at a configuration whose plugins were refused.
pub(crate) fn stand_ins(config: &Config) -> BTreeMap<String, Arc<dyn Plugin>> {
    let stand_in = |(name, binding): (&String, &Binding)| {
        let plugin: Arc<dyn Plugin> = Arc::new(Standin::new(name, binding, None));
        (name.clone(), plugin)
    };
    config.bindings.iter().map(stand_in).collect()
}

/// Where a plugin's file is: relative ones lie in the plugin folder.
pub(crate) fn file(config: &Config, file: &Path) -> PathBuf {
    config.gateway.plugin_folder.join(file)
}

/// The names of the contracts that are implemented.
pub(crate) fn contract_names(contracts: Contracts) -> Vec<&'static str> {
    let all = [
        ("authentication", contracts.authentication),
        ("rate-limiting", contracts.rate_limiting),
        ("routing", contracts.routing),
        ("transformation", contracts.transformation),
    ];
    all.into_iter().filter_map(|(name, exported)| exported.then_some(name)).collect()
}

fn refusal(name: &str, binding: &Binding, plugin: &witgate_config::model::Plugin, reason: &str) -> Problem {
    Problem {
        message: format!("the plugin `{}` of binding `{name}` cannot be loaded: {reason}", binding.plugin),
        key: format!("plugins.{}.file", binding.plugin),
        hint: Some(format!("`witgate plugin check {}` tells what the file is", plugin.file.display())),
        ..Problem::default()
    }
}

#[cfg(test)]
mod tests;
