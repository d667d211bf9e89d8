//! The store of one plugin in Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::{FromRedisValue, Value};
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::contracts::store::{KeyStore, Page, RemovedPage, StoreError, StoreResult};

use super::Client;
use super::counts::End;
use super::index::{self, Position, Seals};
use super::link::Failure;
use super::names::{Names, tag_of};
use super::script::ScriptCall;

/// The most bytes of a value that is read: the same limit as for values that plugins write.
const VALUE: usize = 1 << 20;

/// Bytes that a value counts for in addition to its content: its name in four places, its sealed key, and the server's
/// overhead.
const OVERHEAD: usize = 512;

/// The keys of one plugin, shared by all gateways of a fleet.
pub(super) struct RedisKeys {
    client: Arc<Client>,
    names: Names,
    seals: Seals,
    plugin: String,
    tag: u16,
    budget: AtomicUsize,
}

impl RedisKeys {
    pub(super) fn new(client: Arc<Client>, plugin: &str, budget: usize) -> RedisKeys {
        let names = Names::derive(&client.secrets, "state store");
        let (plugin, tag) = (plugin.to_owned(), tag_of(plugin));
        let seals = Seals::derive(&client.secrets);
        RedisKeys { client, names, seals, plugin, tag, budget: AtomicUsize::new(budget) }
    }

    pub(super) fn set_budget(&self, bytes: usize) {
        self.budget.store(bytes, Ordering::Relaxed);
    }

    /// The call of the script for an operation on one key.
    fn call(&self, operation: &str, space: &str, key: &str) -> ScriptCall {
        let plugin = self.plugin.as_bytes();
        let identity = [plugin, space.as_bytes(), key.as_bytes()];
        let values = self.names.of('k', self.tag, &identity);
        let expiries = self.names.of('e', self.tag, &identity[..1]);
        let sizes = self.names.of('s', self.tag, &identity[..1]);
        let indexes = self.names.of('n', self.tag, &identity[..1]);
        let names = values.zip(expiries).zip(sizes.zip(indexes));
        let keys: Vec<String> =
            names.flat_map(|((value, expiries), (sizes, index))| [value, expiries, sizes, index]).collect();
        let sealed = keys.first().map(|name| self.seals.seal(name, space, key)).unwrap_or_default();
        let mut call = ScriptCall { keys, arguments: Vec::new() };
        call.push(operation);
        call.push(self.client.options.longest_life.as_millis());
        call.push(VALUE);
        call.push(self.budget.load(Ordering::Relaxed));
        call.push(OVERHEAD);
        call.arguments.push(sealed);
        call
    }

    /// Reads a page of the index.
    async fn page(&self, space: &str, prefix: &str, after: Option<String>) -> Result<Page, StoreError> {
        let Some(position) =
            Position::read(after.as_deref()).filter(|position| position.secret < self.names.count())
        else {
            return Ok(Page::default());
        };
        let identity = [self.plugin.as_bytes()];
        let book = |letter| self.names.of(letter, self.tag, &identity).nth(position.secret);
        let keys = ['n', 'e', 's'].into_iter().filter_map(book).collect();
        let mut call = ScriptCall { keys, arguments: Vec::new() };
        call.push(position.cursor);
        call.push(index::ENTRIES);
        let answer = self.client.link.run(&self.client.list, &call, self.client.options.store_budget).await;
        let (end, result) = match answer.map(index::parse) {
            Ok(Some(page)) => (End::Done, Ok(page)),
            Ok(None) => (End::Malformed, Err(StoreError::Unavailable)),
            Err(failure) => (End::from(&failure), Err(StoreError::Unavailable)),
        };
        self.client.link.counts.count(end);
        let (cursor, entries) = result?;
        let opened =
            entries.into_iter().filter_map(|(name, sealed)| self.seals.open(position.secret, &name, sealed));
        let keys = opened.filter(|(of, key)| of == space && key.starts_with(prefix)).map(|(_, key)| key);
        Ok(Page { keys: keys.collect(), next: position.next(cursor, self.names.count()) })
    }

    /// Runs an operation. `read` interprets the reply of the script.
    async fn run<T>(
        &self,
        call: ScriptCall,
        read: impl FnOnce(Option<Vec<u8>>) -> Option<T>,
    ) -> Result<T, StoreError> {
        let answer = self.client.link.run(&self.client.keys, &call, self.client.options.store_budget).await;
        let (end, result) = match answer.map(parse) {
            Ok(Some(Ok(value))) => match read(value) {
                Some(result) => (End::Done, Ok(result)),
                None => (End::Malformed, Err(StoreError::Unavailable)),
            },
            Ok(Some(Err(error))) => (End::Done, Err(error)),
            Ok(None) => (End::Malformed, Err(StoreError::Unavailable)),
            Err(Failure::OutOfMemory) => (End::OutOfMemory, Err(StoreError::Full)),
            Err(failure) => (End::from(&failure), Err(StoreError::Unavailable)),
        };
        self.client.link.counts.count(end);
        result
    }
}

/// Parses the reply of the script. `None` if it does not have the form that the script returns.
fn parse(answer: Value) -> Option<Result<Option<Vec<u8>>, StoreError>> {
    let mut parts = Vec::<Vec<u8>>::from_redis_value(answer).ok()?.into_iter();
    let (word, value, end) = (parts.next()?, parts.next(), parts.next());
    if end.is_some() || value.as_ref().is_some_and(|value| value.len() > VALUE) {
        return None;
    }
    match (word.as_slice(), value) {
        (b"ok", value) => Some(Ok(value)),
        (b"full", None) => Some(Err(StoreError::Full)),
        (b"nan", None) => Some(Err(StoreError::NotANumber)),
        _ => None,
    }
}

/// Interprets the reply 1 or 0, which says whether something was done.
fn done(value: Option<Vec<u8>>) -> Option<bool> {
    match value?.as_slice() {
        b"1" => Some(true),
        b"0" => Some(false),
        _ => None,
    }
}

/// A time to live in the form that the script takes.
fn life(ttl: Option<Duration>) -> String {
    ttl.map(|ttl| ttl.as_millis().to_string()).unwrap_or_default()
}

impl KeyStore for RedisKeys {
    fn waits(&self) -> bool {
        true
    }

    fn get<'a>(&'a self, space: &'a str, key: &'a str) -> StoreResult<'a, Option<Vec<u8>>> {
        MaybeReady::waiting(async move { self.run(self.call("get", space, key), Some).await })
    }

    fn set<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, ()> {
        MaybeReady::waiting(async move {
            let mut call = self.call("set", space, key);
            call.arguments.push(value);
            call.push(life(ttl));
            self.run(call, |told| told.is_none().then_some(())).await
        })
    }

    fn remove<'a>(&'a self, space: &'a str, key: &'a str) -> StoreResult<'a, bool> {
        MaybeReady::waiting(async move { self.run(self.call("remove", space, key), done).await })
    }

    fn increment<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        by: i64,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, i64> {
        MaybeReady::waiting(async move {
            let mut call = self.call("increment", space, key);
            call.push(by);
            call.push(life(ttl));
            self.run(call, |told| std::str::from_utf8(&told?).ok()?.parse().ok()).await
        })
    }

    fn compare_and_swap<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, bool> {
        MaybeReady::waiting(async move {
            let mut call = self.call("swap", space, key);
            for value in [expected, new] {
                call.push(u8::from(value.is_some()));
                call.arguments.push(value.unwrap_or_default());
            }
            call.push(life(ttl));
            self.run(call, done).await
        })
    }

    fn list<'a>(&'a self, space: &'a str, prefix: &'a str, after: Option<String>) -> StoreResult<'a, Page> {
        MaybeReady::waiting(self.page(space, prefix, after))
    }

    fn remove_page<'a>(
        &'a self,
        space: &'a str,
        prefix: &'a str,
        after: Option<String>,
    ) -> StoreResult<'a, RemovedPage> {
        MaybeReady::waiting(async move {
            let page = self.page(space, prefix, after).await?;
            let mut removed = 0;
            for key in &page.keys {
                removed += usize::from(self.run(self.call("remove", space, key), done).await?);
            }
            Ok(RemovedPage { removed, next: page.next })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_another_form_is_not_believed() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let parse_parts = |parts: &[Value]| parse(Value::Array(parts.to_vec()));
        assert_eq!(parse_parts(&[text("ok"), text("v")]), Some(Ok(Some(b"v".to_vec()))));
        assert_eq!(parse_parts(&[text("full")]), Some(Err(StoreError::Full)));
        for bad in [
            &[][..],
            &[text("malformed")],
            &[text("yes")],
            &[text("ok"), text("v"), text("w")],
            &[text("full"), text("v")],
            &[text("ok"), Value::BulkString(vec![0; VALUE + 1])],
        ] {
            assert_eq!(parse_parts(bad), None);
        }
        assert_eq!(parse(Value::Nil), None);
        assert_eq!(done(Some(b"2".to_vec())), None);
        assert_eq!(done(None), None);
    }
}
