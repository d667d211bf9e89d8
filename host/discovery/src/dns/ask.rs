//! One look-up of a name, and what its answer means.
//!
//! Search domains, `ndots` and `/etc/hosts` are applied here and not by the client library: it takes an answer that
//! a name does not exist in the last search domain as the answer about all of them, even if the name servers of
//! another one could not be reached.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, Resolver, TokioResolver, system_conf};
use witgate_exchange::contracts::discovery::EndpointSpec;

/// Where the system says which name servers there are.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The longest time for a look-up with all its queries.
const LONGEST: Duration = Duration::from_secs(30);
/// How long what `/etc/hosts` says is used. The file has no TTL.
const HOSTS_TTL: Duration = Duration::from_secs(5);
/// The most targets of SRV records whose names are looked up at once.
const TARGETS_AT_ONCE: usize = 8;
/// The last priority of an endpoint.
const LAST_PRIORITY: usize = 127;

/// A name and the servers that are asked for it. Without any, those of the system.
pub(super) struct Question {
    pub(super) asked: Kind,
    pub(super) servers: Vec<SocketAddr>,
}

/// What is asked about a name.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Its addresses, for endpoints with this port.
    Addresses { name: String, port: u16 },
    /// Its SRV records.
    Services { name: String },
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// At least one endpoint, and how long that is valid. `whole` is false if there may be further endpoints at addresses of the other
    /// family (IPv4 or IPv6), because the look-up of those failed.
    Found { endpoints: Vec<EndpointSpec>, valid_for: Duration, whole: bool },
    /// The name servers say that there is nothing; as a sentence.
    Absent(String),
    /// It is not known; why, as a sentence.
    Failed(String),
}

/// Why nothing was found.
pub(super) enum Lack {
    Absent(String),
    Failed(String),
}

/// What was found, and how long it is valid.
type Found<T> = Result<(T, Duration), Lack>;

/// What was found, how long it is valid, and whether both families of addresses could be looked up.
pub(super) type FoundAddresses<T> = Result<(T, Duration, bool), Lack>;

/// Asks name servers. Keeps the clients, whose sockets and knowledge of servers are used again.
#[derive(Default)]
pub(super) struct Asker {
    by_servers: RefCell<HashMap<Vec<SocketAddr>, Rc<Client>>>,
}

/// The client for one list of servers.
pub(super) struct Client {
    /// The error if the system names no servers.
    resolver: Result<TokioResolver, String>,
    search: Vec<Name>,
    ndots: usize,
    /// The version of `resolv.conf` that it was made from.
    stamp: Stamp,
}

/// Tells versions of `resolv.conf` apart: inode, size, seconds and nanoseconds of the last modification.
pub(super) type Stamp = Option<(u64, u64, i64, i64)>;

fn stamp() -> Stamp {
    let metadata = std::fs::metadata(RESOLV_CONF).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

impl Asker {
    /// Looks up a name.
    pub(super) async fn ask(&self, question: Question) -> Answer {
        let client = self.client(&question.servers);
        let looking = async {
            match &question.asked {
                Kind::Addresses { name, port } => client.endpoints(name, *port).await,
                Kind::Services { name } => client.services(name).await,
            }
        };
        match tokio::time::timeout(LONGEST, looking).await {
            Ok(Ok((endpoints, valid_for, whole))) => Answer::Found { endpoints, valid_for, whole },
            Ok(Err(Lack::Absent(why))) => Answer::Absent(why),
            Ok(Err(Lack::Failed(why))) => Answer::Failed(why),
            Err(_) => Answer::Failed(format!("no answer from a name server within {LONGEST:?}")),
        }
    }

    /// The client for these servers. Another one is made when `resolv.conf` has changed.
    fn client(&self, servers: &[SocketAddr]) -> Rc<Client> {
        let stamp = stamp();
        let mut by_servers = self.by_servers.borrow_mut();
        if let Some(client) = by_servers.get(servers).filter(|client| client.stamp == stamp) {
            return client.clone();
        }
        let system = system_conf::read_system_conf();
        let system = system.map_err(|error| format!("`{RESOLV_CONF}` names no name servers: {error}"));
        let client = Rc::new(Client::new(servers, system, stamp));
        by_servers.insert(servers.to_vec(), client.clone());
        client
    }
}

impl Client {
    /// The client for these servers, or else for those of the system.
    pub(super) fn new(
        servers: &[SocketAddr],
        system: Result<(ResolverConfig, ResolverOpts), String>,
        stamp: Stamp,
    ) -> Client {
        let (of_system, mut options) = match &system {
            Ok((config, options)) => (Some(config), options.clone()),
            Err(_) => (None, ResolverOpts::default()),
        };
        let mut search = of_system.map(|config| config.search().to_vec()).unwrap_or_default();
        // Without search domains, the domain of this host is searched (resolv.conf(5)).
        if search.is_empty() {
            search.extend(of_system.and_then(|config| config.domain().cloned()));
        }
        let ndots = options.ndots;
        // The caller keeps what was found; hosts are looked up before.
        (options.cache_size, options.use_hosts_file) = (0, ResolveHosts::Never);
        let config = match (servers.is_empty(), &system) {
            (false, _) => Ok(ResolverConfig::from_name_servers(servers.iter().map(server).collect())),
            (true, Ok((config, _))) => Ok(ResolverConfig::from_name_servers(config.name_servers().to_vec())),
            (true, Err(why)) => Err(why.clone()),
        };
        let resolver = config.and_then(|config| {
            let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
            *builder.options_mut() = options;
            builder.build().map_err(|error| error.to_string())
        });
        Client { resolver, search, ndots, stamp }
    }

    /// An endpoint for each address of a name.
    async fn endpoints(&self, name: &str, port: u16) -> FoundAddresses<Vec<EndpointSpec>> {
        let (addresses, valid_for, whole) = self.addresses(name).await?;
        let at = |address: IpAddr| EndpointSpec::at(&address.to_string(), port);
        Ok((addresses.into_iter().map(at).collect(), valid_for, whole))
    }

    /// The addresses of a name, IPv6 and IPv4 by turns (RFC 8305 section 4).
    pub(super) async fn addresses(&self, name: &str) -> FoundAddresses<Vec<IpAddr>> {
        if let Some(addresses) = by_this_host(name) {
            return Ok((addresses, HOSTS_TTL, true));
        }
        let mut lack = None;
        for candidate in self.candidates(name)? {
            let (six, four) =
                tokio::join!(self.query(&candidate, RecordType::AAAA), self.query(&candidate, RecordType::A));
            match (six, four) {
                (Ok((six, of_six)), Ok((four, of_four))) => {
                    return Ok((by_turns(addresses_of(six), addresses_of(four)), of_six.min(of_four), true));
                }
                (Ok((records, valid_for)), Err(why)) | (Err(why), Ok((records, valid_for))) => {
                    return Ok((addresses_of(records), valid_for, matches!(why, Lack::Absent(_))));
                }
                (Err(one), Err(other)) => lack = worse(worse(lack, one), other),
            }
        }
        Err(lack.unwrap_or_else(|| Lack::Failed(format!("`{name}` is not a host name"))))
    }

    /// An endpoint for each address of each target of the SRV records of a name.
    async fn services(&self, name: &str) -> FoundAddresses<Vec<EndpointSpec>> {
        let mut lack = None;
        for candidate in self.candidates(name)? {
            match self.query(&candidate, RecordType::SRV).await {
                Ok((records, valid_for)) => {
                    let records = records.into_iter().filter_map(|data| match data {
                        RData::SRV(record) => Some(record),
                        _ => None,
                    });
                    let (endpoints, of_targets, whole) = self.targets(name, records.collect()).await?;
                    return Ok((endpoints, valid_for.min(of_targets), whole));
                }
                Err(why) => lack = worse(lack, why),
            }
        }
        Err(lack.unwrap_or_else(|| Lack::Failed(format!("`{name}` is not a host name"))))
    }

    async fn targets(&self, name: &str, records: Vec<SRV>) -> FoundAddresses<Vec<EndpointSpec>> {
        // A root target says that the service is not available at this name (RFC 2782).
        let records: Vec<SRV> = records.into_iter().filter(|record| !record.target.is_root()).collect();
        let targets: BTreeSet<String> = records.iter().map(|record| record.target.to_string()).collect();
        let looked_up = stream::iter(targets).map(async |target| {
            let found = self.addresses(&target).await;
            (target, found)
        });
        let looked_up: Vec<(String, FoundAddresses<Vec<IpAddr>>)> =
            looked_up.buffer_unordered(TARGETS_AT_ONCE).collect().await;
        let (mut by_target, mut lack) = (HashMap::new(), None);
        let (mut valid_for, mut whole) = (Duration::MAX, true);
        for (target, found) in looked_up {
            match found {
                Ok((addresses, ttl, both)) => {
                    (valid_for, whole) = (valid_for.min(ttl), whole && both);
                    by_target.insert(target, addresses);
                }
                // If a target is not known, neither is the set.
                Err(Lack::Failed(why)) => return Err(Lack::Failed(why)),
                Err(absent) => lack = worse(lack, absent),
            }
        }
        let endpoints = specs(&records, &by_target);
        match endpoints.is_empty() {
            true => {
                Err(lack
                    .unwrap_or_else(|| Lack::Absent(format!("`{name}` says that there is no such service"))))
            }
            false => Ok((endpoints, valid_for, whole)),
        }
    }

    /// The full names that a name may stand for, in the order in which they are asked for (resolv.conf(5)).
    fn candidates(&self, name: &str) -> Result<Vec<Name>, Lack> {
        let told = |_| Lack::Failed(format!("`{name}` is not a host name"));
        let mut full = Name::from_str_relaxed(name).map_err(told)?;
        let is_full = full.is_fqdn();
        let relative = full.clone();
        full.set_fqdn(true);
        if is_full {
            return Ok(vec![full]);
        }
        let searched = self.search.iter().filter_map(|domain| relative.clone().append_domain(domain).ok());
        let mut candidates: Vec<Name> = searched.collect();
        let is_first = name.matches('.').count() >= self.ndots;
        candidates.insert(if is_first { 0 } else { candidates.len() }, full);
        Ok(candidates)
    }

    /// The records of one kind of a full name. Never empty.
    async fn query(&self, name: &Name, kind: RecordType) -> Found<Vec<RData>> {
        let resolver = self.resolver.as_ref().map_err(|why| Lack::Failed(why.clone()))?;
        let lookup =
            resolver.lookup(name.clone(), kind).await.map_err(|error| meaning(name, kind, &error))?;
        let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        let of_kind = lookup.answers().iter().filter(|record| record.record_type() == kind);
        let records: Vec<RData> = of_kind.map(|record| record.data.clone()).collect();
        match records.is_empty() {
            true => Err(Lack::Absent(format!("`{name}` has no {kind} records"))),
            false => Ok((records, Duration::from_secs(ttl.into()))),
        }
    }
}

/// A server by UDP, and by TCP for large answers.
fn server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections.iter_mut().for_each(|connection| connection.port = address.port());
    server
}

/// What `/etc/hosts` says. `localhost` needs no entry (RFC 6761 section 6.3).
fn by_this_host(name: &str) -> Option<Vec<IpAddr>> {
    let mut full = Name::from_str_relaxed(name).ok()?;
    full.set_fqdn(true);
    let hosts = Hosts::from_system().unwrap_or_default();
    let of = |kind| {
        let lookup = hosts.lookup_static_host(&Query::query(full.clone(), kind));
        let answers = lookup.iter().flat_map(|lookup| lookup.answers()).map(|record| record.data.clone());
        addresses_of(answers.collect())
    };
    let addresses = by_turns(of(RecordType::AAAA), of(RecordType::A));
    if !addresses.is_empty() {
        return Some(addresses);
    }
    let name = name.trim_end_matches('.');
    let is_local =
        name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    is_local.then(|| vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()])
}

fn addresses_of(records: Vec<RData>) -> Vec<IpAddr> {
    records.iter().filter_map(RData::ip_addr).collect()
}

fn by_turns(one: Vec<IpAddr>, other: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut all = Vec::with_capacity(one.len() + other.len());
    loop {
        let before = all.len();
        all.extend(one.next());
        all.extend(other.next());
        if all.len() == before {
            return all;
        }
    }
}

/// The lack that says more: not to know anything about one name is worse than to know that another does not exist.
fn worse(before: Option<Lack>, lack: Lack) -> Option<Lack> {
    match before {
        Some(Lack::Failed(why)) => Some(Lack::Failed(why)),
        Some(Lack::Absent(_)) | None => Some(lack),
    }
}

fn meaning(name: &Name, kind: RecordType, error: &NetError) -> Lack {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(no)) => match no.response_code {
            ResponseCode::NXDomain => Lack::Absent(format!("`{name}` does not exist (NXDOMAIN)")),
            ResponseCode::NoError if no.soa.is_none() && no.ns.is_some() => Lack::Failed(format!(
                "the name server refers to others for `{name}`: it does not resolve names"
            )),
            ResponseCode::NoError => Lack::Absent(format!("`{name}` has no {kind} records")),
            code => refused(name, code),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => refused(name, *code),
        NetError::Timeout => Lack::Failed(format!("no name server answered in time for `{name}`")),
        other => Lack::Failed(format!("`{name}` cannot be looked up: {other}")),
    }
}

fn refused(name: &Name, code: ResponseCode) -> Lack {
    let word = match code {
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        other => other.to_string(),
    };
    Lack::Failed(format!("the name server answered {word} for `{name}`"))
}

/// The endpoints of SRV records. Priorities become steps from 0. Within a priority, a weight of 0 gets a very small
/// share (RFC 2782). The addresses of one target share its weight.
fn specs(records: &[SRV], by_target: &HashMap<String, Vec<IpAddr>>) -> Vec<EndpointSpec> {
    let priorities: BTreeSet<u16> = records.iter().map(|record| record.priority).collect();
    let step = |priority: u16| priorities.iter().position(|known| *known == priority).unwrap_or_default();
    let mut endpoints = Vec::new();
    for record in records.iter().filter(|record| record.port > 0) {
        let addresses = by_target.get(&record.target.to_string()).map(Vec::as_slice).unwrap_or_default();
        for address in addresses {
            let weight = (u32::from(record.weight) * 10 / addresses.len() as u32).max(1);
            let priority = step(record.priority).min(LAST_PRIORITY) as u32;
            let spec = EndpointSpec::at(&address.to_string(), record.port);
            endpoints.push(EndpointSpec { weight, priority, ..spec });
        }
    }
    endpoints
}
