//! Requests become messages, and messages become requests.

#[cfg(feature = "full")]
mod load;
mod memory;
#[cfg(feature = "full")]
mod programs;
#[cfg(feature = "full")]
mod rabbit;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use witgate_tests::{Client, Origin, Reply, Seen};

/// Routes that publish what arrives at `/in` to the queue `jobs`, and deliver what is in that queue to the origin, and what
/// could not be delivered to `/dead` of the same origin.
fn there_and_back(broker: &str, to: &str, origin: SocketAddr, consumer: &str) -> String {
    format!(
        "[telemetry]\naccess_log = \"access.log\"\n[brokers.b]\n{broker}\n\
         [upstreams.origin]\nendpoints = [\"{origin}\"]\n\
         [[routes]]\nname = \"in\"\nmethod = \"POST\"\npath = \"/in/{{id}}\"\n\
         publish = {{ broker = \"b\", {to}, headers = [\"x-id\", \"x-forged\", \"x-user\", \"x-forwarded-for\"] }}\n\
         [[routes]]\nname = \"hook\"\nhost = \"jobs.internal\"\npath = \"/hook\"\nupstream = \"origin\"\n\
         [[routes]]\nname = \"dead\"\nhost = \"dead.internal\"\npath = \"/dead\"\nupstream = \"origin\"\n\
         [consumers.jobs]\nbroker = \"b\"\nfrom = \"jobs\"\nhost = \"jobs.internal\"\npath = \"/hook\"\n\
         backoff = {{ base = \"10ms\", max = \"50ms\" }}\nattempts = 3\n{consumer}\n\
         [consumers.dead]\nbroker = \"b\"\nfrom = \"dead\"\nhost = \"dead.internal\"\npath = \"/dead\"\n\
         dead_letter = \"discard\"\n"
    )
}

/// An origin that answers a message with the status that its header `x-id` begins with, e.g. `503-a`, or else with 200.
async fn judge() -> Origin {
    Origin::with(|seen: &Seen| {
        let status = seen.header("x-id").split('-').next().and_then(|status| status.parse::<u16>().ok());
        let status = status.filter(|_| seen.uri.path() == "/hook").unwrap_or(200);
        let mut response = Response::new(Full::<Bytes>::default());
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        response
    })
    .await
}

/// Posts a message with this id.
async fn post(client: &mut Client, id: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut request = Request::post(format!("/in/{id}")).header("x-id", id);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request.body(Full::from(body.to_owned())).expect("a request")).await
}

/// How often the origin received each id at this path.
fn received(origin: &Origin, path: &str) -> BTreeMap<String, usize> {
    let mut received = BTreeMap::new();
    for seen in origin.seen().iter().filter(|seen| seen.uri.path() == path) {
        *received.entry(seen.header("x-id").to_owned()).or_default() += 1;
    }
    received
}
