//! Interface `password`: the guest waits while a thread of the gateway verifies.

use std::net::IpAddr;

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::bindings::draft::witgate::plugin0_2_0::password::Error;
use crate::bindings::name;
use crate::input_tracker::Mark;
use crate::password::{HashError, StoredHash};
use crate::state::HostState;

type Verdict = Result<bool, Error>;

impl From<HashError> for Error {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Unknown => Error::UnknownForm,
            HashError::TooCostly => Error::TooCostly,
        }
    }
}

/// Defines the interface. With `waits`, for guests that run on stacks of their own; without, it has no verdicts.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>, waits: bool) -> wasmtime::Result<()> {
    let mut password = linker.instance(name::PASSWORD)?;
    if waits {
        password.func_wrap_async(
            "verify",
            |store: StoreContextMut<'_, HostState>, given: (Vec<u8>, String)| {
                Box::new(async move { Ok((verify(store, given).await?,)) })
            },
        )
    } else {
        password.func_wrap("verify", |mut store: StoreContextMut<'_, HostState>, _: (Vec<u8>, String)| {
            store.data_mut().charge()?;
            Ok((Verdict::Err(Error::Unavailable),))
        })
    }
}

async fn verify(
    mut store: StoreContextMut<'_, HostState>,
    (password, hash): (Vec<u8>, String),
) -> wasmtime::Result<Verdict> {
    let state = store.data_mut();
    state.charge()?;
    let hash = match StoredHash::check(&hash) {
        Ok(hash) => hash,
        Err(error) => return Ok(Err(error.into())),
    };
    if !state.may_wait() {
        // While a plugin is set up, there is no core that could wait.
        return Ok(Err(Error::Unavailable));
    }
    // Calls in the background belong to no client and share one place.
    let client = state.head().map_or(IpAddr::from([0; 4]), |head| head.client.address);
    let Some(verdict) = state.rights.passwords.verify(client, password, hash) else {
        // What follows from it must not be remembered.
        state.tracker.mark(Mark::Clock);
        return Ok(Err(Error::Busy));
    };
    // The guest is told that time is up while it still has some to answer in.
    let verdict = tokio::time::timeout(state.stopwatch.left_to_wait(), verdict).await;
    let verdict = verdict.ok().and_then(Result::ok);
    if verdict.is_none() {
        store.data_mut().tracker.mark(Mark::Clock);
    }
    Ok(verdict.ok_or(Error::Busy))
}
