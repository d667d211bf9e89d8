//! Endpoints fail under constant load: no idempotent request is lost, and no other request is sent twice.
//!
//! Every request carries an id, and the origins count how often they received each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Request};
use http_body_util::Full;
use tokio::task::JoinSet;
use witgate_tests::{Client, Gateway, Mood, MoodyOrigin, Scratch, eventually};

/// Number of clients, each of which sends one request after the other.
const CLIENTS: usize = 12;

/// The responses that the clients received.
#[derive(Default)]
struct SeenRequest {
    /// Idempotent requests whose response was not a 200.
    lost: Vec<String>,
    /// Ids of POST requests whose response was a 200.
    answered: Vec<String>,
    posts_failed: usize,
}

/// Clients that send requests until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<SeenRequest>,
}

impl Load {
    fn begin(gateway: SocketAddr) -> Load {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(work(gateway, number, Arc::clone(&stop), Arc::clone(&answered)));
        }
        Load { stop, answered, clients }
    }

    /// Waits for this number of further responses.
    async fn goes_on(&self, requests: usize) {
        let before = self.answered.load(Ordering::SeqCst);
        eventually("the load to go on", async || self.answered.load(Ordering::SeqCst) >= before + requests)
            .await;
    }

    async fn end(self) -> SeenRequest {
        self.stop.store(true, Ordering::SeqCst);
        let mut told = SeenRequest::default();
        for one in self.clients.join_all().await {
            told.lost.extend(one.lost);
            told.answered.extend(one.answered);
            told.posts_failed += one.posts_failed;
        }
        told
    }
}

async fn work(
    gateway: SocketAddr,
    number: usize,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> SeenRequest {
    let mut client = Client::http1(gateway).await;
    let mut told = SeenRequest::default();
    for count in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let id = format!("{number}-{count}");
        let method = [Method::GET, Method::POST, Method::PUT][count % 3].clone();
        let body = if method == Method::GET { "" } else { "some data" };
        let request = Request::builder().method(&method).uri("/").header("x-id", &id);
        let request = request.body(Full::from(body)).expect("a valid request");
        let reply = client.try_send(request).await;
        let good = matches!(&reply, Ok(reply) if reply.status == 200 && reply.text() == "well");
        match (good, method == Method::POST) {
            (true, true) => told.answered.push(id),
            (true, false) => {}
            (false, true) => told.posts_failed += 1,
            (false, false) => told.lost.push(format!("{method} {id}: {reply:?}")),
        }
        answered.fetch_add(1, Ordering::SeqCst);
        if reply.is_err() {
            client = Client::http1(gateway).await;
        }
    }
    told
}

fn config(origins: &[MoodyOrigin], workers: usize, keep_alive: &str) -> String {
    let endpoints: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    format!(
        "[gateway]\nworkers = {workers}\n[telemetry]\naccess_log = \"access.log\"\n\
         [admin]\naddress = \"off\"\nsocket = \"admin.sock\"\n\
         [[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         [[routes]]\nupstream = \"moody\"\n\
         [upstreams.moody]\nendpoints = {endpoints:?}\nfirst_byte_timeout = \"500ms\"\nkeep_alive = \"{keep_alive}\"\n"
    )
}

/// Three endpoints under load. One of them fails, stays so over a reload, and recovers.
async fn entry(workers: usize, mood: Mood) {
    let origins = [MoodyOrigin::start(), MoodyOrigin::start(), MoodyOrigin::start()];
    let gateway = Gateway::start_exactly(Scratch::new(), &config(&origins, workers, "60s")).await;
    let load = Load::begin(gateway.address());
    load.goes_on(100).await;
    origins[0].set(mood);
    load.goes_on(200).await;
    gateway.reconfigure(&config(&origins, workers, "50s")).await;
    load.goes_on(200).await;
    origins[0].set(Mood::Well);
    let before = origins[0].seen().len();
    eventually("the endpoint to be asked again", async || origins[0].seen().len() > before + 20).await;
    load.goes_on(100).await;
    let told = load.end().await;

    assert!(told.lost.is_empty(), "{mood:?}: {} lost, e.g. {}", told.lost.len(), told.lost[0]);
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (id, times) in origins.iter().flat_map(MoodyOrigin::seen) {
        *seen.entry(id).or_default() += times;
    }
    let is_post = |id: &str| {
        id.split_once('-').is_some_and(|(_, count)| count.parse::<usize>().is_ok_and(|count| count % 3 == 1))
    };
    let twice: Vec<_> = seen.iter().filter(|(id, times)| is_post(id) && **times > 1).collect();
    assert!(twice.is_empty(), "{mood:?}: sent twice: {twice:?}");
    assert!(told.answered.iter().all(|id| seen.get(id) == Some(&1)), "{mood:?}: answered, but never seen");
    assert!(told.answered.len() > told.posts_failed, "{mood:?}: {} POSTs failed", told.posts_failed);
    let retried = gateway.metric("witgate_upstream_retries_total", &["outcome=\"answered\""]).await;
    assert!(retried > 0.0, "{mood:?}: it made no difference");
}

#[tokio::test]
async fn an_endpoint_that_is_killed_costs_no_idempotent_request_and_no_post_is_sent_twice() {
    entry(1, Mood::Killed).await;
    entry(2, Mood::Killed).await;
}

#[tokio::test]
async fn so_does_one_that_is_paused() {
    entry(1, Mood::Paused).await;
    entry(2, Mood::Paused).await;
}

#[tokio::test]
async fn so_does_one_that_talks_nonsense() {
    entry(1, Mood::Garbage).await;
    entry(2, Mood::Garbage).await;
}

#[tokio::test]
async fn so_does_one_that_closes_in_the_middle_of_its_head() {
    entry(1, Mood::HalfHead).await;
    entry(2, Mood::HalfHead).await;
}

/// Whether the failing endpoint is in service, as the status reports it.
async fn in_service(gateway: &Gateway) -> bool {
    gateway.admin_get("/upstreams").await.json()[0]["endpoints"][0]["availability"] == "available"
}

/// Three endpoints under load. One of them fails, is left out, and comes back after it has recovered.
async fn left_out(workers: usize, mood: Mood) {
    let origins = [MoodyOrigin::start(), MoodyOrigin::start(), MoodyOrigin::start()];
    let gateway = Gateway::start_exactly(Scratch::new(), &config(&origins, workers, "60s")).await;
    let load = Load::begin(gateway.address());
    load.goes_on(50).await;
    origins[0].set(mood);
    eventually("the endpoint to be left out", async || !in_service(&gateway).await).await;
    load.goes_on(50).await;
    origins[0].set(Mood::Well);
    let before = origins[0].seen().len();
    eventually("the endpoint to be asked again", async || origins[0].seen().len() > before + 20).await;
    eventually("the endpoint to be in service", async || in_service(&gateway).await).await;
    let told = load.end().await;
    assert!(told.lost.is_empty(), "{mood:?}: {} lost, e.g. {}", told.lost.len(), told.lost[0]);
    let events = gateway.admin_get("/upstreams").await.json()[0]["events"].to_string();
    let (address, left_out) = (origins[0].address().to_string(), ["ejected", "breaker-opened"]);
    assert!(left_out.iter().any(|event| events.contains(event)) && events.contains(&address), "{events}");
    for well in &origins[1..] {
        assert!(
            !events.contains(&well.address().to_string()),
            "{mood:?}: the others were left alone: {events}"
        );
    }
}

#[tokio::test]
async fn an_endpoint_that_falls_ill_is_left_out_until_it_is_well_again() {
    let moods =
        [Mood::Killed, Mood::Paused, Mood::Slow(Duration::from_secs(2)), Mood::Garbage, Mood::HalfHead];
    for mood in moods {
        left_out(2, mood).await;
    }
    left_out(1, Mood::Killed).await;
}
