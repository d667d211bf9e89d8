//! A tree over path segments that visits every matching node, the most specific first.
//!
//! Why not a radix router such as matchit: it finds one node only, but a node whose routes refuse the request (by
//! method, header or query) must not hide a less specific node whose routes would take it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::pattern::{End, Pattern, Segment, decode};

/// Values by path pattern. The cost of a visit depends on the segments of the path, not on the number of patterns.
#[derive(Debug)]
pub(super) struct Tree<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    literals: HashMap<Box<str>, Node<T>>,
    parameter: Option<Box<Node<T>>>,
    exact: Option<T>,
    tail: Option<T>,
    prefix: Option<T>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Tree { root: Node::default() }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Node { literals: HashMap::new(), parameter: None, exact: None, tail: None, prefix: None }
    }
}

impl<T: Default> Tree<T> {
    /// The value of a pattern, created if necessary. Patterns that differ only in the names of parameters share
    /// one.
    pub(super) fn place(&mut self, pattern: &Pattern) -> &mut T {
        let node = pattern.segments.iter().fold(&mut self.root, |node, segment| match segment {
            Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
            Segment::Parameter(_) => node.parameter.get_or_insert_default(),
        });
        match pattern.end {
            End::Exact => node.exact.get_or_insert_default(),
            End::Tail(_) => node.tail.get_or_insert_default(),
            End::Prefix => node.prefix.get_or_insert_default(),
        }
    }
}

/// Called with a value, and the raw values of its path parameters from the left.
pub(super) type Visitor<'v, 't, 'p, T> = dyn FnMut(&'t T, &[&'p str]) -> ControlFlow<()> + 'v;

impl<T> Tree<T> {
    /// Visits the values whose patterns match a path, the most specific first, until the visitor breaks.
    ///
    /// Segment by segment from the left, a literal comes before a parameter, a parameter before a tail, a tail
    /// before a prefix; so of two prefixes the longer comes first.
    pub(super) fn visit<'t, 'p>(
        &'t self,
        path: &'p str,
        visitor: &mut Visitor<'_, 't, 'p, T>,
    ) -> ControlFlow<()> {
        match path.strip_prefix('/') {
            Some(rest) => self.root.visit(Some(rest), &mut Vec::new(), visitor),
            None => ControlFlow::Continue(()),
        }
    }

    /// Visits every value.
    pub(super) fn for_each_mut(&mut self, visitor: &mut dyn FnMut(&mut T)) {
        self.root.for_each_mut(visitor);
    }
}

impl<T> Node<T> {
    /// `rest` is the path after the segments that led to this node; `None` at the end of the path.
    fn visit<'t, 'p>(
        &'t self,
        rest: Option<&'p str>,
        captured: &mut Vec<&'p str>,
        visitor: &mut Visitor<'_, 't, 'p, T>,
    ) -> ControlFlow<()> {
        match rest {
            None => offer(&self.exact, captured, visitor)?,
            Some(rest) => {
                self.descend(rest, captured, visitor)?;
                if let Some(tail) = &self.tail {
                    captured.push(rest);
                    visitor(tail, captured)?;
                    captured.pop();
                }
            }
        }
        offer(&self.prefix, captured, visitor)
    }

    fn descend<'t, 'p>(
        &'t self,
        rest: &'p str,
        captured: &mut Vec<&'p str>,
        visitor: &mut Visitor<'_, 't, 'p, T>,
    ) -> ControlFlow<()> {
        if self.literals.is_empty() && self.parameter.is_none() {
            return ControlFlow::Continue(());
        }
        let (segment, rest) = match rest.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        if let Some(node) = self.literals.get(decode(segment).as_ref()) {
            node.visit(rest, captured, visitor)?;
        }
        if let Some(node) = self.parameter.as_ref().filter(|_| !segment.is_empty()) {
            captured.push(segment);
            node.visit(rest, captured, visitor)?;
            captured.pop();
        }
        ControlFlow::Continue(())
    }

    fn for_each_mut(&mut self, visitor: &mut dyn FnMut(&mut T)) {
        [&mut self.exact, &mut self.tail, &mut self.prefix].into_iter().flatten().for_each(&mut *visitor);
        for node in self.literals.values_mut().chain(self.parameter.as_deref_mut()) {
            node.for_each_mut(visitor);
        }
    }
}

fn offer<'t, 'p, T>(
    place: &'t Option<T>,
    captured: &[&'p str],
    visitor: &mut Visitor<'_, 't, 'p, T>,
) -> ControlFlow<()> {
    match place {
        Some(place) => visitor(place, captured),
        None => ControlFlow::Continue(()),
    }
}
