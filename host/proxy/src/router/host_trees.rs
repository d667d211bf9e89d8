//! Values by host and path.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::pattern::Pattern;
use super::tree::{Tree, Visitor};

/// A tree of paths for each host.
pub(super) struct HostTrees<T> {
    hosts: HashMap<Box<str>, Tree<T>>,
    /// The key is what follows the wildcard label, e.g. `example` for `*.example`.
    wildcards: HashMap<Box<str>, Tree<T>>,
    any: Tree<T>,
}

impl<T> Default for HostTrees<T> {
    fn default() -> Self {
        HostTrees { hosts: HashMap::new(), wildcards: HashMap::new(), any: Tree::default() }
    }
}

impl<T: Default> HostTrees<T> {
    /// Changes the values of a pattern at each of these hosts; if there are none, that at any host.
    pub(super) fn place(&mut self, hosts: &[String], pattern: &Pattern, change: impl Fn(&mut T)) {
        if hosts.is_empty() {
            change(self.any.place(pattern));
        }
        for host in hosts {
            let tree = match host.strip_prefix("*.") {
                Some(parent) => self.wildcards.entry(parent.into()).or_default(),
                None => self.hosts.entry(host.as_str().into()).or_default(),
            };
            change(tree.place(pattern));
        }
    }
}

impl<T> HostTrees<T> {
    /// Visits every value.
    pub(super) fn for_each_mut(&mut self, visitor: &mut dyn FnMut(&mut T)) {
        let named = self.hosts.values_mut().chain(self.wildcards.values_mut());
        named.chain([&mut self.any]).for_each(|tree| tree.for_each_mut(visitor));
    }

    /// Visits the values whose host and pattern match, the most specific first, until the visitor breaks.
    pub(super) fn visit<'t, 'q>(
        &'t self,
        host: &str,
        path: &'q str,
        visitor: &mut Visitor<'_, 't, 'q, T>,
    ) -> ControlFlow<()> {
        let parent = || host.split_once('.').map(|(_, parent)| parent);
        let wildcard = if self.wildcards.is_empty() { None } else { parent() };
        let wildcard = wildcard.and_then(|parent| self.wildcards.get(parent));
        let trees = [self.hosts.get(host), wildcard, Some(&self.any)];
        trees.into_iter().flatten().try_for_each(|tree| tree.visit(path, visitor))
    }
}
