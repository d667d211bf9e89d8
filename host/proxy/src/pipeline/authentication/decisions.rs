//! Acceptances that may be used again without a call.
//!
//! Each core remembers its own, so nothing is locked. A decision is found by the version of the binding that made it
//! and by the SHA-256 of exactly the parts of the request it was based on: another binding, other settings, grants or
//! code never see it, and credentials are not kept. Decisions of a version are forgotten when another version of its
//! binding makes one. Entries, bytes and kinds of inputs are bounded; the oldest go first.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest::{Context, SHA256};
use http::HeaderName;

use crate::head::RequestHead;
use crate::pipeline::plugin::{Input, Plugin};
use crate::pipeline::validate::Invalid;

use super::Accepted;

/// Decisions a core remembers.
const ENTRIES: usize = 8192;
/// Bytes a core's remembered decisions may take, roughly.
const BYTES: usize = 8 << 20;
/// Different lists of inputs remembered for one version of a binding; each costs a digest per request.
const SHAPES: usize = 4;
/// Inputs a decision may be based on.
const PARTS: usize = 32;

thread_local! {
    static DECISIONS: RefCell<Decisions> = RefCell::new(Decisions::new(ENTRIES, BYTES));
}

/// A remembered acceptance that fits this request.
pub(super) fn recall(plugin: &Arc<dyn Plugin>, head: &RequestHead) -> Option<Rc<Accepted>> {
    DECISIONS
        .with_borrow(|decisions| decisions.recall(plugin.binding(), plugin.version(), head, Instant::now))
}

/// Remembers an acceptance, if it says that it may be.
pub(super) fn remember(plugin: &Arc<dyn Plugin>, head: &RequestHead, accepted: &Rc<Accepted>) {
    if accepted.cacheable_for.is_zero() || accepted.inputs.is_empty() || accepted.inputs.len() > PARTS {
        return;
    }
    let (binding, version) = (plugin.binding(), plugin.version());
    DECISIONS
        .with_borrow_mut(|decisions| decisions.remember(binding, version, head, accepted, Instant::now()));
}

/// A part of a request that a decision was based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Header(HeaderName),
    Method,
    Path,
    Query,
    Authority,
    ClientAddress,
    ClientCertificate,
}

impl Part {
    /// Takes a plugin's word for what it looked at.
    pub(super) fn check(input: Input) -> Result<Self, Invalid> {
        Ok(match input {
            Input::Header(name) => Part::Header(
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| Invalid::new("an input is not a header name"))?,
            ),
            Input::Method => Part::Method,
            Input::Path => Part::Path,
            Input::Query => Part::Query,
            Input::Authority => Part::Authority,
            Input::ClientAddress => Part::ClientAddress,
            Input::ClientCertificate => Part::ClientCertificate,
        })
    }

    /// Adds this part of a request to a digest. Lengths go first, so that no two requests read alike.
    fn digest(&self, head: &RequestHead, digest: &mut Context) {
        let mut add = |bytes: &[u8]| {
            digest.update(&(bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        match self {
            Part::Header(name) => {
                let values = head.headers.get_all(name);
                add(&values.iter().count().to_le_bytes());
                values.iter().for_each(|value| add(value.as_bytes()));
            }
            Part::Method => add(head.method.as_str().as_bytes()),
            Part::Path => add(head.path().as_bytes()),
            Part::Query => {
                add(&[u8::from(head.query().is_some())]);
                add(head.query().unwrap_or_default().as_bytes());
            }
            Part::Authority => add(head.authority.as_bytes()),
            Part::ClientAddress => match head.client.address {
                std::net::IpAddr::V4(address) => add(&address.octets()),
                std::net::IpAddr::V6(address) => add(&address.octets()),
            },
            Part::ClientCertificate => {
                let fingerprint = head.client.certificate.as_ref().map(|known| known.fingerprint.as_str());
                add(fingerprint.unwrap_or_default().as_bytes());
            }
        }
    }
}

type Key = [u8; 32];

/// Takes the first bytes of a key as its hash: a SHA-256 needs no second one.
#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // What came before is only the length, which is the same for all.
        if let Some((first, _)) = bytes.split_first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
}

fn key(parts: &[Part], head: &RequestHead) -> Key {
    let mut digest = Context::new(&SHA256);
    parts.iter().for_each(|part| part.digest(head, &mut digest));
    let mut key = Key::default();
    key.copy_from_slice(digest.finish().as_ref());
    key
}

/// What one core remembers.
struct Decisions {
    bindings: HashMap<Arc<str>, Remembered>,
    /// Every entry ever made that may still be there, oldest first.
    age: VecDeque<Aged>,
    bytes: usize,
    sequence: u64,
    entries_limit: usize,
    bytes_limit: usize,
}

/// The decisions of the version of a binding that made the last one.
#[derive(Default)]
struct Remembered {
    version: u64,
    shapes: Vec<Shape>,
}

/// The decisions that were based on the same parts.
struct Shape {
    parts: Box<[Part]>,
    entries: HashMap<Key, Entry, BuildHasherDefault<FirstBytes>>,
}

struct Entry {
    accepted: Rc<Accepted>,
    until: Instant,
    sequence: u64,
    size: usize,
}

struct Aged {
    binding: Arc<str>,
    key: Key,
    sequence: u64,
}

impl Decisions {
    fn new(entries_limit: usize, bytes_limit: usize) -> Self {
        Decisions {
            bindings: HashMap::new(),
            age: VecDeque::new(),
            bytes: 0,
            sequence: 0,
            entries_limit,
            bytes_limit,
        }
    }

    fn recall(
        &self,
        binding: &str,
        version: u64,
        head: &RequestHead,
        now: impl FnOnce() -> Instant,
    ) -> Option<Rc<Accepted>> {
        let remembered = self.bindings.get(binding).filter(|remembered| remembered.version == version)?;
        let now = now();
        remembered.shapes.iter().find_map(|shape| {
            let entry = shape.entries.get(&key(&shape.parts, head))?;
            (entry.until > now).then(|| Rc::clone(&entry.accepted))
        })
    }

    fn remember(
        &mut self,
        binding: &Arc<str>,
        version: u64,
        head: &RequestHead,
        accepted: &Rc<Accepted>,
        now: Instant,
    ) {
        let Some(until) = now.checked_add(accepted.cacheable_for) else { return };
        let size = accepted.size();
        if size > self.bytes_limit / 16 {
            return;
        }
        let remembered = self.bindings.entry(Arc::clone(binding)).or_default();
        if remembered.version != version {
            self.bytes -= remembered.size();
            *remembered = Remembered { version, shapes: Vec::new() };
        }
        let shapes = &mut remembered.shapes;
        let place = match shapes.iter().position(|shape| shape.parts == accepted.inputs) {
            Some(place) => place,
            None if shapes.len() == SHAPES => return,
            None => {
                shapes.push(Shape { parts: accepted.inputs.clone(), entries: HashMap::default() });
                shapes.len() - 1
            }
        };
        self.sequence += 1;
        let key = key(&accepted.inputs, head);
        let entry = Entry { accepted: Rc::clone(accepted), until, sequence: self.sequence, size };
        if let Some(replaced) = shapes[place].entries.insert(key, entry) {
            self.bytes -= replaced.size;
        }
        self.bytes += size;
        self.age.push_back(Aged { binding: Arc::clone(binding), key, sequence: self.sequence });
        while self.age.len() > self.entries_limit || self.bytes > self.bytes_limit {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(aged) = self.age.pop_front() else { return };
        let Some(remembered) = self.bindings.get_mut(&aged.binding) else { return };
        for shape in &mut remembered.shapes {
            if shape.entries.get(&aged.key).is_some_and(|entry| entry.sequence == aged.sequence)
                && let Some(entry) = shape.entries.remove(&aged.key)
            {
                self.bytes -= entry.size;
            }
        }
        remembered.shapes.retain(|shape| !shape.entries.is_empty());
        if remembered.shapes.is_empty() {
            self.bindings.remove(&aged.binding);
        }
    }
}

impl Remembered {
    fn size(&self) -> usize {
        self.shapes.iter().flat_map(|shape| shape.entries.values()).map(|entry| entry.size).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::*;
    use crate::testing;

    fn accepted(inputs: &[Part]) -> Rc<Accepted> {
        Rc::new(Accepted {
            subject: "ann".to_owned(),
            claims: Vec::new(),
            response_headers: Vec::new(),
            cacheable_for: Duration::from_secs(10),
            inputs: inputs.into(),
        })
    }

    fn head(path: &str) -> RequestHead {
        testing::head(Method::GET, path, &[])
    }

    fn binding() -> Arc<str> {
        "key".into()
    }

    #[test]
    fn decisions_expire() {
        let mut decisions = Decisions::new(8, 8 << 10);
        let begun = Instant::now();
        decisions.remember(&binding(), 1, &head("/"), &accepted(&[Part::Path]), begun);
        let at = |seconds| move || begun + Duration::from_secs(seconds);
        assert!(decisions.recall("key", 1, &head("/"), at(9)).is_some());
        assert!(decisions.recall("key", 1, &head("/"), at(10)).is_none());
        assert!(decisions.recall("key", 2, &head("/"), at(0)).is_none());
        assert!(decisions.recall("other", 1, &head("/"), at(0)).is_none());
    }

    #[test]
    fn another_version_makes_the_one_before_forgotten() {
        let mut decisions = Decisions::new(1000, 1 << 20);
        let now = Instant::now();
        for version in 1..50 {
            for path in ["/a", "/b", "/a"] {
                decisions.remember(&binding(), version, &head(path), &accepted(&[Part::Path]), now);
            }
        }
        assert_eq!(decisions.bytes, decisions.bindings["key"].size());
        assert_eq!(decisions.bindings["key"].shapes[0].entries.len(), 2);
        assert!(decisions.recall("key", 49, &head("/a"), || now).is_some());
        assert!(decisions.recall("key", 48, &head("/a"), || now).is_none());
    }

    #[test]
    fn the_oldest_go_first_and_leave_nothing_behind() {
        let mut decisions = Decisions::new(4, 1 << 20);
        let now = Instant::now();
        for number in 0..100 {
            let binding = Arc::from(format!("binding {number}"));
            for path in ["/a", "/b", "/a"] {
                decisions.remember(&binding, 1, &head(path), &accepted(&[Part::Path]), now);
            }
        }
        assert!(decisions.age.len() <= 4 && decisions.bindings.len() <= 2);
        assert_eq!(decisions.bytes, decisions.bindings.values().map(Remembered::size).sum::<usize>());
        assert!(decisions.recall("binding 99", 1, &head("/a"), || now).is_some());
        assert!(decisions.recall("binding 0", 1, &head("/a"), || now).is_none());
    }

    #[test]
    fn bytes_and_shapes_are_bounded() {
        let mut decisions = Decisions::new(10_000, 64 << 10);
        let now = Instant::now();
        for number in 0..1000 {
            let head = head(&format!("/{number}"));
            decisions.remember(&binding(), 1, &head, &accepted(&[Part::Path]), now);
        }
        assert!(decisions.bytes <= 64 << 10);
        let shapes =
            [&[Part::Path][..], &[Part::Query], &[Part::Method], &[Part::Authority], &[Part::ClientAddress]];
        for shape in shapes {
            decisions.remember(&binding(), 2, &head("/"), &accepted(shape), now);
        }
        assert_eq!(decisions.bindings["key"].shapes.len(), SHAPES);
    }
}
