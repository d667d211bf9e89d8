//! Bounds the work of a check: its steps are counted, and when none are left it is given up.
//!
//! Schemas come from plugins, which need not be trusted. Whatever a schema can make expensive is paid for in steps
//! *before* it is done: following a reference, searching a list of choices, compiling a pattern, collecting the
//! known keys. One step stands for about 100 ns and ten bytes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

/// Steps for every check.
const STEPS: usize = 2_000_000;

/// Additional steps for each value that is checked, so that many routes are not refused. The schema of the
/// configuration itself takes about ten.
const STEPS_EACH: usize = 100;

/// Bytes that are compared in one step.
const BYTES: usize = 16;

/// The longest pattern that is compiled, in bytes. A longer one is left to the plugin.
const PATTERN: usize = 4096;

/// For compiled patterns: the size limit in bytes; the steps for trying to compile within it; and how many bytes
/// of text are matched in one step.
const SIZES: [(usize, usize, usize); 3] =
    [(64 << 10, 1_000, BYTES), (1 << 20, 20_000, 1), (10 << 20, 200_000, 1)];

/// The steps that are left in one check, and the patterns that it has compiled.
pub(super) struct Steps<'s> {
    left: Cell<usize>,
    patterns: RefCell<HashMap<&'s str, Option<Pattern>>>,
}

/// A compiled pattern, and how many bytes of text are matched in one step.
type Pattern = (Rc<Regex>, usize);

impl<'s> Steps<'s> {
    /// Enough steps for any reasonable check of this value.
    pub(super) fn for_value(value: &Value) -> Self {
        let each = STEPS_EACH.saturating_mul(values(value));
        Steps { left: Cell::new(STEPS.saturating_add(each)), patterns: RefCell::default() }
    }

    /// Takes steps. False if not enough are left: then the check has ended.
    pub(super) fn take(&self, steps: usize) -> bool {
        self.left.set(self.left.get().saturating_sub(steps));
        !self.are_used_up()
    }

    /// Takes the steps for reading a text.
    pub(super) fn take_text(&self, text: &str) -> bool {
        self.take(1 + text.len() / BYTES)
    }

    /// Takes the steps for comparing or copying a value.
    pub(super) fn take_value(&self, value: &Value) -> bool {
        self.take(1)
            && match value {
                Value::String(text) => self.take_text(text),
                Value::Array(items) => items.iter().all(|item| self.take_value(item)),
                Value::Object(members) => {
                    members.iter().all(|(key, member)| self.take_text(key) && self.take_value(member))
                }
                _ => true,
            }
    }

    /// Whether a constant of the schema equals this value.
    pub(super) fn equal(&self, constant: &Value, value: &Value) -> bool {
        let deep = match (constant, value) {
            (Value::String(constant), Value::String(value)) => constant.len() == value.len(),
            (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => true,
            _ => false,
        };
        (if deep { self.take_value(constant) } else { self.take(1) }) && constant == value
    }

    /// Takes all steps that are left.
    pub(super) fn give_up(&self) {
        self.left.set(0);
    }

    /// Whether the check was given up.
    pub(super) fn are_used_up(&self) -> bool {
        self.left.get() == 0
    }

    /// Whether a pattern matches a text; `None` if that is left to the plugin, because the pattern cannot be run
    /// in linear time and bounded memory.
    pub(super) fn matches(&self, pattern: &'s str, text: &str) -> Option<bool> {
        let known = self.patterns.borrow().get(pattern).cloned();
        let compiled = known.unwrap_or_else(|| {
            let compiled = self.compile(pattern);
            self.patterns.borrow_mut().insert(pattern, compiled.clone());
            compiled
        });
        let (regex, bytes) = compiled?;
        self.take(1 + text.len() / bytes).then(|| regex.is_match(text))
    }

    fn compile(&self, pattern: &str) -> Option<Pattern> {
        if !self.take_text(pattern) || pattern.len() > PATTERN {
            return None;
        }
        for (size, steps, bytes) in SIZES {
            if !self.take(steps) {
                return None;
            }
            match RegexBuilder::new(pattern).size_limit(size).build() {
                Ok(regex) => return Some((Rc::new(regex), bytes)),
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

/// The number of values: this one, and all within it.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(members) => members.values().map(values).sum::<usize>(),
        _ => 0,
    }
}
