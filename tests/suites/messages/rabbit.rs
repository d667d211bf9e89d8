//! A real RabbitMQ, with pika as the client on the other side.

use std::collections::BTreeSet;
use std::path::Path;

use witgate_tests::{Gateway, Origin, RabbitServer, Scratch, eventually};

use super::load::Load;
use super::programs::{python, run};
use super::{judge, post, received, there_and_back};

/// Connects in a program of pika.
const CONNECT: &str = "import sys, pika\n\
     connection = pika.BlockingConnection(pika.ConnectionParameters('127.0.0.1', int(sys.argv[1])))\n\
     channel = connection.channel()\n";

/// Runs a program of pika, and returns what it prints.
fn pika(python: &Path, server: &RabbitServer, program: &str) -> String {
    run(python, &format!("{CONNECT}{program}connection.close()\n"), &server.port().to_string())
}

/// The whole way over RabbitMQ. One test, because the server takes long to start.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq() {
    let (Some(mut server), Some(python)) = (RabbitServer::start(), python("pika")) else { return };
    beginners(&server, &python).await;
    failures(&server, &python).await;
    killed_under_load(&mut server).await;
}

/// The first program of everybody who learns RabbitMQ, on both sides: it declares a queue with nothing but its name, so that
/// it is not durable.
async fn beginners(server: &RabbitServer, python: &Path) {
    pika(python, server, "channel.queue_declare(queue='task_queue')\nchannel.queue_declare(queue='hello')\n");
    let origin = judge().await;
    let toml = format!(
        "[brokers.rabbit]\nkind = \"amqp\"\nurls = [\"{}\"]\n[upstreams.origin]\nendpoints = [\"{}\"]\n\
         [[routes]]\npath = \"/hello\"\npublish = {{ broker = \"rabbit\", to = \"\", key = \"hello\" }}\n\
         [[routes]]\nname = \"hook\"\npath = \"/hook\"\nupstream = \"origin\"\n\
         [consumers.tasks]\nbroker = \"rabbit\"\nfrom = \"task_queue\"\npath = \"/hook\"\ndead_letter = \"discard\"\n",
        server.url(),
        origin.address()
    );
    let gateway = Gateway::start(Scratch::new(), &toml).await;
    let send = "channel.queue_declare(queue='task_queue')\n\
                channel.basic_publish(exchange='', routing_key='task_queue', body='Hello World!')\n";
    pika(python, server, send);
    eventually("the message of pika", async || !origin.seen().is_empty()).await;
    let seen = origin.last();
    assert_eq!((&seen.body[..], seen.header("witgate-message-key")), (&b"Hello World!"[..], "task_queue"));
    let mut client = gateway.client().await;
    eventually("the broker to be connected", async || {
        client.post("/hello", &[], "from HTTP").await.status == 202
    })
    .await;
    let receive = "channel.queue_declare(queue='hello')\n\
                   for method, properties, body in channel.consume('hello', auto_ack=True, inactivity_timeout=20):\n    \
                   print(body.decode() if body else 'nothing')\n    break\n";
    assert_eq!(pika(python, server, receive).trim(), "from HTTP");
    let status = gateway.admin_get("/brokers").await.json();
    assert!(status.to_string().contains("is not durable"), "{status}");
}

/// What cannot be published, and what is dead.
async fn failures(server: &RabbitServer, python: &Path) {
    pika(
        python,
        server,
        "channel.queue_declare(queue='jobs', durable=True, arguments={'x-queue-type': 'quorum'})\n\
         channel.queue_declare(queue='dead', durable=True)\n\
         channel.queue_declare(queue='one', durable=True, arguments={'x-max-length': 1, 'x-overflow': 'reject-publish'})\n",
    );
    let origin = judge().await;
    let broker = format!("kind = \"amqp\"\nurls = [\"{}\"]", server.url());
    let mut toml = there_and_back(
        &broker,
        "to = \"\", key = \"jobs\"",
        origin.address(),
        "dead_letter = { to = \"\", key = \"dead\" }",
    );
    for (path, to) in [
        ("nobody", "to = \"\", key = \"nobody\""),
        ("missing", "to = \"no-such-exchange\", key = \"a\""),
        ("one", "to = \"\", key = \"one\""),
    ] {
        toml.push_str(&format!("[[routes]]\npath = \"/{path}\"\npublish = {{ broker = \"b\", {to} }}\n"));
    }
    let gateway = Gateway::start(Scratch::new(), &toml).await;
    let mut client = gateway.client().await;
    eventually("the broker to be connected", async || {
        post(&mut client, "200-first", &[], "").await.status == 202
    })
    .await;
    for id in ["200-a", "404-a", "503-a"] {
        assert_eq!(post(&mut client, id, &[], id).await.status, 202);
    }
    for path in ["/nobody", "/missing"] {
        let reply = client.post(path, &[], "").await;
        assert_eq!(
            (reply.status.as_u16(), reply.json()["code"].clone()),
            (502, "message-unroutable".into()),
            "{path}"
        );
    }
    assert_eq!(client.post("/one", &[], "").await.status, 202);
    let refused = client.post("/one", &[], "").await;
    assert_eq!((refused.status.as_u16(), refused.json()["code"].clone()), (503, "broker-refused".into()));
    eventually("dead letters", async || received(&origin, "/dead").len() == 2).await;
    let tries = received(&origin, "/hook");
    assert_eq!((tries["200-a"], tries["404-a"], tries["503-a"]), (1, 1, 3));
}

/// The broker is killed while messages are published and consumed. Every id that was answered with 2xx is delivered after its
/// restart.
async fn killed_under_load(server: &mut RabbitServer) {
    let origin = judge().await;
    let broker = format!("kind = \"amqp\"\nurls = [\"{}\"]\nconnect_timeout = \"2s\"", server.url());
    let toml = there_and_back(
        &broker,
        "to = \"\", key = \"jobs\"",
        origin.address(),
        "dead_letter = { to = \"\", key = \"dead\" }",
    );
    let gateway = Gateway::start(Scratch::new(), &toml).await;
    let load = Load::begin(gateway.address());
    load.goes_on(200).await;
    server.kill();
    let told = load.end().await;
    server.restart();
    eventually("every message that was accepted", async || {
        let received = received(&origin, "/hook");
        told.iter().all(|id| received.contains_key(id))
    })
    .await;
    assert!(
        gateway.metric("witgate_broker_messages_total", &["broker=\"b\"", "state=\"confirmed\""]).await
            >= 200.0
    );
    check_redelivery_is_marked(&origin);
}

/// A message that was received twice says so the second time.
fn check_redelivery_is_marked(origin: &Origin) {
    let mut known = BTreeSet::new();
    for seen in origin.seen() {
        let first = known.insert(seen.header("x-id").to_owned());
        assert!(first || seen.header("witgate-redelivered") == "true", "{}", seen.header("x-id"));
    }
}
