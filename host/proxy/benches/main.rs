//! What the parts of the data path cost by themselves, through the crate's public border: `cargo bench -p witgate-proxy`.
//!
//! Figures of one machine compare only with figures of the same hour there. What a whole request costs beside other
//! proxies is what `witgate-bench` tells.

#![expect(missing_docs, reason = "criterion's macros make functions without")]

mod hygiene;
mod router;
mod upstream;

use criterion::{criterion_group, criterion_main};

criterion_group!(benches, router::bench, hygiene::bench, upstream::bench);
criterion_main!(benches);
