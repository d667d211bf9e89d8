//! Metrics that the plugin defines, shown on `/metrics` as `witgate_plugin_custom_*`. A binding may use at most 64
//! names, each a token of at most 64 characters.

use super::backend;

/// Adds to a counter.
pub fn count(name: &str, amount: u64) {
    backend::metrics::count(name, amount);
}

/// Sets a gauge.
pub fn gauge(name: &str, value: f64) {
    backend::metrics::gauge(name, value);
}

/// Records a value in a histogram.
pub fn observe(name: &str, value: f64) {
    backend::metrics::observe(name, value);
}
