//! The plugins in service, their previous versions, and how a reload changes both.
//!
//! A reload works on a [`Draft`]: the version that each binding would have. Nothing changes until the draft is
//! kept. A version in service that stays the same is carried over as the same object, so that its warm instances,
//! trial and quarantine continue. Every other version that a reload puts in service is prepared anew and on trial,
//! however long it has served before. Only a rollback or revert takes the previous version as it is, which is kept
//! warm for this.

mod candidates;
pub(crate) mod source;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use witgate_config::model::{self, Start};
use witgate_config::{Config, Problem, Problems};
use witgate_exchange::contracts::state::State;
use witgate_exchange::contracts::{Binding, Contracts};
use witgate_wasm::{Calls, Data};

use super::data::DataFiles;
use super::standin::Standin;
use super::states::States;
use super::status::{BindingState, BindingStatus};
use super::wanted::Force;
use candidates::Candidate;
use source::{Fetches, PluginSource, SourceKind};
use versions::{BindingVersions, HeldBack, Version};

/// SHA-256 of a component's file.
pub(crate) type FileDigest = [u8; 32];

/// Makes plugins from files. In production the plugin runtime; in the tests of this module a simple stand-in.
pub(crate) trait Loader {
    /// A compiled component from which bindings can be made.
    type Component: Clone;

    /// Begins a draft for a configuration. With `force`, files that were refused before are tried again.
    fn begin(&self, config: &model::Gateway, force: bool);

    /// Compiles a component. One that was refused before is refused again with the same problems, without
    /// compiling.
    ///
    /// # Errors
    /// Why the file is refused: it is not a component, has another world, or has imports that the gateway does not
    /// provide.
    fn compile(&self, asked: &WantedBinding<'_>, bytes: &[u8]) -> Result<Self::Component, Problems>;

    /// What a component may do, one name for each contract that it exports and each interface that it imports.
    fn asks(&self, component: &Self::Component) -> BTreeSet<String>;

    /// The contracts that a component exports.
    fn contracts(&self, component: &Self::Component) -> Contracts;

    /// Makes a binding from a component: checks grants, configures a first instance.
    ///
    /// # Errors
    /// Why this component cannot serve this binding.
    fn prepare(&self, component: &Self::Component, asked: &WantedBinding<'_>) -> Result<Prepared, Refused>;
}

/// A plugin for one binding, with its two interfaces.
#[derive(Clone)]
pub(crate) struct Prepared {
    /// The interface for requests.
    pub(crate) plugin: Arc<dyn Binding>,
    /// The interface for the control plane.
    pub(crate) conduct: Arc<dyn Conduct>,
}

/// The performance of a version in service. The version records it and requests its own revert; which version is
/// in service is decided here.
pub(crate) trait Conduct: Send + Sync {
    /// Its latest calls that count for judging it.
    fn latest_calls(&self) -> Calls;

    /// Begins a trial: it is about to be put in service, in place of a version with these latest calls.
    fn begin_trial(&self, before: Calls);

    /// Whether it is on trial.
    fn is_on_trial(&self) -> bool;

    /// It is about to be put back in service, in place of a version that was reverted or rolled back.
    fn put_back(&self);

    /// Whether it may be put back in service: its revert was not requested, it is not in quarantine, and most of
    /// its latest calls, if any, succeeded; if it is still on trial, it had successful calls and failed no more
    /// often than the previous version.
    fn is_good(&self) -> bool;

    /// Whether it is in service from now on: whatever it does by the clock, it does only then.
    fn in_service(self: Arc<Self>, is_in_service: bool);
}

/// A binding as a configuration describes it.
pub(crate) struct WantedBinding<'c> {
    /// Its name.
    pub(crate) name: &'c str,
    /// Settings, grants, budgets.
    pub(crate) binding: &'c model::Binding,
    /// The declared plugin.
    pub(crate) plugin: &'c model::Plugin,
    /// The source of the plugin's bytes.
    pub(crate) source: Arc<dyn PluginSource>,
    /// The configuration key that names the source.
    key: &'static str,
    /// The state that holds the plugin's store.
    pub(crate) state: &'c Arc<dyn State>,
    /// The contents of the files that it may read, by their names.
    pub(crate) data: BTreeMap<String, Arc<Data>>,
    /// The secrets of the fleet.
    pub(crate) secrets: &'c [model::Secret],
    /// Whether a stand-in may replace it.
    start: Start,
}

/// What a draft is made for.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'c> {
    /// The configuration.
    pub(crate) config: &'c Config,
    /// Where the stores of plugins are kept.
    pub(crate) states: &'c States,
    /// The files for plugins.
    pub(crate) data: &'c DataFiles,
}

/// Why a component cannot serve a binding.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Its settings are invalid. Each problem has a position in a file.
    Settings(Problems),
    /// It cannot be loaded, or needs something that is not granted.
    Component(Problems),
}

/// The plugins in service. A clone is a copy of one moment, for a thread that works on a draft.
pub(crate) struct Library<L: Loader> {
    loader: Arc<L>,
    sources: &'static [SourceKind],
    fetches: Fetches,
    bindings: BTreeMap<String, BindingVersions<L::Component>>,
}

impl<L: Loader> Clone for Library<L> {
    fn clone(&self) -> Self {
        Library {
            loader: Arc::clone(&self.loader),
            sources: self.sources,
            fetches: self.fetches.clone(),
            bindings: self.bindings.clone(),
        }
    }
}

/// The result of a change before it is put in service.
pub(crate) struct Draft<C> {
    bindings: BTreeMap<String, BindingVersions<C>>,
}

/// Why there is no draft. Refused files are kept apart, because they have an exit code of their own.
#[derive(Debug, Default)]
pub(crate) struct Objections {
    /// Mistakes in the configuration.
    pub(crate) configuration: Problems,
    /// Plugins that cannot be loaded and have no earlier version.
    pub(crate) plugins: Problems,
}

impl<L: Loader> Library<L> {
    /// A library in which nothing is in service yet.
    pub(crate) fn new(loader: L, sources: &'static [SourceKind], fetches: Fetches) -> Self {
        Library { loader: Arc::new(loader), sources, fetches, bindings: BTreeMap::new() }
    }

    /// The fetches of its plugins' bytes.
    pub(crate) fn fetches(&self) -> &Fetches {
        &self.fetches
    }

    /// The draft for the files and a configuration. `force` says which versions are tried again that were rolled
    /// back or reverted.
    ///
    /// # Errors
    /// Bindings that have neither a valid version at its source nor an earlier one, and mistakes in the configuration.
    pub(crate) fn draft(&self, plan: Plan<'_>, force: &Force) -> Result<Draft<L::Component>, Objections> {
        self.loader.begin(&plan.config.gateway, force.asked);
        let mut objections = Objections::default();
        let candidates = self.candidates(plan);
        let mut bindings = BTreeMap::new();
        for asked in self.wanted_bindings(plan) {
            let Some(candidate) = candidates.get(&asked.binding.plugin) else { continue };
            match self.adopt(&asked, candidate, force.applies_to(asked.name)) {
                Ok(versions) => drop(bindings.insert(asked.name.to_owned(), versions)),
                Err(Refused::Settings(problems)) => objections.configuration.extend(problems),
                Err(Refused::Component(problems)) => {
                    objections
                        .plugins
                        .extend(problems.into_iter().map(|problem| asked.cannot_be_loaded(problem)));
                }
            }
        }
        if objections.configuration.is_empty() && objections.plugins.is_empty() {
            Ok(Draft { bindings })
        } else {
            Err(objections)
        }
    }

    /// The draft that puts the last good version of one binding back. The version in service is not tried again
    /// until its file changes, and never becomes a previous version.
    ///
    /// # Errors
    /// There is no such binding or no good previous version, or that one is not valid for the current settings.
    pub(crate) fn draft_previous(
        &self,
        name: &str,
        plan: Plan<'_>,
        state: BindingState,
        reason: String,
    ) -> Result<Draft<L::Component>, String> {
        let found = self.wanted_bindings(plan).find(|asked| asked.name == name).zip(self.bindings.get(name));
        let (asked, versions) = found.ok_or_else(|| format!("there is no binding `{name}`"))?;
        let (Some(current), Some(previous)) = (&versions.current, versions.good_previous()) else {
            return Err(no_previous(name, versions));
        };
        let version = self
            .version(&asked, previous.digest, &previous.component, Some(previous))
            .map_err(|refused| format!("the previous version cannot serve any more: {}", refused.told()))?;
        version.conduct.put_back();
        let held = HeldBack {
            digest: current.digest,
            component: current.component.clone(),
            state,
            reason: reason.clone(),
        };
        let mut bindings = self.bindings.clone();
        bindings.insert(name.to_owned(), BindingVersions::put_back(&asked, version, held));
        Ok(Draft { bindings })
    }

    /// Keeps a draft, which is now in service.
    pub(crate) fn keep(&mut self, draft: Draft<L::Component>) {
        let before = std::mem::replace(&mut self.bindings, draft.bindings);
        let conduct = |versions: &BindingVersions<L::Component>| {
            versions.current.as_ref().map(|version| Arc::clone(&version.conduct))
        };
        let now: Vec<Arc<dyn Conduct>> = self.bindings.values().filter_map(conduct).collect();
        for replaced in before.values().filter_map(conduct) {
            if !now.iter().any(|conduct| Arc::ptr_eq(conduct, &replaced)) {
                replaced.in_service(false);
            }
        }
        now.into_iter().for_each(|conduct| conduct.in_service(true));
    }

    /// What makes its plugins.
    pub(crate) fn loader(&self) -> &L {
        &self.loader
    }

    /// Whether this version of a binding is in service and has a previous version.
    pub(crate) fn can_revert(&self, binding: &str, version: u64) -> bool {
        self.bindings.get(binding).is_some_and(|versions| {
            versions.serving.version() == version && versions.good_previous().is_some()
        })
    }

    /// Whether the previous version of a binding was made for the current settings, so that putting it back runs
    /// no plugin code. Also true if there is none, which fails as quickly.
    pub(crate) fn previous_is_ready(&self, name: &str, plan: Plan<'_>) -> bool {
        let asked = self.wanted_bindings(plan).find(|asked| asked.name == name);
        let previous = self.bindings.get(name).and_then(|versions| versions.previous.as_ref());
        asked.zip(previous).is_none_or(|(asked, previous)| previous.is_for(&asked))
    }

    /// The state of every binding.
    pub(crate) fn status(&self) -> Vec<BindingStatus> {
        self.bindings.iter().map(|(name, versions)| versions.status(name)).collect()
    }

    /// Decides which version a binding gets: that on disk, else the one in service, else a stand-in if that is
    /// allowed.
    ///
    /// Versions belong to the binding, whatever its plugin is called: another `plugin` key makes one more version,
    /// which is on trial against the one in service, and is held back if it was reverted before. But if the plugin
    /// that the configuration now names cannot be loaded, a version of another plugin is not used as its last good
    /// version.
    fn adopt(
        &self,
        asked: &WantedBinding<'_>,
        candidate: &Candidate<L::Component>,
        force: bool,
    ) -> Result<BindingVersions<L::Component>, Refused> {
        let before = self.bindings.get(asked.name);
        let current = before.and_then(|versions| versions.current.as_ref());
        let held = before.and_then(|versions| versions.held.as_ref());
        if let Some((held, current)) =
            held.filter(|held| !force && candidate.digest == Some(held.digest)).zip(current)
        {
            let version = self.last_good(asked, current)?;
            let reason = Some(held.reason.clone());
            return Ok(BindingVersions::of(asked, before, version, held.state, reason, Some(held.clone())));
        }
        if let (Some(current), Ok(component)) = (current, &candidate.component)
            && Some(current.digest) == candidate.digest
        {
            // The file is not to blame for conditions that do not fit it, so there is no last good version to fall back to.
            asked.check_conditions(self.loader.contracts(component))?;
        }
        let same_plugin = before.is_some_and(|versions| versions.plugin == asked.binding.plugin);
        let served = current.filter(|_| same_plugin).map(|current| self.loader.contracts(&current.component));
        let refused = match self.version_on_disk(asked, candidate, (current, served)) {
            Ok(version) => {
                let versions = BindingVersions::of(asked, before, version, BindingState::Current, None, None);
                versions.try_out(current);
                return Ok(versions);
            }
            Err(refused) => refused,
        };
        match (current, refused) {
            (Some(current), refused)
                if same_plugin
                    && (Some(current.digest) != candidate.digest || current.is_for_all_but_data(asked)) =>
            {
                let version = self.last_good(asked, current)?;
                Ok(BindingVersions::of(
                    asked,
                    before,
                    version,
                    BindingState::LastGood,
                    Some(format!(
                        "{}{}; the last good version stays in service",
                        refused.told(),
                        self.more_than(&current.component, candidate)
                    )),
                    None,
                ))
            }
            (None, refused @ Refused::Component(_)) if asked.start == Start::Degraded => {
                let contracts =
                    candidate.component.as_ref().ok().map(|component| self.loader.contracts(component));
                let standin = Standin::new(asked.name, asked.binding, contracts);
                let problem = format!("{}; no version is in service, `on_failure` applies", refused.told());
                Ok(BindingVersions::without_version(asked, Arc::new(standin), problem))
            }
            (_, refused) => Err(refused),
        }
    }

    /// What a new version asks for and the one in service does not, as a part of a sentence; empty if that is nothing.
    fn more_than(&self, serving: &L::Component, candidate: &Candidate<L::Component>) -> String {
        let Ok(component) = &candidate.component else { return String::new() };
        let before = self.loader.asks(serving);
        let more: Vec<String> = self.loader.asks(component).difference(&before).cloned().collect();
        if more.is_empty() {
            return String::new();
        }
        format!("; it asks for more than the version in service: {}", more.join(", "))
    }

    /// The version in service with what the configuration says now. If the new contents of a file are all that it refuses, it
    /// keeps those with which it serves.
    fn last_good(
        &self,
        asked: &WantedBinding<'_>,
        current: &Version<L::Component>,
    ) -> Result<Version<L::Component>, Refused> {
        match self.version(asked, current.digest, &current.component, Some(current)) {
            Err(_) if current.is_for_all_but_data(asked) => Ok(current.clone()),
            version => version,
        }
    }

    fn version_on_disk(
        &self,
        asked: &WantedBinding<'_>,
        candidate: &Candidate<L::Component>,
        (current, served): (Option<&Version<L::Component>>, Option<Contracts>),
    ) -> Result<Version<L::Component>, Refused> {
        let component =
            candidate.component.as_ref().map_err(|problems| Refused::Component(problems.clone()))?;
        let digest = candidate.digest.unwrap_or_default();
        let version = self.version(asked, digest, component, current)?;
        asked.check_contracts(self.loader.contracts(component), served)?;
        Ok(version)
    }

    /// The version with this digest and the current settings: `known` if it is the same, else a new one.
    fn version(
        &self,
        asked: &WantedBinding<'_>,
        digest: FileDigest,
        component: &L::Component,
        known: Option<&Version<L::Component>>,
    ) -> Result<Version<L::Component>, Refused> {
        asked.check_conditions(self.loader.contracts(component))?;
        let equal = |version: &&Version<L::Component>| version.digest == digest && version.is_for(asked);
        if let Some(version) = known.filter(equal) {
            return Ok(version.clone());
        }
        let Prepared { plugin, conduct } = self.loader.prepare(component, asked)?;
        Ok(Version {
            digest,
            component: component.clone(),
            plugin,
            conduct,
            binding: asked.binding.clone(),
            store_bytes: asked.plugin.store_bytes,
            unstable: asked.plugin.unstable,
            state: Arc::clone(asked.state),
            data: asked.data.clone(),
            secrets: asked.secrets.to_vec(),
        })
    }
}

impl<C> Draft<C> {
    /// The plugins of the draft, by binding.
    pub(crate) fn plugins(&self) -> BTreeMap<String, Arc<dyn Binding>> {
        self.bindings.iter().map(|(name, versions)| (name.clone(), versions.serving.clone())).collect()
    }

    /// The files that could not be used, as `binding: reason`. A version that is held back on purpose is not among
    /// them.
    pub(crate) fn reservations(&self) -> Vec<String> {
        let refused = self.bindings.iter().filter(|(_, versions)| versions.held.is_none());
        refused
            .filter_map(|(name, versions)| Some(format!("{name}: {}", versions.problem.as_ref()?)))
            .collect()
    }
}

impl WantedBinding<'_> {
    /// Refuses conditions on the identity for a plugin that decides before the identity is known, and any conditions for
    /// a plugin that observes.
    fn check_conditions(&self, contracts: Contracts) -> Result<(), Refused> {
        let lists = [("when", &self.binding.when), ("unless", &self.binding.unless)];
        let named = lists.iter().filter(|(_, list)| list.iter().any(model::Conditions::names_identity));
        let mut problems: Problems = named
            .filter(|_| contracts.decide_before_identity())
            .map(|(key, _)| Problem {
                key: format!("bindings.{}.{key}", self.name),
                ..Problem::new(format!(
                    "`{key}` has a condition on `subject` or `claims`, but the plugin `{}` authenticates: it decides before \
                     the identity is known",
                    self.binding.plugin
                ))
                .with_hint("use conditions on the request only, or bind a plugin that comes after authentication")
            })
            .collect();
        let unheeded = lists.iter().filter(|(_, list)| contracts.observe && !list.is_empty());
        problems.extend(unheeded.map(|(key, _)| {
            Problem {
                key: format!("bindings.{}.{key}", self.name),
                ..Problem::new(format!(
                    "the plugin `{}` observes finished exchanges, to which `{key}` does not apply",
                    self.binding.plugin
                ))
                .with_hint("bind it only to the routes that it may observe")
            }
        }));
        if problems.is_empty() { Ok(()) } else { Err(Refused::Settings(problems)) }
    }

    /// Refuses a component that exports other contracts than the binding grants or, if it names none, than the version in
    /// service: an operator who has bound a plugin that routes has not let it authenticate.
    fn check_contracts(&self, exported: Contracts, served: Option<Contracts>) -> Result<(), Refused> {
        let granted: Vec<&str> = match (&self.binding.grants.contracts, served) {
            (Some(named), _) => named.iter().map(String::as_str).collect(),
            (None, Some(served)) => served.names(),
            (None, None) => return Ok(()),
        };
        let further: Vec<&str> =
            exported.names().into_iter().filter(|name| !granted.contains(name)).collect();
        if further.is_empty() {
            return Ok(());
        }
        let all: Vec<String> = granted.iter().chain(&further).map(|name| format!("{name:?}")).collect();
        let (name, further) = (self.name, further.join("`, `"));
        let message = match self.binding.grants.contracts {
            Some(_) => format!("it exports contracts that the binding does not grant: `{further}`"),
            None => format!("it exports contracts that the version in service does not: `{further}`"),
        };
        let problem = Problem { key: format!("bindings.{name}.grants"), ..Problem::new(message) };
        Err(Refused::Component(vec![problem.with_hint(format!(
            "to let it serve them, write in [bindings.{name}]: grants.contracts = [{}]",
            all.join(", ")
        ))]))
    }

    fn cannot_be_loaded(&self, problem: Problem) -> Problem {
        let (name, plugin) = (self.name, &self.binding.plugin);
        let key = if problem.key.is_empty() { format!("plugins.{plugin}.{}", self.key) } else { problem.key };
        let look = || format!("inspect the file with `witgate plugin check {}`", self.plugin.file.display());
        Problem {
            message: format!(
                "the plugin `{plugin}` of binding `{name}` cannot be loaded: {}",
                problem.message
            ),
            hint: Some(problem.hint.unwrap_or_else(look)),
            span: problem.span,
            key,
        }
    }
}

impl Refused {
    /// The objections as one line.
    fn told(&self) -> String {
        let (Refused::Component(problems) | Refused::Settings(problems)) = self;
        let told = problems.iter().map(|problem| match problem.key.as_str() {
            "" => problem.message.clone(),
            key => format!("{key}: {}", problem.message),
        });
        told.collect::<Vec<_>>().join("; ")
    }
}

/// Why there is no version to put back.
fn no_previous<C>(name: &str, versions: &BindingVersions<C>) -> String {
    match &versions.held {
        Some(held) => format!(
            "there is no good version of the plugin of `{name}` in memory but the one in service; the one on disk was taken \
             back before ({}), `witgate reload --force` tries it again",
            held.reason
        ),
        None => {
            format!(
                "there is no version of the plugin of `{name}` in memory that served before and was good, that is, mostly \
                 answered its latest calls; to serve an older one all the same, put its file in place"
            )
        }
    }
}

/// Stand-ins for all bindings, for checking a configuration whose plugins were refused.
pub(crate) fn stand_ins(config: &Config) -> BTreeMap<String, Arc<dyn Binding>> {
    let stand_in = |(name, binding): (&String, &model::Binding)| {
        let plugin: Arc<dyn Binding> = Arc::new(Standin::new(name, binding, None));
        (name.clone(), plugin)
    };
    config.bindings.iter().map(stand_in).collect()
}

#[cfg(test)]
pub(crate) mod tests;
