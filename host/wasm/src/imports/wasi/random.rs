//! `wasi:random`: all functions return cryptographically secure numbers, also those that need not.

use wasmtime::component::Linker;

use super::VERSION;
use crate::input_tracker::Mark;
use crate::state::HostState;

/// The most bytes that one call may request.
const BYTES: u64 = 64 << 10;

/// Defines the interfaces.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    for (interface, bytes, number) in [
        ("random", "get-random-bytes", "get-random-u64"),
        ("insecure", "get-insecure-random-bytes", "get-insecure-random-u64"),
    ] {
        let mut random = linker.instance(&format!("wasi:random/{interface}@{VERSION}"))?;
        random.func_wrap(bytes, |mut store, (length,): (u64,)| {
            store.data_mut().marked(Mark::Random)?;
            let length = usize::try_from(length.min(BYTES)).unwrap_or_default();
            let mut random = vec![0; length];
            fill(&mut random)?;
            Ok((random,))
        })?;
        random.func_wrap(number, |mut store, ()| {
            store.data_mut().marked(Mark::Random)?;
            Ok((random_number()?,))
        })?;
    }
    let mut seed = linker.instance(&format!("wasi:random/insecure-seed@{VERSION}"))?;
    seed.func_wrap("insecure-seed", |mut store, ()| {
        store.data_mut().marked(Mark::Random)?;
        Ok(((random_number()?, random_number()?),))
    })
}

fn random_number() -> wasmtime::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Reads random bytes from the kernel. The generator of aws-lc-rs takes about 60 ms to seed itself at its first
/// use, which would count as CPU time of the guest and end its call.
fn fill(bytes: &mut [u8]) -> wasmtime::Result<()> {
    getrandom::fill(bytes).map_err(|_| wasmtime::Error::msg("no random numbers are available"))
}
