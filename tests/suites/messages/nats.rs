//! A real NATS with JetStream, with nats-py as the client on the other side.

use std::path::Path;

use witgate_tests::{Gateway, NatsServer, Scratch, eventually};

use super::load::Load;
use super::programs::{python, run};
use super::{judge, post, received, there_and_back};

/// Connects in a program of nats-py.
const CONNECT: &str = "import sys, asyncio, nats\n\
     async def main():\n    \
         client = await nats.connect(sys.argv[1])\n    \
         stream = client.jetstream()\n";

/// Runs the lines of a program of nats-py, and returns what it prints.
fn nats_py(python: &Path, server: &NatsServer, lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    run(python, &format!("{CONNECT}{lines}    await client.close()\nasyncio.run(main())\n"), &server.url())
}

/// The whole way over JetStream. One test, because one server is enough.
#[tokio::test(flavor = "multi_thread")]
async fn jetstream() {
    let (Some(mut server), Some(python)) = (NatsServer::start(), python("nats")) else { return };
    nats_py(
        &python,
        &server,
        "await stream.add_stream(name='jobs', subjects=['jobs.>'])\nawait stream.add_stream(name='dead', subjects=['dead'])",
    );
    let origin = judge().await;
    let broker = format!("kind = \"nats\"\nurls = [\"{}\"]\nconnect_timeout = \"2s\"", server.url());
    let consumer = "dead_letter = { to = \"dead\" }\nsource = { start = \"earliest\" }";
    let mut toml = there_and_back(&broker, "to = \"jobs.new\", key = \"{id}\"", origin.address(), consumer);
    // The consumer of the dead letters is the last table.
    toml.push_str("source = { start = \"earliest\" }\n");
    toml.push_str("[[routes]]\npath = \"/nobody\"\npublish = { broker = \"b\", to = \"nobody\" }\n");
    let gateway = Gateway::start(Scratch::new(), &toml).await;
    let mut client = gateway.client().await;
    eventually("the broker to be connected", async || {
        post(&mut client, "200-first", &[], "").await.status == 202
    })
    .await;
    for id in ["200-a", "404-a", "503-a"] {
        assert_eq!(post(&mut client, id, &[], id).await.status, 202);
    }
    let reply = client.post("/nobody", &[], "").await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (502, "message-unroutable".into()));
    eventually("dead letters", async || received(&origin, "/dead").len() == 2).await;
    let tries = received(&origin, "/hook");
    assert_eq!((tries["200-a"], tries["404-a"], tries["503-a"]), (1, 1, 3));
    let last =
        origin.seen().into_iter().rfind(|seen| seen.header("x-id") == "503-a" && seen.uri.path() == "/hook");
    let last = last.expect("it was tried");
    assert_eq!(
        (last.header("witgate-attempt"), last.header("witgate-redelivered")),
        ("3", "true"),
        "the broker counts"
    );
    nats_py(&python, &server, "await stream.publish('jobs.py', b'from Python', headers={'x-id': 'python'})");
    eventually("the message of nats-py", async || received(&origin, "/hook").contains_key("python")).await;

    let load = Load::begin(gateway.address());
    load.goes_on(200).await;
    server.kill();
    server.restart();
    load.goes_on(200).await;
    let told = load.end().await;
    eventually("every message that was accepted", async || {
        let received = received(&origin, "/hook");
        told.iter().all(|id| received.contains_key(id))
    })
    .await;
}
