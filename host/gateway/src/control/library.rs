//! The plugins in service, the versions before them, and what a reload makes of both.
//!
//! A reload works on a [`Draft`]: which version each binding would have. Nothing changes until the draft is kept. A version
//! in service that stays as it is is carried over as the very same object, so that its warm instances, trial and quarantine
//! live on. Whatever else is put in service by a reload is made anew and on trial, however often it served before; only going
//! back to the last good version takes that one as it is, because it is kept warm for this.

mod candidates;
pub(crate) mod source;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;

use witgate_config::model::{self, Start};
use witgate_config::{Config, Problem, Problems};
use witgate_proxy::contracts::state::State;
use witgate_proxy::contracts::{Binding, Contracts};
use witgate_wasm::Calls;

use super::standin::Standin;
use super::states::States;
use super::status::{BindingState, BindingStatus};
use super::wanted::Force;
use candidates::Candidate;
use source::{Fetches, PluginSource, SourceKind};
use versions::{BindingVersions, HeldBack, Version};

/// SHA-256 of a component's file.
pub(crate) type FileDigest = [u8; 32];

/// Makes plugins of files. The runtime in service; something simpler in the tests of this module.
pub(crate) trait Loader {
    /// A compiled component that bindings can be made of.
    type Component: Clone;

    /// Begins a draft for a configuration. With `force`, files that were refused before are tried again.
    fn begin(&self, config: &model::Gateway, force: bool);

    /// Compiles a component. One that was refused before is refused in the same words, without being tried again.
    ///
    /// # Errors
    /// Why the file is refused: not a component, of another world, imports that nobody serves.
    fn compile(&self, asked: &WantedBinding<'_>, bytes: &[u8]) -> Result<Self::Component, Problems>;

    /// Which contracts a component exports.
    fn contracts(&self, component: &Self::Component) -> Contracts;

    /// Makes a binding of a component: checks grants, configures a first instance.
    ///
    /// # Errors
    /// Why this component cannot serve this binding.
    fn prepare(&self, component: &Self::Component, asked: &WantedBinding<'_>) -> Result<Prepared, Refused>;
}

/// A plugin for one binding, seen from two sides.
#[derive(Clone)]
pub(crate) struct Prepared {
    /// What requests call.
    pub(crate) plugin: Arc<dyn Binding>,
    /// How it does.
    pub(crate) conduct: Arc<dyn Conduct>,
}

/// How a version of a binding does in service. It notes that itself and asks to be taken back; which version serves is
/// decided here.
pub(crate) trait Conduct: Send + Sync {
    /// The latest of its calls that say something about it.
    fn latest_calls(&self) -> Calls;

    /// It is about to be put in service, in place of a version whose latest calls these are.
    fn begin_trial(&self, before: Calls);

    /// Whether it is on trial.
    fn is_on_trial(&self) -> bool;

    /// It is about to be put back in service, in place of a version that was taken back.
    fn put_back(&self);

    /// Whether it may be gone back to: it was not to be taken back, is not in quarantine, and has answered most of its
    /// latest calls, if there were any; if it is on trial still, it has answered calls and failed no more often than the
    /// version before.
    fn is_good(&self) -> bool;
}

/// A binding as a configuration asks for it.
pub(crate) struct WantedBinding<'c> {
    /// Its name.
    pub(crate) name: &'c str,
    /// Settings, grants, budgets.
    pub(crate) binding: &'c model::Binding,
    /// The declared plugin.
    pub(crate) plugin: &'c model::Plugin,
    /// Where the plugin's bytes come from.
    pub(crate) source: Arc<dyn PluginSource>,
    /// The key that says so.
    key: &'static str,
    /// Where the plugin's store is kept.
    pub(crate) state: &'c Arc<dyn State>,
    /// Whether a stand-in may take its place.
    start: Start,
}

/// What plugins are drafted for.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'c> {
    /// What is configured.
    pub(crate) config: &'c Config,
    /// Where stores are kept.
    pub(crate) states: &'c States,
}

/// Why a component cannot serve a binding.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Its settings are wrong. Each problem has a place in a file.
    Settings(Problems),
    /// It cannot be loaded, or asks for what it is not granted.
    Component(Problems),
}

/// The plugins in service. A clone is what they were at one moment, for a thread that works on a draft.
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

/// What a change would put in service.
pub(crate) struct Draft<C> {
    bindings: BTreeMap<String, BindingVersions<C>>,
}

/// Why there is no draft. Files that were refused are told apart, because they have an exit code of their own.
#[derive(Debug, Default)]
pub(crate) struct Objections {
    /// Mistakes in the configuration.
    pub(crate) configuration: Problems,
    /// Plugins that cannot be loaded and of which there is no earlier version.
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

    /// What the files and a configuration would put in service. Versions that were rolled back or reverted are tried again
    /// as `force` says.
    ///
    /// # Errors
    /// Bindings for which there is neither the version on disk nor an earlier one, and mistakes in the configuration.
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

    /// What would be in service with the last good version of one binding before the one in service. The version that
    /// is taken back is not tried again until its file changes, and is never gone back to.
    ///
    /// # Errors
    /// There is no such binding, no good version before, or it cannot serve with the settings of now.
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

    /// Keeps a draft that is in service now.
    pub(crate) fn keep(&mut self, draft: Draft<L::Component>) {
        self.bindings = draft.bindings;
    }

    /// Whether this version of a binding serves, and there is one before it.
    pub(crate) fn can_revert(&self, binding: &str, version: u64) -> bool {
        self.bindings.get(binding).is_some_and(|versions| {
            versions.serving.version() == version && versions.good_previous().is_some()
        })
    }

    /// Whether the previous version of a binding was made for the settings of now, so that putting it back runs no code of
    /// its own. Also true where there is nothing to put back, which is found out as quickly.
    pub(crate) fn previous_is_ready(&self, name: &str, plan: Plan<'_>) -> bool {
        let asked = self.wanted_bindings(plan).find(|asked| asked.name == name);
        let previous = self.bindings.get(name).and_then(|versions| versions.previous.as_ref());
        asked.zip(previous).is_none_or(|(asked, previous)| previous.is_for(&asked))
    }

    /// The state of every binding.
    pub(crate) fn status(&self) -> Vec<BindingStatus> {
        self.bindings.iter().map(|(name, versions)| versions.status(name)).collect()
    }

    /// Decides which version a binding gets: that on disk, else the one in service, else a stand-in if that is allowed.
    ///
    /// What serves a binding is the binding's, whatever its plugin is called: another `plugin` key is one more version of
    /// it, which is on trial against the one in service and held back if it was taken back before. Only where the plugin
    /// that the configuration names now cannot be loaded, one of another name is no last good version of it.
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
            let version = self.version(asked, current.digest, &current.component, Some(current))?;
            let reason = Some(held.reason.clone());
            return Ok(BindingVersions::of(asked, before, version, held.state, reason, Some(held.clone())));
        }
        let refused = match self.version_on_disk(asked, candidate, current) {
            Ok(version) => {
                let versions = BindingVersions::of(asked, before, version, BindingState::Current, None, None);
                versions.try_out(current);
                return Ok(versions);
            }
            Err(refused) => refused,
        };
        let same_plugin = before.is_some_and(|versions| versions.plugin == asked.binding.plugin);
        match (current, refused) {
            (Some(current), refused) if same_plugin && Some(current.digest) != candidate.digest => {
                let version = self.version(asked, current.digest, &current.component, Some(current))?;
                Ok(BindingVersions::of(
                    asked,
                    before,
                    version,
                    BindingState::LastGood,
                    Some(refused.told()),
                    None,
                ))
            }
            (None, refused @ Refused::Component(_)) if asked.start == Start::Degraded => {
                let contracts =
                    candidate.component.as_ref().ok().map(|component| self.loader.contracts(component));
                let standin = Standin::new(asked.name, asked.binding, contracts);
                Ok(BindingVersions::without_version(asked, Arc::new(standin), refused.told()))
            }
            (_, refused) => Err(refused),
        }
    }

    fn version_on_disk(
        &self,
        asked: &WantedBinding<'_>,
        candidate: &Candidate<L::Component>,
        current: Option<&Version<L::Component>>,
    ) -> Result<Version<L::Component>, Refused> {
        let component =
            candidate.component.as_ref().map_err(|problems| Refused::Component(problems.clone()))?;
        let digest = candidate.digest.unwrap_or_default();
        self.version(asked, digest, component, current)
    }

    /// The version with this digest and the settings of now: the `known` one if all is equal, else a new one.
    fn version(
        &self,
        asked: &WantedBinding<'_>,
        digest: FileDigest,
        component: &L::Component,
        known: Option<&Version<L::Component>>,
    ) -> Result<Version<L::Component>, Refused> {
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
            state: Arc::clone(asked.state),
        })
    }
}

impl<C> Draft<C> {
    /// The plugins of the draft, by binding.
    pub(crate) fn plugins(&self) -> BTreeMap<String, Arc<dyn Binding>> {
        self.bindings.iter().map(|(name, versions)| (name.clone(), versions.serving.clone())).collect()
    }

    /// What of the files could not be taken, as `binding: reason`. A version that is held back on purpose is none of it.
    pub(crate) fn reservations(&self) -> Vec<String> {
        let refused = self.bindings.iter().filter(|(_, versions)| versions.held.is_none());
        refused
            .filter_map(|(name, versions)| Some(format!("{name}: {}", versions.problem.as_ref()?)))
            .collect()
    }
}

impl WantedBinding<'_> {
    fn cannot_be_loaded(&self, problem: Problem) -> Problem {
        let (name, plugin) = (self.name, &self.binding.plugin);
        let key = if problem.key.is_empty() { format!("plugins.{plugin}.{}", self.key) } else { problem.key };
        let look = || format!("`witgate plugin check {}` tells what the file is", self.plugin.file.display());
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
    /// In words, for the places where there is one line for it.
    fn told(&self) -> String {
        let (Refused::Component(problems) | Refused::Settings(problems)) = self;
        let told = problems.iter().map(|problem| match problem.key.as_str() {
            "" => problem.message.clone(),
            key => format!("{key}: {}", problem.message),
        });
        told.collect::<Vec<_>>().join("; ")
    }
}

/// Why there is nothing to go back to.
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

/// Stand-ins for all bindings, for looking at a configuration whose plugins were refused.
pub(crate) fn stand_ins(config: &Config) -> BTreeMap<String, Arc<dyn Binding>> {
    let stand_in = |(name, binding): (&String, &model::Binding)| {
        let plugin: Arc<dyn Binding> = Arc::new(Standin::new(name, binding, None));
        (name.clone(), plugin)
    };
    config.bindings.iter().map(stand_in).collect()
}

#[cfg(test)]
pub(crate) mod tests;
