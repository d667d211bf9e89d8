//! The versions of one binding.

use std::path::PathBuf;
use std::sync::Arc;

use witgate_config::model::Binding;
use witgate_proxy::pipeline::plugin::Plugin;

use super::{Asked, FileDigest, contract_names};
use crate::control::status::{BindingState, BindingStatus, hexadecimal};

/// What serves a binding, and what served it before.
#[derive(Clone)]
pub(super) struct Shelf<C> {
    /// Name of the declared plugin.
    pub(super) plugin: String,
    file: PathBuf,
    /// What serves: the current version, or a stand-in.
    pub(super) serving: Arc<dyn Plugin>,
    /// The version in service; none while a stand-in serves.
    pub(super) current: Option<Version<C>>,
    /// The version of another file that was in service before; it stays warm.
    pub(super) previous: Option<Version<C>>,
    state: BindingState,
    /// A version that is not to be tried again until the file changes.
    pub(super) held: Option<Held>,
    /// Why the version on disk is not the one in service.
    pub(super) problem: Option<String>,
}

/// One version of one binding: a component, and the plugin made of it for certain settings.
#[derive(Clone)]
pub(super) struct Version<C> {
    pub(super) digest: FileDigest,
    pub(super) component: C,
    pub(super) plugin: Arc<dyn Plugin>,
    pub(super) binding: Binding,
    pub(super) store_bytes: usize,
}

impl<C> Version<C> {
    /// Whether it was made for exactly this: the same settings, grants, budgets.
    pub(super) fn is_for(&self, asked: &Asked<'_>) -> bool {
        self.binding == *asked.binding && self.store_bytes == asked.plugin.store_bytes
    }
}

/// A version that was taken out of service although its file is still there.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) digest: FileDigest,
    pub(super) state: BindingState,
    pub(super) reason: String,
}

impl<C: Clone> Shelf<C> {
    /// A shelf with this version in service. What served `before` becomes the previous version, if it was another file.
    pub(super) fn of(
        asked: &Asked<'_>,
        before: Option<&Shelf<C>>,
        version: Version<C>,
        state: BindingState,
        problem: Option<String>,
        held: Option<Held>,
    ) -> Self {
        let previous = before.and_then(|shelf| match &shelf.current {
            Some(current) if current.digest != version.digest => Some(current.clone()),
            _ => shelf.previous.clone(),
        });
        let serving = version.plugin.clone();
        let (plugin, file) = (asked.binding.plugin.clone(), asked.file.clone());
        Shelf { plugin, file, serving, current: Some(version), previous, state, held, problem }
    }

    /// A shelf on which nothing could be put but a stand-in.
    pub(super) fn without_version(asked: &Asked<'_>, serving: Arc<dyn Plugin>, problem: String) -> Self {
        Shelf {
            plugin: asked.binding.plugin.clone(),
            file: asked.file.clone(),
            serving,
            current: None,
            previous: None,
            state: BindingState::Unavailable,
            held: None,
            problem: Some(problem),
        }
    }
}

impl<C> Shelf<C> {
    /// The versions that are kept.
    pub(super) fn versions(&self) -> [Option<&Version<C>>; 2] {
        [self.current.as_ref(), self.previous.as_ref()]
    }

    /// What `witgate status` tells of it.
    pub(super) fn status(&self, name: &str) -> BindingStatus {
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
