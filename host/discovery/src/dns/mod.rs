//! Endpoints in DNS: the addresses of names, or the targets of SRV records.
//!
//! | part | module | what it is |
//! |---|---|---|
//! | look-ups | [`ask`] | one look-up of a name, with search domains and `/etc/hosts`; what the answer means |
//! | thread | [`thread`] | runs all look-ups of the process |
//! | set | [`set`] | merges what was found about several names, and keeps what is known about each |
//!
//! A name is looked up again when its shortest TTL is over, within the bounds of the configuration. A name that is
//! said not to exist is looked up once more before that is believed. Anything else that goes wrong (SERVFAIL, no
//! answer, garbage) changes nothing.

mod ask;
mod set;
mod thread;

use std::pin::Pin;
use std::time::Duration;

use witgate_config::{Problems, model};
use witgate_exchange::contracts::discovery::{
    EndpointSink, Resolved, Resolver, Run, Source, SourceKind, SourceThread,
};

use ask::{Answer, Kind, Question};
use set::Names;

/// The row of the table for addresses of names.
pub const DNS: SourceKind = SourceKind {
    kind: "dns",
    summary: "the addresses of host names, for platforms that keep a name for each service",
    thread: SourceThread::Keeper,
    build: build_dns,
};

/// The row of the table for SRV records.
pub const SRV: SourceKind = SourceKind {
    kind: "srv",
    summary: "the targets of SRV records, where the name server knows ports, weights and priorities too",
    thread: SourceThread::Keeper,
    build: build_srv,
};

/// The pause after a look-up that failed, or before one that is to confirm that a name does not exist.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after look-ups that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

fn build_dns(source: &model::DiscoverySource) -> Result<Box<dyn Source>, Problems> {
    let model::DiscoverySource::Dns(model::DnsSource { names, lookup }) = source else {
        return Err(Problems::new());
    };
    let asked = names.iter().map(|(name, port)| Kind::Addresses { name: name.clone(), port: *port });
    Ok(Box::new(DnsSource { names: Names::new(asked.collect()), lookup: lookup.clone() }))
}

fn build_srv(source: &model::DiscoverySource) -> Result<Box<dyn Source>, Problems> {
    let model::DiscoverySource::Srv(model::SrvSource { names, lookup }) = source else {
        return Err(Problems::new());
    };
    let asked = names.iter().map(|name| Kind::Services { name: name.clone() });
    Ok(Box::new(DnsSource { names: Names::new(asked.collect()), lookup: lookup.clone() }))
}

struct DnsSource {
    names: Names,
    lookup: model::DnsLookup,
}

impl Source for DnsSource {
    fn run<'a>(&'a mut self, sink: &'a dyn EndpointSink) -> Run<'a> {
        Box::pin(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let servers = &self.lookup.servers;
                let answers = self.names.asked().map(|asked| {
                    thread::look_up(Question { asked: asked.clone(), servers: servers.clone() })
                });
                // All are asked at once: each look-up runs on the other thread from here on.
                let waiting: Vec<_> = answers.collect();
                let mut found = Vec::with_capacity(waiting.len());
                for answer in waiting {
                    found.push(answer.await);
                }
                let valid_for = self.names.learn(found, sink);
                let wait = match valid_for {
                    Some(valid_for) => {
                        pause = FIRST_PAUSE;
                        valid_for.clamp(self.lookup.min_ttl, self.lookup.max_ttl)
                    }
                    None => {
                        let wait = pause;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        wait
                    }
                };
                // Jitter, so that the gateways of a fleet do not all ask at the same time.
                tokio::time::sleep(wait.mul_f64(1.0 - fastrand::f64() / 10.0)).await;
            }
        })
    }
}

/// Looks up the host names of fixed lists, by the name servers of the system.
pub struct HostResolver;

impl Resolver for HostResolver {
    fn resolve(&self, host: String) -> Pin<Box<dyn Future<Output = Result<Resolved, String>> + Send>> {
        // The port is not part of what is found.
        let asked = Kind::Addresses { name: host, port: 1 };
        let answer = thread::look_up(Question { asked, servers: Vec::new() });
        Box::pin(async move {
            match answer.await {
                Answer::Found { endpoints, valid_for, .. } => {
                    let addresses = endpoints.iter().filter_map(|spec| spec.host.parse().ok()).collect();
                    Ok(Resolved { addresses, valid_for })
                }
                Answer::Absent(why) | Answer::Failed(why) => Err(why),
            }
        })
    }
}

#[cfg(test)]
mod tests;
