//! Fetching and compiling the plugins of a draft.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use witgate_config::{Problem, Problems};

use super::source::{self, FetchHandle};
use super::versions::BindingVersions;
use super::{FileDigest, Library, Loader, Plan, WantedBinding};
use crate::control::status::hexadecimal;

/// The most sources that are fetched at the same time. Their bytes are in memory until they are compiled.
const AT_ONCE: usize = 8;

/// A plugin of this draft. It is fetched and compiled at most once, however many bindings use it.
pub(super) struct Candidate<C> {
    pub(super) digest: Option<FileDigest>,
    pub(super) component: Result<C, Problems>,
}

impl<L: Loader> Library<L> {
    /// Fetches and compiles the plugins of all bindings, by the name of the plugin. Several are fetched at the
    /// same time, so that several hanging sources delay a load no longer than one.
    pub(super) fn candidates(&self, plan: Plan<'_>) -> BTreeMap<String, Candidate<L::Component>> {
        // One binding of each plugin, and whether any of its bindings has no version in service yet.
        let mut plugins: BTreeMap<&str, (WantedBinding<'_>, bool)> = BTreeMap::new();
        for asked in self.wanted_bindings(plan) {
            let needs = !self.serves(&asked);
            plugins.entry(&asked.binding.plugin).or_insert((asked, false)).1 |= needs;
        }
        let plugins: Vec<_> = plugins.into_iter().collect();
        let mut candidates = BTreeMap::new();
        for some in plugins.chunks(AT_ONCE) {
            let handles: Vec<_> =
                some.iter().map(|(_, (asked, _))| self.fetches.begin(&asked.source)).collect();
            for ((plugin, (asked, needed)), handle) in some.iter().zip(handles) {
                candidates.insert((*plugin).to_owned(), self.candidate(asked, &handle, *needed));
            }
        }
        candidates
    }

    fn candidate(
        &self,
        asked: &WantedBinding<'_>,
        handle: &FetchHandle,
        needed: bool,
    ) -> Candidate<L::Component> {
        let refused =
            |digest, reason: String| Candidate { digest, component: Err(vec![Problem::new(reason)]) };
        let name = asked.source.name();
        let bytes = match handle.wait(needed) {
            Ok(bytes) => bytes,
            Err(error) => return refused(None, format!("{name} {error}")),
        };
        let digest: FileDigest = Sha256::digest(&*bytes).into();
        if let Some(pinned) = asked.plugin.digest.filter(|pinned| *pinned != digest) {
            let (found, pinned) = (hexadecimal(&digest), hexadecimal(&pinned));
            return refused(
                Some(digest),
                format!("{name} has the digest {found}, but `digest` requires {pinned}"),
            );
        }
        let mut known = self.bindings.values().flat_map(BindingVersions::components);
        let component = match known.find(|(known, _)| *known == digest) {
            Some((_, component)) => Ok(component.clone()),
            None => self.loader.compile(asked, &bytes).map_err(|problems| {
                let named =
                    |problem: Problem| Problem { message: format!("{name}: {}", problem.message), ..problem };
                problems.into_iter().map(named).collect()
            }),
        };
        Candidate { digest: Some(digest), component }
    }

    /// Whether a version of the plugin is in service for the binding.
    fn serves(&self, asked: &WantedBinding<'_>) -> bool {
        let versions = self.bindings.get(asked.name);
        versions.is_some_and(|versions| versions.plugin == asked.binding.plugin && versions.current.is_some())
    }

    /// The bindings of a configuration.
    pub(super) fn wanted_bindings<'c>(
        &self,
        plan: Plan<'c>,
    ) -> impl Iterator<Item = WantedBinding<'c>> + use<'c, L> {
        let (Plan { config, states, data }, sources) = (plan, self.sources);
        config.bindings.iter().filter_map(move |(name, binding)| {
            let plugin = config.plugins.get(&binding.plugin)?;
            let (key, source) = source::of(sources, config, plugin)?;
            let (state, start) = (states.of_plugin(plugin), config.gateway.start);
            let granted = binding.grants.data.iter().flatten();
            let data = granted.filter_map(|name| Some((name.clone(), Arc::clone(data.get(name)?)))).collect();
            let secrets = &config.gateway.secrets[..];
            Some(WantedBinding { name, binding, plugin, key, source, state, data, secrets, start })
        })
    }
}
