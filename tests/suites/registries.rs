//! Sources of endpoints that ask a registry: a real etcd and a scripted Consul that change, lie and die while a real
//! gateway serves requests.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use witgate_tests::{EtcdServer, Gateway, Origin, Scratch, eventually, witgate};

use crate::discovery::{ROUTE, send_until, source};

async fn is_serving(origin: &Origin) {
    let before = origin.seen().len();
    eventually("its turn", async || origin.seen().len() > before).await;
}

async fn told(gateway: &Gateway, words: &str) {
    eventually(words, async || {
        source(gateway).await["error"].as_str().is_some_and(|error| error.contains(words))
    })
    .await;
}

#[tokio::test]
async fn an_etcd_that_changes_falls_silent_and_dies_under_load_loses_no_request() {
    let Some(mut etcd) = EtcdServer::start() else { return };
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    etcd.ctl(&["put", "/users/one", &one.address().to_string()]);
    let text = format!(
        "[gateway]\ncache_folder = \"cache\"\n{ROUTE}[upstreams.users.discover]\nallow = [\"127.0.0.1\"]\n\
         etcd = {{ servers = [\"http://{}\"], prefix = \"/users/\" }}\n",
        etcd.address()
    );
    let mut gateway = Gateway::start(Scratch::new(), &text).await;
    eventually("the first set", async || source(&gateway).await["endpoints"] == 1).await;
    let stop = Arc::<AtomicBool>::default();
    let load = tokio::spawn(send_until(stop.clone(), gateway.address()));
    is_serving(&one).await;
    let granted = etcd.ctl(&["lease", "grant", "60"]);
    let lease = granted.split(' ').nth(1).expect("a lease");
    etcd.ctl(&["put", "--lease", lease, "/users/two", &two.address().to_string()]);
    is_serving(&two).await;
    // What cannot be used is left out and shown.
    etcd.ctl(&["put", "/users/three", "nonsense"]);
    told(&gateway, "nonsense").await;
    etcd.ctl(&["del", "/users/three"]);
    etcd.ctl(&["lease", "revoke", lease]);
    eventually("one has left", async || source(&gateway).await["endpoints"] == 1).await;
    // All keys vanish, which `min_endpoints` does not allow.
    etcd.ctl(&["del", "--prefix", "/users/"]);
    told(&gateway, "min_endpoints").await;
    is_serving(&one).await;
    etcd.ctl(&["put", "/users/one", &one.address().to_string()]);
    eventually("it is in order again", async || source(&gateway).await["error"].is_null()).await;
    etcd.kill();
    told(&gateway, "cannot connect").await;
    is_serving(&one).await;
    stop.store(true, Ordering::SeqCst);
    let (sent, failures) = load.await.expect("the load ends");
    assert!(sent > 0 && failures.is_empty(), "{} of {sent}: {:?}", failures.len(), failures.first());
    // The next process begins with the last good set, and follows etcd once it is back.
    gateway.signal(Signal::KILL);
    gateway.exit().await;
    gateway.start_again().await;
    assert_eq!(gateway.client().await.get("/", &[]).await.status, 200);
    assert_eq!(source(&gateway).await["restored"], true);
    etcd.restart();
    etcd.ctl(&["put", "/users/one", &two.address().to_string()]);
    eventually("the other one", async || gateway.client().await.get("/", &[]).await.text().contains("two"))
        .await;
}

/// A server that speaks Consul's protocol: it answers with these instances and this index, and keeps requests that know
/// the index already.
#[derive(Clone, Default)]
struct Consul(Arc<Mutex<(u64, String)>>);

impl Consul {
    fn set(&self, index: u64, body: impl Into<String>) {
        *self.0.lock().expect("nobody panics") = (index, body.into());
    }

    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (address, consul) = (listener.local_addr().expect("it is bound"), self.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(consul.clone().serve(stream));
            }
        });
        address
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while let Ok(byte) = stream.read_u8().await {
            head.push(byte);
            if !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            let asked = String::from_utf8_lossy(&std::mem::take(&mut head)).into_owned();
            let current = || self.0.lock().expect("nobody panics").clone();
            while asked.contains(&format!("index={}&", current().0)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let (index, body) = current();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nX-Consul-Index: {index}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

fn instances(addresses: &[SocketAddr]) -> String {
    let instance = |address: &SocketAddr| serde_json::json!({ "Node": { "Node": "n" }, "Service": { "ID": address, "Address": address.ip(), "Port": address.port() } });
    serde_json::Value::from(addresses.iter().map(instance).collect::<Vec<_>>()).to_string()
}

#[tokio::test]
async fn a_consul_that_lies_under_load_loses_no_request_and_reaches_nothing_of_the_gateway() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let consul = Consul::default();
    consul.set(5, instances(&[one.address()]));
    let address = consul.start().await;
    let text = format!(
        "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"admin.sock\"\n\
         [[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n{ROUTE}[upstreams.users.discover]\nallow = [\"127.0.0.1\"]\n\
         consul = {{ service = \"users\", servers = [\"{address}\"] }}\n"
    );
    let gateway = Gateway::start_exactly(Scratch::new(), &text).await;
    eventually("the first set", async || source(&gateway).await["endpoints"] == 1).await;
    let stop = Arc::<AtomicBool>::default();
    let load = tokio::spawn(send_until(stop.clone(), gateway.address()));
    consul.set(6, instances(&[one.address(), two.address()]));
    is_serving(&two).await;
    // The gateway's own listeners, this link, another host, and a host name.
    let status = gateway.admin_get("/status").await.json();
    let admin: SocketAddr = status["admin"].as_str().and_then(|text| text.parse().ok()).expect("an address");
    let others = [admin, gateway.address(), ([169, 254, 169, 254], 80).into(), ([10, 0, 0, 1], 80).into()];
    consul.set(7, instances(&[&others[..], &[one.address()]].concat()));
    eventually("four are left out", async || source(&gateway).await["left_out"] == 4).await;
    assert_eq!(source(&gateway).await["endpoints"], 1);
    // A set that is far too large, garbage, and an index that goes backwards.
    let many: Vec<SocketAddr> =
        (0..100_000_u32).map(|number| ((number + (10 << 24)).to_be_bytes(), 80).into()).collect();
    consul.set(8, instances(&many));
    told(&gateway, "max_endpoints").await;
    consul.set(9, "{\"no\": \"list\"}");
    told(&gateway, "not a list of instances").await;
    is_serving(&one).await;
    consul.set(3, instances(&[two.address()]));
    is_serving(&two).await;
    eventually("it is in order again", async || source(&gateway).await["error"].is_null()).await;
    stop.store(true, Ordering::SeqCst);
    let (sent, failures) = load.await.expect("the load ends");
    assert!(sent > 0 && failures.is_empty(), "{} of {sent}: {:?}", failures.len(), failures.first());
}

#[tokio::test]
async fn a_registry_without_the_tls_that_is_expected_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            // Until the client closes the connection.
            while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
        }
    });
    let text = format!(
        "{ROUTE}[upstreams.users.discover]\nconsul = {{ service = \"users\", servers = [\"https://{address}\"] }}\n"
    );
    let gateway = Gateway::start(Scratch::new(), &text).await;
    told(&gateway, "TLS failed").await;
    assert_eq!(gateway.client().await.get("/", &[]).await.status, 503);
}

#[test]
fn the_effective_configuration_is_shown_with_its_places_and_without_secrets() {
    let scratch = Scratch::new();
    scratch.write(
        "witgate.toml",
        "[defaults.upstream]\nconnect_timeout = \"7s\"\n[upstreams.users]\nendpoints = [\"127.0.0.1:1\"]\n\
         [admin]\ntoken = \"0123456789abcdef0123456789abcdef\"\n[[routes]]\npath = \"/*\"\nupstream = \"users\"\n",
    );
    let show = |arguments: &[&str]| {
        let output = Command::new(witgate())
            .args(["config", "show", "--config", "witgate.toml"])
            .args(arguments)
            .current_dir(scratch.path())
            .output()
            .expect("the command can be run");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, all) = show(&[]);
    assert_eq!(code, Some(0), "{all}");
    let line =
        |key: &str| all.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}: {all}"));
    assert!(
        line("upstreams.users.connect_timeout = \"7s\"").ends_with("# witgate.toml:2:19 [defaults]"),
        "{all}"
    );
    assert!(line("upstreams.users.endpoints = [\"127.0.0.1:1\"]").ends_with("# witgate.toml:4:13"), "{all}");
    assert!(line("upstreams.users.idle_timeout = \"5m\"").ends_with("# default"), "{all}");
    assert!(
        line("admin.token = (hidden)").contains("witgate.toml:6") && !all.contains("0123456789"),
        "{all}"
    );
    let (_, some) = show(&["upstreams.users", "--written", "-o", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&some).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "{some}");
    assert_eq!(show(&["upstreams.user"]).0, Some(1));
    scratch.write("witgate.toml", "[upstreams.users]\nendpoint = 5\n");
    let (code, told) = show(&[]);
    assert!(code == Some(3) && told.contains("`endpoints`"), "{told}");
}
