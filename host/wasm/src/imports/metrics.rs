//! Interface `metrics`: metrics that plugins define.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::bindings::witgate::plugin::metrics::Host;
use crate::input_tracker::Mark;
use crate::meter::Distribution;
use crate::state::HostState;

/// Number of names that a binding may use.
const NAMES: usize = 64;

/// The longest name, in bytes.
const NAME: usize = 64;

impl Host for HostState {
    fn count(&mut self, name: String, amount: u64) -> wasmtime::Result<()> {
        self.record(&name, Kind::Counter, |number| match number {
            Number::Counter(sum) => {
                sum.fetch_add(amount, Ordering::Relaxed);
            }
            Number::Gauge(_) | Number::Histogram(_) => {}
        })
    }

    fn gauge(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.record(&name, Kind::Gauge, |number| {
            if let Number::Gauge(bits) = number {
                bits.store(value.to_bits(), Ordering::Relaxed);
            }
        })
    }

    fn observe(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.record(&name, Kind::Histogram, |number| {
            if let Number::Histogram(distribution) = number {
                distribution.observe(value);
            }
        })
    }
}

impl HostState {
    fn record(&mut self, name: &str, kind: Kind, act: impl FnOnce(&Number)) -> wasmtime::Result<()> {
        self.marked(Mark::Metrics)?;
        if !self.rights.metrics.with(name, kind, act) {
            self.rights.meter.metric_dropped();
        }
        Ok(())
    }
}

/// The kind of a metric: that of the first use of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Holds the last value that was set.
    Gauge,
    /// A distribution.
    Histogram,
}

/// The current value of a metric.
pub(crate) enum Number {
    /// A sum.
    Counter(AtomicU64),
    /// The bits of a `f64`.
    Gauge(AtomicU64),
    /// A distribution.
    Histogram(Box<Distribution>),
}

impl Number {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Number::Counter(AtomicU64::new(0)),
            Kind::Gauge => Number::Gauge(AtomicU64::new(0)),
            Kind::Histogram => Number::Histogram(Box::default()),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Number::Counter(_) => Kind::Counter,
            Number::Gauge(_) => Kind::Gauge,
            Number::Histogram(_) => Kind::Histogram,
        }
    }
}

/// The metrics of one binding, carried over its versions. Reading is far more frequent than adding a name.
#[derive(Default)]
pub struct Names(RwLock<HashMap<Box<str>, Number>>);

impl Names {
    /// Applies `act` to the metric of this name; returns false if the name is invalid, has another kind, or is one
    /// too many.
    fn with(&self, name: &str, kind: Kind, act: impl FnOnce(&Number)) -> bool {
        let numbers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = numbers.get(name) {
            let fits = number.kind() == kind;
            if fits {
                act(number);
            }
            return fits;
        }
        drop(numbers);
        self.add(name, kind, act)
    }

    fn add(&self, name: &str, kind: Kind, act: impl FnOnce(&Number)) -> bool {
        let mut numbers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if numbers.len() >= NAMES || !is_token(name) {
            return false;
        }
        let number = numbers.entry(name.into()).or_insert_with(|| Number::new(kind));
        let fits = number.kind() == kind;
        if fits {
            act(number);
        }
        fits
    }

    /// Calls `each` for every name with its kind, value (the sum, for a histogram) and distribution.
    pub fn read(&self, mut each: impl FnMut(&str, Kind, f64, Option<&Distribution>)) {
        let numbers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for (name, number) in numbers.iter() {
            match number {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "metrics are floating-point numbers on the wire"
                )]
                Number::Counter(sum) => each(name, Kind::Counter, sum.load(Ordering::Relaxed) as f64, None),
                Number::Gauge(bits) => {
                    each(name, Kind::Gauge, f64::from_bits(bits.load(Ordering::Relaxed)), None)
                }
                Number::Histogram(distribution) => {
                    each(name, Kind::Histogram, distribution.sum(), Some(distribution));
                }
            }
        }
    }
}

/// Whether a name is a token (RFC 9110 section 5.6.2) of at most [`NAME`] bytes.
fn is_token(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.len() <= NAME && name.bytes().all(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_limited_in_number_and_shape() {
        let names = Names::default();
        assert!(!names.with("a b", Kind::Counter, |_| ()));
        assert!(!names.with(&"x".repeat(65), Kind::Counter, |_| ()));
        let admitted =
            (0..100).filter(|index| names.with(&format!("name-{index}"), Kind::Gauge, |_| ())).count();
        assert_eq!(admitted, NAMES);
        assert!(!names.with("name-0", Kind::Counter, |_| ()), "a name keeps what it was first used as");
    }
}
