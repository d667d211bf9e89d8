//! The metrics of the memory for bodies.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::memory::BodyMemory;
use crate::family::Family;

/// The labels of a family that has one sample only.
const NO_LABELS: [(&str, &str); 0] = [];

/// Writes how many bytes are kept, and how often a body was not kept.
pub fn encode(memory: &BodyMemory, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let help = "Bytes of request bodies that are kept in memory";
    let mut family = Family::gauges(encoder, "witgate_body_memory_bytes", help)?;
    family.gauge(&NO_LABELS, i64::try_from(memory.used()).unwrap_or(i64::MAX))?;
    let help = "Request bodies that were not kept because `gateway.body_memory` was used up, by what they were wanted for";
    let mut family = Family::counters(encoder, "witgate_body_memory_refused", help)?;
    for (purpose, count) in memory.refused() {
        family.counter(&[("purpose", purpose)], count)?;
    }
    Ok(())
}
