//! Whether a value fits a schema, and what does not fit where.

use std::cmp::Ordering;
use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::schema::{Id, Node, Schemas, Type, escaped};
use crate::value::{canonical, compare, integer, is_multiple};

/// The most schemas that are applied to the parts of one value, and how deep they may lie in each other.
const MOST: (u32, u32) = (500_000, 300);

/// The longest pointer of an error, in bytes.
const POINTER: usize = 300;

/// Something that does not fit.
#[derive(Debug, PartialEq)]
pub(crate) struct Misfit {
    /// Where, as a JSON Pointer into the value.
    pub(crate) pointer: String,
    /// What is expected there. It does not quote the value, which may be a secret.
    pub(crate) message: String,
}

/// A part of a pointer.
#[derive(Clone, Copy)]
enum Step<'v> {
    Name(&'v str),
    Index(usize),
}

/// What a check found.
pub(crate) struct Found {
    /// At most as many as were asked for.
    pub(crate) misfits: Vec<Misfit>,
    /// Whether there may be more of them.
    pub(crate) more: bool,
}

/// Checks a value; finds at most `most` misfits. None: it fits.
pub(crate) fn check(schemas: &Schemas, id: Id, value: &Value, most: usize) -> Found {
    let mut check = Check { schemas, misfits: Vec::new(), most, path: Vec::new(), left: MOST.0, depth: 0 };
    let fits = check.fits(value, id, false);
    if !fits && check.misfits.is_empty() {
        let message = "it takes too many steps to check this value".to_owned();
        check.misfits.push(Misfit { pointer: String::new(), message });
    }
    let more = check.misfits.len() >= most;
    Found { misfits: check.misfits, more }
}

struct Check<'s, 'v> {
    schemas: &'s Schemas,
    misfits: Vec<Misfit>,
    most: usize,
    path: Vec<Step<'v>>,
    left: u32,
    depth: u32,
}

impl<'v> Check<'_, 'v> {
    /// Whether a value fits. `quiet`: nothing is noted, because another schema may fit.
    fn fits(&mut self, value: &'v Value, id: Id, quiet: bool) -> bool {
        // A check that is given up has no result: nothing that is built on it may fit.
        self.left = if self.depth < MOST.1 { self.left.saturating_sub(1) } else { 0 };
        if self.left == 0 || (!quiet && self.misfits.len() >= self.most) {
            return false;
        }
        self.depth += 1;
        let schemas = self.schemas;
        let node = &schemas.nodes[id];
        let mut fits = self.is_of_type(value, node, quiet);
        // What has the wrong type has nothing else that could be told.
        if fits {
            fits &= match value {
                Value::Number(_) => self.number_fits(value, node, quiet),
                Value::String(text) => self.text_fits(text, node, quiet),
                Value::Array(items) => self.list_fits(items, node, quiet),
                Value::Object(members) => self.object_fits(members, node, quiet),
                Value::Null | Value::Bool(_) => true,
            };
            if fits || !quiet {
                fits &= self.parts_fit(value, node, quiet);
            }
        }
        self.depth -= 1;
        fits && self.left > 0
    }

    /// Notes a misfit at the present place; false.
    fn misfit(&mut self, quiet: bool, message: impl FnOnce() -> String) -> bool {
        if !quiet && self.misfits.len() < self.most {
            let mut pointer = String::new();
            for step in &self.path {
                pointer.push('/');
                match step {
                    Step::Name(name) => pointer.push_str(&escaped(name)),
                    Step::Index(index) => pointer.push_str(&index.to_string()),
                }
            }
            if pointer.len() > POINTER {
                pointer.truncate(pointer.floor_char_boundary(POINTER));
                pointer.push('…');
            }
            self.misfits.push(Misfit { pointer, message: message() });
        }
        false
    }

    /// As [`fits`](Self::fits), for a part of the value at the present place.
    fn part_fits(&mut self, step: Step<'v>, value: &'v Value, id: Id, quiet: bool) -> bool {
        self.path.push(step);
        let fits = self.fits(value, id, quiet);
        self.path.pop();
        fits
    }

    fn is_of_type(&mut self, value: &Value, node: &Node, quiet: bool) -> bool {
        if node.never {
            return self.misfit(quiet, || "nothing is allowed here".to_owned());
        }
        if let Some(types) = &node.types
            && !types.iter().any(|kind| is_of(value, *kind))
        {
            let names: Vec<&str> = types.iter().map(|kind| kind.name()).collect();
            return self.misfit(quiet, || format!("expected {}", names.join(" or ")));
        }
        if let Some(values) = &node.values
            && !values.contains(&canonical(value))
        {
            return self.misfit(quiet, || {
                let mut shown: Vec<&str> = values.iter().map(String::as_str).collect();
                shown.sort_unstable();
                match shown.len() {
                    1..=10 => format!("expected {}", shown.join(" or ")),
                    _ => "expected one of the values that the schema lists".to_owned(),
                }
            });
        }
        true
    }

    fn number_fits(&mut self, value: &Value, node: &Node, quiet: bool) -> bool {
        let Value::Number(number) = value else { return true };
        if let Some((bound, excluded)) = &node.minimum {
            let order = compare(number, bound);
            if order == Ordering::Less || (*excluded && order == Ordering::Equal) {
                let than = if *excluded { "more than" } else { "at least" };
                return self.misfit(quiet, || format!("expected {than} {bound}"));
            }
        }
        if let Some((bound, excluded)) = &node.maximum {
            let order = compare(number, bound);
            if order == Ordering::Greater || (*excluded && order == Ordering::Equal) {
                let than = if *excluded { "less than" } else { "at most" };
                return self.misfit(quiet, || format!("expected {than} {bound}"));
            }
        }
        match &node.multiple_of {
            Some(of) if !is_multiple(number, of) => {
                self.misfit(quiet, || format!("expected a multiple of {of}"))
            }
            _ => true,
        }
    }

    /// Whether a size is in its bounds.
    fn is_within(&mut self, size: usize, bounds: (u64, Option<u64>), of: &str, quiet: bool) -> bool {
        let size = size as u64;
        if size < bounds.0 {
            return self.misfit(quiet, || format!("expected at least {} {of}", bounds.0));
        }
        match bounds.1 {
            Some(most) if size > most => self.misfit(quiet, || format!("expected at most {most} {of}")),
            _ => true,
        }
    }

    fn text_fits(&mut self, text: &str, node: &Node, quiet: bool) -> bool {
        let is_bounded = node.length.0 > 0 || node.length.1.is_some();
        if is_bounded && !self.is_within(text.chars().count(), node.length, "characters", quiet) {
            return false;
        }
        match &node.pattern {
            Some(pattern) if !pattern.is_match(text) => {
                self.misfit(quiet, || format!("expected a text that matches `{}`", pattern.as_str()))
            }
            _ => true,
        }
    }

    fn list_fits(&mut self, items: &'v [Value], node: &Node, quiet: bool) -> bool {
        let mut fits = self.is_within(items.len(), node.count, "items", quiet);
        if node.unique {
            let mut seen = HashSet::with_capacity(items.len());
            if let Some(index) = items.iter().position(|item| !seen.insert(canonical(item))) {
                fits = self.misfit(quiet, || format!("expected no item twice, as that at {index} is"));
            }
        }
        for (index, item) in items.iter().enumerate() {
            let id = node.first_items.get(index).copied().or(node.items);
            if let Some(id) = id
                && !self.part_fits(Step::Index(index), item, id, quiet)
            {
                fits = false;
                if self.is_over(quiet) {
                    return false;
                }
            }
        }
        if let Some((id, least, most)) = node.contains {
            let count = items.iter().filter(|item| self.fits(item, id, true)).count();
            fits &= self.is_within(count, (least, most), "items that fit `contains`", quiet);
        }
        fits
    }

    fn object_fits(&mut self, members: &'v Map<String, Value>, node: &Node, quiet: bool) -> bool {
        let mut fits = self.is_within(members.len(), node.size, "members", quiet);
        for name in node.required.iter().filter(|name| !members.contains_key(*name)) {
            fits = self.misfit(quiet, || format!("the member `{name}` is missing"));
        }
        for (name, value) in members {
            if !fits && self.is_over(quiet) {
                return false;
            }
            let mut known = false;
            if let Some(id) = node.properties.get(name) {
                known = true;
                fits &= self.part_fits(Step::Name(name), value, *id, quiet);
            }
            for (pattern, id) in &node.patterns {
                if pattern.is_match(name) {
                    known = true;
                    fits &= self.part_fits(Step::Name(name), value, *id, quiet);
                }
            }
            if let Some(id) = node.others.filter(|_| !known) {
                if self.schemas.nodes[id].never {
                    self.path.push(Step::Name(name));
                    fits = self.misfit(quiet, || "this member is not known".to_owned());
                    self.path.pop();
                } else {
                    fits &= self.part_fits(Step::Name(name), value, id, quiet);
                }
            }
        }
        fits & self.names_fit(members, node, quiet)
    }

    /// What the names of members demand.
    fn names_fit(&mut self, members: &'v Map<String, Value>, node: &Node, quiet: bool) -> bool {
        let mut fits = true;
        if let Some(id) = node.names {
            for name in members.keys() {
                // A check of its own, because the name is not a part of the value.
                let found = check(self.schemas, id, &Value::from(name.as_str()), 1);
                self.left = self.left.saturating_sub(1);
                if let Some(misfit) = found.misfits.first() {
                    self.path.push(Step::Name(name));
                    fits = self.misfit(quiet, || format!("of its name: {}", misfit.message));
                    self.path.pop();
                }
            }
        }
        for (name, needed) in &node.dependent_required {
            if members.contains_key(name) {
                for other in needed.iter().filter(|other| !members.contains_key(*other)) {
                    fits = self
                        .misfit(quiet, || format!("the member `{other}` is missing, which `{name}` needs"));
                }
            }
        }
        fits
    }

    /// What the schemas in this one demand of the value as a whole.
    fn parts_fit(&mut self, value: &'v Value, node: &Node, quiet: bool) -> bool {
        let mut fits = true;
        for id in node.reference.iter().chain(&node.all_of) {
            fits &= self.fits(value, *id, quiet);
        }
        if let Value::Object(members) = value {
            for (name, id) in &node.dependent_schemas {
                fits &= !members.contains_key(name) || self.fits(value, *id, quiet);
            }
        }
        if !node.any_of.is_empty() && !node.any_of.iter().any(|id| self.fits(value, *id, true)) {
            fits = self.misfit(quiet, || "expected what one of the schemas in `anyOf` describes".to_owned());
        }
        if !node.one_of.is_empty() {
            let count = node.one_of.iter().filter(|id| self.fits(value, **id, true)).take(2).count();
            if count != 1 {
                let how = if count == 0 { "fits none" } else { "fits several" };
                fits = self.misfit(quiet, || format!("it {how} of the schemas in `oneOf`; expected one"));
            }
        }
        if let Some(id) = node.not
            && self.fits(value, id, true)
        {
            fits = self.misfit(quiet, || "expected anything but this".to_owned());
        }
        if let Some((condition, then, otherwise)) = node.condition {
            let holds = self.fits(value, condition, true);
            if let Some(id) = if holds { then } else { otherwise } {
                fits &= self.fits(value, id, quiet);
            }
        }
        fits
    }

    /// Whether no more is to be found.
    fn is_over(&self, quiet: bool) -> bool {
        quiet || self.misfits.len() >= self.most || self.left == 0
    }
}

fn is_of(value: &Value, kind: Type) -> bool {
    match (value, kind) {
        (Value::Null, Type::Null)
        | (Value::Bool(_), Type::Boolean)
        | (Value::Number(_), Type::Number)
        | (Value::String(_), Type::String)
        | (Value::Array(_), Type::Array)
        | (Value::Object(_), Type::Object) => true,
        (Value::Number(number), Type::Integer) => integer(number).is_some(),
        _ => false,
    }
}
