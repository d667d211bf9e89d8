//! Which endpoint gets an attempt: groups by zone and priority, weights, what operators change, and slow start.

pub(crate) mod adjust;
pub(crate) mod attempt;
pub(crate) mod share;
pub(crate) mod slow_start;
pub(crate) mod spread;
pub(crate) mod view;
