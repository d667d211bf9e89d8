//! Mock of the interface `store`: keeps the keys in memory and uses the test's clock.

use std::time::Duration;

use super::gateway::{State, with_state};
use crate::imports::store::{Error, Page, Removal};

const KEY_LIMIT: usize = 1024;
const VALUE_LIMIT: usize = 1024 * 1024;

/// A value and its time of expiry.
pub(super) struct Entry {
    value: Value,
    expires: Option<Duration>,
}

#[derive(Clone)]
enum Value {
    Bytes(Vec<u8>),
    Counter(i64),
}

impl Value {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Counter(number) => number.to_string().into_bytes(),
        }
    }
}

pub(crate) fn get(space: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
    with_store(|state| Ok(live(state, space, key).map(|entry| entry.value.bytes())))
}

pub(crate) fn set(space: &str, key: &str, value: &[u8], ttl: Option<u64>) -> Result<(), Error> {
    with_store(|state| write(state, space, key, Value::Bytes(value.to_vec()), ttl))
}

pub(crate) fn remove(space: &str, key: &str) -> Result<bool, Error> {
    with_store(|state| {
        let there = live(state, space, key).is_some();
        state.entries.remove(&(space.to_owned(), key.to_owned()));
        Ok(there)
    })
}

pub(crate) fn increment(space: &str, key: &str, by: i64, ttl: Option<u64>) -> Result<i64, Error> {
    with_store(|state| match live(state, space, key).map(|entry| &mut entry.value) {
        Some(Value::Counter(number)) => {
            *number = number.checked_add(by).ok_or(Error::NotANumber)?;
            Ok(*number)
        }
        Some(Value::Bytes(_)) => Err(Error::NotANumber),
        None => write(state, space, key, Value::Counter(by), ttl).map(|()| by),
    })
}

pub(crate) fn compare_and_swap(
    space: &str,
    key: &str,
    expected: Option<&[u8]>,
    new: Option<&[u8]>,
    ttl: Option<u64>,
) -> Result<bool, Error> {
    with_store(|state| {
        let present = live(state, space, key).map(|entry| entry.value.bytes());
        if present.as_deref() != expected {
            return Ok(false);
        }
        match new {
            Some(new) => write(state, space, key, Value::Bytes(new.to_vec()), ttl)?,
            None => drop(state.entries.remove(&(space.to_owned(), key.to_owned()))),
        }
        Ok(true)
    })
}

/// Keys of a page.
const PAGE: usize = 100;

pub(crate) fn keys(space: &str, prefix: &str, after: Option<&str>) -> Result<Page, Error> {
    with_store(|state| {
        let now = state.now;
        let live = |entry: &Entry| entry.expires.is_none_or(|expires| expires > now);
        let entries = state.entries.iter().filter(|((of, key), entry)| {
            of == space && key.starts_with(prefix) && after.is_none_or(|after| **key > *after) && live(entry)
        });
        let mut keys: Vec<String> = entries.map(|((_, key), _)| key.clone()).take(PAGE + 1).collect();
        let is_more = keys.len() > PAGE;
        keys.truncate(PAGE);
        Ok(Page { next: keys.last().filter(|_| is_more).cloned(), keys })
    })
}

pub(crate) fn remove_keys(space: &str, prefix: &str, after: Option<&str>) -> Result<Removal, Error> {
    let page = keys(space, prefix, after)?;
    let removed = page.keys.iter().filter(|key| remove(space, key) == Ok(true)).count();
    Ok(Removal { removed: u32::try_from(removed).unwrap_or(u32::MAX), next: page.next })
}

fn with_store<R>(use_it: impl FnOnce(&mut State) -> Result<R, Error>) -> Result<R, Error> {
    with_state(|state| match state.store_fails {
        Some(error) => Err(error),
        None => use_it(state),
    })
}

fn live<'a>(state: &'a mut State, space: &str, key: &str) -> Option<&'a mut Entry> {
    let now = state.now;
    let entry = state.entries.get_mut(&(space.to_owned(), key.to_owned()))?;
    entry.expires.is_none_or(|expires| expires > now).then_some(entry)
}

fn write(state: &mut State, space: &str, key: &str, value: Value, ttl: Option<u64>) -> Result<(), Error> {
    if key.len() > KEY_LIMIT || matches!(&value, Value::Bytes(bytes) if bytes.len() > VALUE_LIMIT) {
        return Err(Error::Full);
    }
    let expires = ttl.map(|ttl| state.now + Duration::from_millis(ttl));
    state.entries.insert((space.to_owned(), key.to_owned()), Entry { value, expires });
    Ok(())
}
