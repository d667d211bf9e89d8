//! Endpoints in Kubernetes: the EndpointSlices of a service.
//!
//! | part | module | what it is |
//! |---|---|---|
//! | following | this one | lists the slices page by page, and watches them from the list's version on |
//! | access | [`access`] | the API server, the namespace and the token, from the configuration or the pod |
//! | slices | [`slices`] | their form, and the endpoints that follow from all of them |
//!
//! One API server is used at a time. A watch that ends is continued where it ended; if its version is no longer known
//! (410), all slices are listed again. One resource is listed and watched here, which needs neither the crate `kube` nor
//! the types of all resources.

mod access;
mod slices;

use std::convert::Infallible;
use std::time::Duration;

use http::{Response, StatusCode};
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout_at};
use witgate_config::{Problems, model};
use witgate_exchange::contracts::discovery::{EndpointSink, Run, Source, SourceKind, SourceThread};

use crate::registry::gather::Gathering;
use crate::registry::http::{Credential, Http, LARGEST, Lines, refusal, token, whole};
use crate::registry::{ANSWER, Ended, check, one_after_the_other};
use crate::text::one_line;
use access::ApiAccess;
use slices::{List, Metadata, Slice, Slices};

/// The row of the table.
pub const KIND: SourceKind = SourceKind {
    kind: "kubernetes",
    summary: "the EndpointSlices of a service in Kubernetes, for pods that are reached without a proxy between",
    thread: SourceThread::Own,
    build,
};

/// The most slices of one page.
const PAGE: usize = 250;
/// How long a watch is kept open, plus up to as much again, so that not all end together.
const WATCH: Duration = Duration::from_secs(150);
/// The shortest time between two requests.
const PACE: Duration = Duration::from_secs(1);
/// The most bytes of a version. It is text of the server's choice.
const LONGEST_VERSION: usize = 128;

fn build(source: &model::DiscoverySource) -> Result<Box<dyn Source>, Problems> {
    let model::DiscoverySource::Kubernetes(settings) = source else { return Err(Problems::new()) };
    check(settings.servers.as_ref().and_then(|servers| servers.tls.as_ref()))?;
    Ok(Box::new(KubernetesSource { settings: settings.clone(), next: 0 }))
}

struct KubernetesSource {
    settings: model::KubernetesSource,
    /// The server that is used next.
    next: usize,
}

impl Source for KubernetesSource {
    fn run<'a>(&'a mut self, sink: &'a dyn EndpointSink) -> Run<'a> {
        Box::pin(async move {
            let KubernetesSource { settings, next } = self;
            let access = ApiAccess::of(settings, &|name| std::env::var(name).ok(), access::ACCOUNT.as_ref())?;
            let session = async |host: &str, port: u16| {
                let mut follower =
                    Follower { settings, access: &access, sink, useful: false, accepted: false };
                let Err(why) = follower.follow(host, port).await;
                Ended { why, useful: follower.useful }
            };
            Err(one_after_the_other(&access.servers.servers, next, session).await)
        })
    }
}

/// The kind of an event of a watch.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

/// An event of a watch, once its kind is known.
#[derive(Deserialize)]
struct Event<T> {
    object: T,
}

/// An object of which only the version is read.
#[derive(Deserialize)]
struct Versioned {
    metadata: Metadata,
}

/// What the server says instead of an object.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    message: String,
    code: u16,
}

/// How a watch ended.
#[derive(Debug, PartialEq, Eq)]
enum WatchEnd {
    /// It is continued from this version on.
    At(String),
    /// The server does not know its version any more.
    Expired,
}

/// Follows one API server.
struct Follower<'a> {
    settings: &'a model::KubernetesSource,
    access: &'a ApiAccess,
    sink: &'a dyn EndpointSink,
    /// Whether the server has given a set.
    useful: bool,
    /// Whether the sink has accepted the last set.
    accepted: bool,
}

impl Follower<'_> {
    async fn follow(&mut self, host: &str, port: u16) -> Result<Infallible, String> {
        loop {
            let begun = Instant::now();
            let mut http = Http::open(&self.access.servers, host, port).await?;
            if let Some((mut slices, mut version)) = self.list(&mut http).await? {
                self.report(&slices);
                self.useful = true;
                loop {
                    let begun = Instant::now();
                    // A watch that was broken off leaves its connection in the middle of an answer.
                    http = Http::open(&self.access.servers, host, port).await?;
                    match self.watch(&mut http, &mut slices, version).await? {
                        WatchEnd::At(reached) => version = reached,
                        WatchEnd::Expired => break,
                    }
                    sleep_until(begun + PACE).await;
                }
            }
            sleep_until(begun + PACE).await;
        }
    }

    async fn get(&self, http: &mut Http, query: &str) -> Result<Response<Incoming>, String> {
        let namespace = &self.access.namespace;
        // The label is `kubernetes.io/service-name=NAME`; a name has no characters that need encoding.
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{}{query}",
            self.settings.service
        );
        let token = token(self.access.token_file.as_deref())?;
        let credential = token.as_deref().map_or(Credential::None, Credential::Bearer);
        http.get(&path, credential, ANSWER).await
    }

    /// All slices and their version. `None` if the list has to begin anew, because it took too long.
    async fn list(&self, http: &mut Http) -> Result<Option<(Slices, String)>, String> {
        let (mut slices, mut next_page) = (Slices::default(), String::new());
        loop {
            let query = match next_page.is_empty() {
                true => format!("&limit={PAGE}"),
                false => format!("&limit={PAGE}&continue={}", encoded(&next_page)),
            };
            let response = self.get(http, &query).await?;
            if response.status() == StatusCode::GONE && !next_page.is_empty() {
                return Ok(None);
            }
            if response.status() != StatusCode::OK {
                return Err(self.words(refusal(response).await));
            }
            let body = whole(response, LARGEST).await?;
            let List { metadata, items } = serde_json::from_slice(&body).map_err(|error| {
                format!("the answer is not a list of EndpointSlices: {}", one_line(&error.to_string()))
            })?;
            let items = items.unwrap_or_default();
            let is_stuck = metadata.next_page == next_page || items.is_empty();
            for slice in items {
                slices.put(slice)?;
            }
            if metadata.next_page.is_empty() {
                return Ok(Some((slices, checked(metadata.resource_version)?)));
            }
            if is_stuck {
                return Err("the server sends the same page again and again".to_owned());
            }
            next_page = metadata.next_page;
        }
    }

    /// Follows the changes from a version on.
    async fn watch(
        &mut self,
        http: &mut Http,
        slices: &mut Slices,
        version: String,
    ) -> Result<WatchEnd, String> {
        let time = WATCH.mul_f64(1.0 + fastrand::f64());
        let version_at_start = encoded(&version);
        let query = format!(
            "&watch=1&allowWatchBookmarks=true&resourceVersion={version_at_start}&timeoutSeconds={}",
            time.as_secs()
        );
        let response = self.get(http, &query).await?;
        if response.status() == StatusCode::GONE {
            return Ok(WatchEnd::Expired);
        }
        if response.status() != StatusCode::OK {
            return Err(self.words(refusal(response).await));
        }
        self.confirm();
        let (mut lines, mut version, mut gathering) = (Lines::of(response), version, Gathering::default());
        gathering.reported();
        // A server that keeps the watch open beyond its time has forgotten it.
        let end = Instant::now() + time + ANSWER;
        let outcome = loop {
            tokio::select! {
                line = timeout_at(end, lines.next()) => match line {
                    Ok(Ok(Some(line))) => match self.apply(&line, slices, &mut version) {
                        Ok(Applied::Changed) => gathering.changed(),
                        Ok(Applied::Bookmark) if !gathering.is_due() => self.confirm(),
                        Ok(Applied::Bookmark | Applied::Nothing) => {}
                        Ok(Applied::Expired) => break Ok(WatchEnd::Expired),
                        Err(why) => break Err(why),
                    },
                    // Servers and proxies end watches; what was seen so far holds.
                    Ok(Ok(None)) | Err(_) => break Ok(WatchEnd::At(version)),
                    Ok(Err(why)) => break Err(why),
                },
                () = gathering.due() => {
                    self.report(slices);
                    gathering.reported();
                }
            }
        };
        if gathering.is_due() {
            self.report(slices);
        }
        outcome
    }

    /// Applies one line of a watch.
    fn apply(&self, line: &[u8], slices: &mut Slices, version: &mut String) -> Result<Applied, String> {
        if line.trim_ascii().is_empty() {
            return Ok(Applied::Nothing);
        }
        let malformed = |error: serde_json::Error| {
            format!("an event of the watch is malformed: {}", one_line(&error.to_string()))
        };
        let Kind { kind } = serde_json::from_slice(line).map_err(malformed)?;
        match kind.as_str() {
            "ADDED" | "MODIFIED" => {
                let Event::<Slice> { object } = serde_json::from_slice(line).map_err(malformed)?;
                *version = checked(object.metadata.resource_version.clone())?;
                slices.put(object)?;
                Ok(Applied::Changed)
            }
            "DELETED" | "BOOKMARK" => {
                let Event::<Versioned> { object } = serde_json::from_slice(line).map_err(malformed)?;
                *version = checked(object.metadata.resource_version)?;
                if kind == "BOOKMARK" {
                    return Ok(Applied::Bookmark);
                }
                slices.remove(&object.metadata.name);
                Ok(Applied::Changed)
            }
            "ERROR" => {
                let Event::<Status> { object } = serde_json::from_slice(line).map_err(malformed)?;
                match StatusCode::from_u16(object.code) {
                    Ok(StatusCode::GONE) => Ok(Applied::Expired),
                    Ok(status) => Err(self.words((status, object.message))),
                    Err(_) => Err(format!("the watch ended: {}", one_line(&object.message))),
                }
            }
            _ => Ok(Applied::Nothing),
        }
    }

    fn report(&mut self, slices: &Slices) {
        let (port, zone) = (self.settings.port.as_deref(), self.settings.zone.as_deref());
        self.accepted = match slices.endpoints(port, zone) {
            // What is refused is noted by the sink.
            Ok(endpoints) => self.sink.whole(endpoints).is_ok(),
            Err(why) => {
                self.sink.failed(why);
                false
            }
        };
    }

    /// Reports that the last set is current, if it was accepted.
    fn confirm(&self) {
        if self.accepted {
            self.sink.confirm();
        }
    }

    /// The words for an answer that is an error.
    fn words(&self, (status, text): (StatusCode, String)) -> String {
        let namespace = &self.access.namespace;
        let told = serde_json::from_str::<Status>(&text)
            .map_or_else(|_| one_line(&text), |status| one_line(&status.message));
        match status {
            StatusCode::UNAUTHORIZED => format!("Kubernetes refuses the token: {told}"),
            StatusCode::FORBIDDEN => format!(
                "the token may not read the EndpointSlices in the namespace `{namespace}`: grant `list` and `watch` on `endpointslices.discovery.k8s.io`: {told}"
            ),
            StatusCode::NOT_FOUND => {
                "the server knows no `discovery.k8s.io/v1`: it is older than Kubernetes 1.21, or not Kubernetes".to_owned()
            }
            _ => format!("Kubernetes answers {status}: {told}"),
        }
    }
}

/// What a line of a watch has done.
enum Applied {
    Changed,
    /// Nothing has changed up to here.
    Bookmark,
    Nothing,
    /// The server does not know the version any more.
    Expired,
}

/// A version that may become part of a request.
fn checked(version: String) -> Result<String, String> {
    match version.len() {
        1..=LONGEST_VERSION => Ok(version),
        _ => Err("the server sends an object without a version".to_owned()),
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests;
