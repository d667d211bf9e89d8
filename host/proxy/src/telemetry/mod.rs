//! Metrics, access log, traces: written after the last byte, never waited for.

pub mod record;
pub mod trace;

/// Where everything is counted and logged; one for the life of the process, carried over every reload.
pub struct Telemetry {}
