//! Interface `store`: keys shared by all instances of a plugin, on all cores.
//!
//! A store that never waits is called by the host function itself. One that may wait is called by the caller of the guest,
//! through the mailbox that `fetch` uses, too: the time counts as waiting, and it ends early enough for the guest to
//! answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentNamedList, Lift, Linker, LinkerInstance, Lower};
use witgate_exchange::contracts::store::{KeyStore, StoreError, StoreResult};

use crate::bindings::name;
use crate::bindings::witgate::plugin::store::Error;
use crate::input_tracker::Mark;
use crate::state::HostState;

/// The longest key, in bytes, including its space.
pub(crate) const KEY: usize = 1 << 10;

/// The largest value, in bytes.
pub(crate) const VALUE: usize = 1 << 20;

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Error::Full,
            StoreError::NotANumber => Error::NotANumber,
            StoreError::Unavailable => Error::Unavailable,
        }
    }
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

/// A key, and whether it is written with a value of so many bytes.
pub(super) struct StoreKey {
    space: String,
    key: String,
    written: Option<usize>,
}

impl StoreKey {
    /// Of a key that is read or removed.
    pub(super) fn read(space: String, key: String) -> StoreKey {
        StoreKey { space, key, written: None }
    }

    /// Of a key that may be written.
    fn written(space: String, key: String, value: Option<&[u8]>) -> StoreKey {
        StoreKey { space, key, written: Some(value.map_or(0, <[u8]>::len)) }
    }

    /// # Errors
    /// Key or value are longer than a store takes.
    fn check(&self) -> Result<(), Error> {
        match self.written {
            Some(value) if self.space.len() + self.key.len() > KEY || value > VALUE => Err(Error::Full),
            _ => Ok(()),
        }
    }
}

/// What is asked of a store about a key, with what comes along.
pub(super) type Ask<A, T> = for<'k> fn(&'k dyn KeyStore, &'k str, &'k str, A) -> StoreResult<'k, T>;

/// Adds the interface to a linker. With `waits`, for stores that may wait: then guests run on stacks of their own.
///
/// # Errors
/// None in practice: a name is defined once.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>, waits: bool) -> wasmtime::Result<()> {
    let mut store = linker.instance(name::STORE)?;
    let store = &mut store;
    define(
        store,
        waits,
        "get",
        |(space, key): (String, String)| (StoreKey::read(space, key), ()),
        |keys, space, key, ()| keys.get(space, key),
    )?;
    define(
        store,
        waits,
        "set",
        |(space, key, value, ttl): (String, String, Vec<u8>, Ttl)| {
            (StoreKey::written(space, key, Some(&value)), (value, time(ttl)))
        },
        |keys, space, key, (value, ttl)| keys.set(space, key, value, ttl),
    )?;
    define(
        store,
        waits,
        "remove",
        |(space, key): (String, String)| (StoreKey::read(space, key), ()),
        |keys, space, key, ()| keys.remove(space, key),
    )?;
    define(
        store,
        waits,
        "increment",
        |(space, key, by, ttl): (String, String, i64, Ttl)| {
            (StoreKey::written(space, key, None), (by, time(ttl)))
        },
        |keys, space, key, (by, ttl)| keys.increment(space, key, by, ttl),
    )?;
    define(
        store,
        waits,
        "compare-and-swap",
        |(space, key, expected, new, ttl): (String, String, Value, Value, Ttl)| {
            (StoreKey::written(space, key, new.as_deref()), (expected, new, time(ttl)))
        },
        |keys, space, key, (expected, new, ttl)| keys.compare_and_swap(space, key, expected, new, ttl),
    )
}

/// A value, or none.
type Value = Option<Vec<u8>>;

/// Milliseconds that a value lives; none: without end.
type Ttl = Option<u64>;

fn time(ttl: Ttl) -> Option<Duration> {
    ttl.map(Duration::from_millis)
}

/// Defines one function: `take` sorts its parameters.
pub(super) fn define<P, A, T>(
    store: &mut LinkerInstance<'_, HostState>,
    waits: bool,
    name: &str,
    take: fn(P) -> (StoreKey, A),
    ask: Ask<A, T>,
) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lift + Send + 'static,
    A: Send + 'static,
    T: Send + 'static,
    (Result<T, Error>,): ComponentNamedList + Lower + 'static,
{
    if waits {
        store.func_wrap_async(name, move |store: StoreContextMut<'_, HostState>, parameters: P| {
            let (place, along) = take(parameters);
            Box::new(async move { Ok((wait(store, place, along, ask).await?,)) })
        })
    } else {
        store.func_wrap(name, move |mut store: StoreContextMut<'_, HostState>, parameters: P| {
            let (place, along) = take(parameters);
            Ok((at_once(store.data_mut(), &place, along, ask)?,))
        })
    }
}

/// Asks a store that answers at once.
fn at_once<A, T>(state: &mut HostState, place: &StoreKey, along: A, ask: Ask<A, T>) -> Answer<T> {
    let keys = match state.store(place)? {
        Ok(keys) => keys,
        Err(error) => return Ok(Err(error)),
    };
    let answer = ask(keys.as_ref(), &place.space, &place.key, along).at_once();
    Ok(answer.unwrap_or(Err(StoreError::Unavailable)).map_err(Error::from))
}

/// Has the caller of the guest ask a store that may wait.
async fn wait<A, T>(
    mut store: StoreContextMut<'_, HostState>,
    place: StoreKey,
    along: A,
    ask: Ask<A, T>,
) -> Answer<T>
where
    A: Send + 'static,
    T: Send + 'static,
{
    let state = store.data_mut();
    let keys = match state.store(&place)? {
        Ok(keys) => Arc::clone(keys),
        Err(error) => return Ok(Err(error)),
    };
    if !state.may_wait() {
        // While a plugin is set up, there is no core that could wait.
        return Ok(Err(Error::Unavailable));
    }
    // The guest is told that time is up while it still has some to answer in.
    let time = state.stopwatch.left_to_wait();
    let (reply, answer) = oneshot::channel();
    state.mailbox.put(Box::new(move |_fetch| {
        Box::pin(async move {
            let answer = tokio::time::timeout(time, ask(keys.as_ref(), &place.space, &place.key, along));
            // The guest may be gone by now; then nobody waits for the reply.
            let _unheard = reply.send(answer.await.unwrap_or(Err(StoreError::Unavailable)));
        })
    }));
    // No answer means that whoever drove the job is gone, and with it the call.
    Ok(answer.await.unwrap_or(Err(StoreError::Unavailable)).map_err(Error::from))
}

impl HostState {
    /// The store of the plugin, if it may be asked about this key.
    fn store(&mut self, place: &StoreKey) -> Answer<&Arc<dyn KeyStore>> {
        self.marked(Mark::Store)?;
        if !self.rights.grants.store.iter().flatten().any(|granted| *granted == place.space) {
            self.rights.meter.grant_refused();
            return Ok(Err(Error::Denied));
        }
        if let Err(error) = place.check() {
            return Ok(Err(error));
        }
        Ok(self.rights.store.as_ref().ok_or(Error::Unavailable))
    }
}
