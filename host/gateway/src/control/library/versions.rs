//! The versions of one binding.

use std::collections::BTreeMap;
use std::sync::Arc;

use witgate_config::model;
use witgate_exchange::contracts::state::State;
use witgate_exchange::contracts::{Binding, Contracts};
use witgate_wasm::Data;

use super::{Conduct, FileDigest, WantedBinding};
use crate::control::status::{BindingState, BindingStatus, hexadecimal};

/// The version in service of a binding, and the versions before it.
#[derive(Clone)]
pub(super) struct BindingVersions<C> {
    /// Name of the declared plugin.
    pub(super) plugin: String,
    /// The name of the source of its bytes.
    file: String,
    /// The plugin in service: the current version, or a stand-in.
    pub(super) serving: Arc<dyn Binding>,
    /// The version in service; `None` while a stand-in serves.
    pub(super) current: Option<Version<C>>,
    /// The last version of another file that was in service and good, which means neither rolled back nor
    /// reverted. Its instances are kept.
    pub(super) previous: Option<Version<C>>,
    state: BindingState,
    /// A version that is not tried again until the file changes.
    pub(super) held: Option<HeldBack<C>>,
    /// Why the version on disk is not in service.
    pub(super) problem: Option<String>,
}

/// One version of one binding: a component, and the plugin made from it with certain settings.
#[derive(Clone)]
pub(super) struct Version<C> {
    pub(super) digest: FileDigest,
    pub(super) component: C,
    pub(super) plugin: Arc<dyn Binding>,
    pub(super) conduct: Arc<dyn Conduct>,
    pub(super) binding: model::Binding,
    pub(super) store_bytes: usize,
    /// Whether it was allowed to use a draft version of the contracts.
    pub(super) unstable: bool,
    /// Where its store is kept.
    pub(super) state: Arc<dyn State>,
    /// The contents of the files that it may read.
    pub(super) data: BTreeMap<String, Arc<Data>>,
    /// The secrets of the fleet, from which keys for sealing were derived.
    pub(super) secrets: Vec<model::Secret>,
}

impl<C> Version<C> {
    /// Whether it was made with the same settings, grants, budgets, state and data as this binding has now.
    pub(super) fn is_for(&self, asked: &WantedBinding<'_>) -> bool {
        let same = |(one, other): (&Arc<Data>, &Arc<Data>)| Arc::ptr_eq(one, other);
        self.is_for_all_but_data(asked) && self.data.values().zip(asked.data.values()).all(same)
    }

    /// Whether it was made for this binding, however the contents of its files have changed since. Which requests the
    /// binding is for is decided outside of the version.
    pub(super) fn is_for_all_but_data(&self, asked: &WantedBinding<'_>) -> bool {
        let (when, unless) = (asked.binding.when.clone(), asked.binding.unless.clone());
        let now = model::Binding { when, unless, ..self.binding.clone() };
        now == *asked.binding
            && self.store_bytes == asked.plugin.store_bytes
            && self.unstable == asked.plugin.unstable
            && Arc::ptr_eq(&self.state, asked.state)
            && self.secrets == asked.secrets
            && self.data.keys().eq(asked.data.keys())
    }
}

/// A version that was taken out of service although its file still exists.
#[derive(Clone)]
pub(super) struct HeldBack<C> {
    pub(super) digest: FileDigest,
    /// Kept so that a reload need not compile it again only to hold it back. Its instances are dropped.
    pub(super) component: C,
    pub(super) state: BindingState,
    pub(super) reason: String,
}

impl<C: Clone> BindingVersions<C> {
    /// Puts this version in service. The version in service before becomes the previous one if it has another file
    /// and was good. Otherwise its own previous version is kept.
    pub(super) fn of(
        asked: &WantedBinding<'_>,
        before: Option<&BindingVersions<C>>,
        version: Version<C>,
        state: BindingState,
        problem: Option<String>,
        held: Option<HeldBack<C>>,
    ) -> Self {
        let served =
            before.and_then(|versions| versions.current.as_ref().filter(|current| current.conduct.is_good()));
        let earlier = before.and_then(|versions| versions.previous.as_ref());
        let other = |known: &&Version<C>| known.digest != version.digest;
        let previous = served.filter(other).or(earlier.filter(other)).cloned();
        let serving = version.plugin.clone();
        let (plugin, file) = (asked.binding.plugin.clone(), asked.source.name());
        BindingVersions { plugin, file, serving, current: Some(version), previous, state, held, problem }
    }

    /// Puts the previous version back in service, and holds back the one that is replaced. There is no previous
    /// version afterwards.
    pub(super) fn put_back(asked: &WantedBinding<'_>, version: Version<C>, held: HeldBack<C>) -> Self {
        let (state, reason) = (held.state, held.reason.clone());
        Self::of(asked, None, version, state, Some(reason), Some(held))
    }

    /// Begins the trial of the version in service, unless it is the same as `before`: against the version to which
    /// it would be reverted.
    ///
    /// New settings for a file that has passed its trial are the operator's decision, and an older file would not
    /// help. While the file is on trial, new settings begin the trial anew.
    pub(super) fn try_out(&self, before: Option<&Version<C>>) {
        let (Some(current), Some(previous)) = (&self.current, &self.previous) else { return };
        let tried = before.is_some_and(|before| {
            Arc::ptr_eq(&before.conduct, &current.conduct)
                || (before.digest == current.digest && !before.conduct.is_on_trial())
        });
        if !tried {
            current.conduct.begin_trial(previous.conduct.latest_calls());
        }
    }

    /// A binding whose only version is a stand-in.
    pub(super) fn without_version(
        asked: &WantedBinding<'_>,
        serving: Arc<dyn Binding>,
        problem: String,
    ) -> Self {
        BindingVersions {
            plugin: asked.binding.plugin.clone(),
            file: asked.source.name(),
            serving,
            current: None,
            previous: None,
            state: BindingState::Unavailable,
            held: None,
            problem: Some(problem),
        }
    }
}

impl<C> BindingVersions<C> {
    /// The previous version, if it is still good. Calls that ended after it was replaced count too.
    pub(super) fn good_previous(&self) -> Option<&Version<C>> {
        self.previous.as_ref().filter(|previous| previous.conduct.is_good())
    }

    /// The components of all versions.
    pub(super) fn components(&self) -> impl Iterator<Item = (FileDigest, &C)> {
        let versions = [&self.current, &self.previous].into_iter().flatten();
        let held = self.held.iter().map(|held| (held.digest, &held.component));
        versions.map(|version| (version.digest, &version.component)).chain(held)
    }

    /// The part of `witgate status` about this binding.
    pub(super) fn status(&self, name: &str) -> BindingStatus {
        let digest =
            |version: &Option<Version<C>>| version.as_ref().map(|version| hexadecimal(&version.digest));
        BindingStatus {
            binding: name.to_owned(),
            plugin: self.plugin.clone(),
            file: self.file.clone(),
            state: self.state,
            digest: digest(&self.current),
            previous: digest(&self.previous),
            contracts: Contracts::of(&self.serving).names().into_iter().map(str::to_owned).collect(),
            ungranted_credentials: self.serving.credentials().ungranted().to_vec(),
            problem: self.problem.clone(),
            quarantine: None,
        }
    }
}
