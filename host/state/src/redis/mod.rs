//! State in Redis (7 or later, or a server that speaks its protocol), which the gateways of a fleet share.
//!
//! Choose it if several gateways must keep one limit together, or if plugins must see each other's keys. Every
//! decision costs a round trip to the server, and `on_unavailable` determines what happens while the server is
//! unreachable.
//!
//! While the servers respond, all gateways and cores together admit exactly the limit, because one script makes
//! each decision by the clock of the server. The limit is not exact if Redis itself loses data: a failover loses
//! what the master had not yet sent to its replica, a restart what was not yet on its disk, and `maxmemory` with
//! an eviction policy evicts buckets. A client may then draw again what was lost, at most one full bucket.
//!
//! A decision that times out may have been counted nevertheless. It is then counted a second time as
//! `on_unavailable` says, which can refuse too much but never admit too much.

mod counter;
mod counts;
mod index;
mod keeper;
mod keys;
mod link;
mod names;
mod script;
mod settings;
mod slots;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use witgate_config::model::Secret;
use witgate_config::{Problems, Settings as Written};
use witgate_exchange::contracts::counter::{Counter, Draw, Rate};
use witgate_exchange::contracts::state::{BuildContext, Health, Kind, State};
use witgate_exchange::contracts::store::KeyStore;

use counter::RedisCounter;
use keeper::Trial;
use keys::RedisKeys;
use link::Link;
use names::Names;
use script::Script;
use settings::Options;

/// The row of this kind.
pub const KIND: Kind = Kind { name: "redis", build };

fn build(written: &Written, context: BuildContext<'_>) -> Result<Arc<dyn State>, Problems> {
    let options = Options::read(written, context)?;
    if !context.serving {
        return Ok((context.memory)());
    }
    let client = Client::start(&written.key, options, context.secrets);
    let told = |error| vec![written.problem("", format!("its thread cannot be started: {error}"), None)];
    let client = Arc::new(client.map_err(told)?);
    let local = (context.memory)().counter();
    Ok(Arc::new(Redis { client, local, counter: OnceLock::new(), stores: Mutex::default() }))
}

/// State in Redis.
struct Redis {
    client: Arc<Client>,
    /// The counter that is used while the servers are unreachable.
    local: Arc<dyn Counter>,
    counter: OnceLock<Arc<RedisCounter>>,
    /// The keys of each plugin, by its name.
    stores: Mutex<HashMap<String, Arc<RedisKeys>>>,
}

/// The part that the counter and the stores of one state share. The connection is closed when the last of them is
/// dropped.
struct Client {
    link: Arc<Link>,
    options: Arc<Options>,
    secrets: Vec<Secret>,
    charge: Arc<Script>,
    refund: Script,
    settle: Script,
    keys: Script,
    list: Script,
    /// Dropping this ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Client {
    /// Starts the thread that connects.
    fn start(key: &str, options: Options, secrets: &[Secret]) -> std::io::Result<Client> {
        let (link, options) = (Arc::new(Link::new()), Arc::new(options));
        let charge = Arc::new(Script::new(include_str!("charge.lua")));
        let names = Names::derive(secrets, "state trial");
        // A bucket that is full again after one microsecond.
        let rate = Rate::of(1, Duration::from_micros(1), u32::MAX).expect("a limit that can be counted");
        let call = counter::call(&names, &[Draw { bucket: 0, policy: 0, cost: 1, rate }]);
        let trial = Trial { script: Arc::clone(&charge), call };
        let (stop, stopped) = oneshot::channel();
        let name = key.rsplit('.').next().unwrap_or(key);
        keeper::start(name, Arc::clone(&options), Arc::clone(&link), trial, stopped)?;
        let refund = Script::new(include_str!("refund.lua"));
        let settle = Script::new(include_str!("settle.lua"));
        let keys = Script::new(include_str!("keys.lua"));
        let list = Script::new(include_str!("list.lua"));
        let secrets = secrets.to_vec();
        Ok(Client { link, options, secrets, charge, refund, settle, keys, list, _stop: stop })
    }
}

impl State for Redis {
    fn counter(&self) -> Arc<dyn Counter> {
        let new = || Arc::new(RedisCounter::new(Arc::clone(&self.client), Arc::clone(&self.local)));
        Arc::clone(self.counter.get_or_init(new)) as _
    }

    fn store(&self, plugin: &str, bytes: usize) -> Arc<dyn KeyStore> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(RedisKeys::new(Arc::clone(&self.client), plugin, bytes));
        let store = stores.entry(plugin.to_owned()).or_insert_with(new);
        store.set_budget(bytes);
        Arc::clone(store) as _
    }

    fn health(&self) -> Option<Health> {
        Some(Health { problem: self.client.link.problem(), operations: self.client.link.counts.read() })
    }
}
