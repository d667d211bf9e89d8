//! Endpoints in etcd: the keys under a prefix, which services put there with a lease.
//!
//! | part | module | what it is |
//! |---|---|---|
//! | following | this one | lists the keys, and watches them from the next revision on |
//! | keys | [`keys`] | the keys that are known, and their endpoints |
//! | messages | [`protocol`] | the messages of etcd's API |
//!
//! One member of the cluster is used at a time. A member that fails, falls silent or has lost its leader is followed by
//! the next one. If the revision that is watched was compacted, all keys are listed again. The client is our own, since
//! the crate `etcd-client` needs the compiler of Protocol Buffers at each build.

mod keys;
mod protocol;

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use witgate_config::{Problems, model};
use witgate_exchange::contracts::discovery::{EndpointSink, Run, Source, SourceKind, SourceThread};

use crate::registry::gather::Gathering;
use crate::registry::grpc::{Failed, Grpc, code};
use crate::registry::{Ended, check, one_after_the_other};
use keys::{Keys, MOST};
use protocol::{
    AUTHENTICATE, Authenticate, Authenticated, CreateWatch, Progress, RANGE, Range, Ranged, WATCH, Wanted,
    WatchRequest, Watched,
};

/// The row of the table.
pub const KIND: SourceKind = SourceKind {
    kind: "etcd",
    summary: "the keys under a prefix in etcd, for services that register themselves with a lease",
    thread: SourceThread::Own,
    build,
};

/// The most keys in one answer.
const PAGE: usize = 500;
/// The time between two questions whether all changes were sent.
const PROGRESS: Duration = Duration::from_secs(10);
/// A watch on which nothing was heard for this time has failed.
const SILENCE: Duration = Duration::from_secs(30);
/// The pause before keys are listed again because the watched revision was compacted.
const COMPACTED: Duration = Duration::from_secs(1);

fn build(source: &model::DiscoverySource) -> Result<Box<dyn Source>, Problems> {
    let model::DiscoverySource::Etcd(settings) = source else { return Err(Problems::new()) };
    check(settings.servers.tls.as_ref())?;
    Ok(Box::new(EtcdSource { settings: settings.clone(), next: 0 }))
}

struct EtcdSource {
    settings: model::EtcdSource,
    /// The member that is used next.
    next: usize,
}

impl Source for EtcdSource {
    fn run<'a>(&'a mut self, sink: &'a dyn EndpointSink) -> Run<'a> {
        Box::pin(async move {
            let EtcdSource { settings, next } = self;
            let session = async |host: &str, port: u16| {
                let mut follower = Follower { settings, sink, useful: false, accepted: false };
                let Err(why) = follower.follow(host, port).await;
                Ended { why, useful: follower.useful }
            };
            Err(one_after_the_other(&settings.servers.servers, next, session).await)
        })
    }
}

/// Follows one member.
struct Follower<'a> {
    settings: &'a model::EtcdSource,
    sink: &'a dyn EndpointSink,
    /// Whether the member has given a set.
    useful: bool,
    /// Whether the sink has accepted the last set.
    accepted: bool,
}

impl Follower<'_> {
    async fn follow(&mut self, host: &str, port: u16) -> Result<Infallible, String> {
        let mut client = Grpc::open(&self.settings.servers, host, port).await?;
        // A member without a leader ends calls instead of answering with what it knew.
        client.send_always("hasleader", "true")?;
        if let Some((name, password)) = &self.settings.user {
            let password = String::from_utf8_lossy(password.bytes()).into_owned();
            let question = Authenticate { name: name.clone(), password };
            let answer: Result<Authenticated, Failed> = client.call(AUTHENTICATE, &question).await;
            let token = answer.map_err(|failed| self.words(failed))?.token;
            client.send_always("token", &token)?;
        }
        loop {
            let (keys, revision) = self.list(&mut client).await?;
            self.report(&keys);
            self.useful = true;
            self.watch(&mut client, keys, revision + 1).await?;
            tokio::time::sleep(COMPACTED).await;
        }
    }

    /// All keys, and the revision at which they were like this.
    async fn list(&self, client: &mut Grpc) -> Result<(Keys, i64), String> {
        let prefix = &self.settings.prefix;
        let mut keys = Keys::new(prefix);
        let mut question = Range {
            key: prefix.clone().into_bytes(),
            range_end: keys.end(),
            limit: i64::try_from(PAGE).unwrap_or(i64::MAX),
            revision: 0,
        };
        loop {
            let answer: Ranged = client.call(RANGE, &question).await.map_err(|failed| self.words(failed))?;
            let Some(header) = answer.header else { return Err("an answer has no header".to_owned()) };
            if usize::try_from(answer.count).is_ok_and(|count| count > MOST) {
                return Err(format!("{} keys begin with `{prefix}`: at most {MOST} may", answer.count));
            }
            for pair in &answer.kvs {
                keys.put(pair)?;
            }
            // All pages are of the revision of the first one.
            if question.revision == 0 {
                question.revision = header.revision;
            }
            let last = answer.kvs.last().map(|pair| pair.key.clone()).filter(|_| answer.more);
            let Some(mut next) = last else { return Ok((keys, question.revision)) };
            next.push(0);
            if next <= question.key {
                return Err("the member sends the same keys again and again".to_owned());
            }
            question.key = next;
        }
    }

    /// Follows the changes from a revision on. Returns if that revision was compacted.
    async fn watch(&mut self, client: &mut Grpc, mut keys: Keys, from: i64) -> Result<(), String> {
        let prefix = self.settings.prefix.clone().into_bytes();
        let create = CreateWatch { key: prefix, range_end: keys.end(), start_revision: from };
        let create = WatchRequest { wanted: Some(Wanted::Create(create)) };
        let opened = client.stream::<Watched>(WATCH, &create).await;
        let (requests, mut answers) = opened.map_err(|failed| self.words(failed))?;
        let mut ask = interval(PROGRESS);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut gathering, mut heard) = (Gathering::default(), Instant::now());
        gathering.reported();
        loop {
            tokio::select! {
                answer = answers.next() => {
                    let answer = answer.map_err(|failed| self.words(failed))?;
                    heard = Instant::now();
                    if answer.canceled && answer.compact_revision > 0 {
                        return Ok(());
                    }
                    if answer.canceled {
                        return Err(self.words(Failed { code: None, message: answer.cancel_reason }));
                    }
                    for event in &answer.events {
                        keys.apply(event)?;
                        gathering.changed();
                    }
                    let is_progress = answer.events.is_empty() && !answer.created;
                    if is_progress && self.accepted && !gathering.is_due() {
                        self.sink.confirm();
                    }
                }
                () = gathering.due() => {
                    self.report(&keys);
                    gathering.reported();
                }
                _ = ask.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(format!("nothing was heard for {} seconds", SILENCE.as_secs()));
                    }
                    requests.send(&WatchRequest { wanted: Some(Wanted::Progress(Progress {})) });
                }
            }
        }
    }

    fn report(&mut self, keys: &Keys) {
        // What is refused is noted by the sink.
        self.accepted = self.sink.whole(keys.endpoints()).is_ok();
    }

    /// The words for a failure.
    fn words(&self, failed: Failed) -> String {
        let Failed { code, message } = failed;
        let prefix = &self.settings.prefix;
        match (code, &self.settings.user) {
            (Some(code::PERMISSION_DENIED), Some((user, _))) => {
                format!("the user `{user}` may not read the keys under `{prefix}`: grant it a role that may")
            }
            (Some(code::INVALID_ARGUMENT), None) if message.contains("user name is empty") => {
                "etcd has authentication enabled: set `user` and `password`".to_owned()
            }
            (Some(code::INVALID_ARGUMENT | code::UNAUTHENTICATED), Some((user, _)))
                if message.contains("authentication failed") =>
            {
                format!("etcd refuses the user `{user}` or its password")
            }
            (Some(code::FAILED_PRECONDITION), Some(_))
                if message.contains("authentication is not enabled") =>
            {
                "etcd has no authentication enabled: leave `user` and `password` out".to_owned()
            }
            (Some(code), _) => format!("etcd reports an error ({code}): {message}"),
            (None, _) => crate::text::one_line(&message),
        }
    }
}

#[cfg(test)]
mod tests;
