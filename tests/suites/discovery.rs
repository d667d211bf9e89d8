//! Sources of endpoints: a file and a name server that change, fail and lie while a real gateway serves requests.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use witgate_tests::{Client, Gateway, Origin, Scratch, eventually, missing, witgate};

const ROUTE: &str = "[[routes]]\npath = \"/*\"\nupstream = \"users\"\n";

/// Replaces a file by renaming another over it.
fn replace(scratch: &Scratch, name: &str, content: impl AsRef<[u8]>) {
    let new = scratch.write("new", content);
    std::fs::rename(new, scratch.path().join(name)).expect("a file can be renamed");
}

fn endpoints(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("endpoints = [{}]\n", addresses.join(", "))
}

async fn source(gateway: &Gateway) -> Value {
    gateway.admin_get("/status").await.json()["sources"][0].clone()
}

/// Sends one request after the other until it is told to stop. Returns how many there were, and what went wrong.
async fn send_until(stop: Arc<AtomicBool>, address: SocketAddr) -> (usize, Vec<String>) {
    let (mut sent, mut failures) = (0, Vec::new());
    let mut client = Client::http1(address).await;
    while !stop.load(Ordering::SeqCst) {
        sent += 1;
        let reply = client.get("/", &[]).await;
        if reply.status != 200 {
            failures.push(format!("{}: {}", reply.status, reply.text()));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (sent, failures)
}

#[tokio::test]
async fn endpoints_come_and_go_in_a_file_and_no_request_is_lost() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let scratch = Scratch::new();
    replace(&scratch, "users.toml", endpoints(&[one.address()]));
    let text = format!(
        "{ROUTE}[upstreams.users]\ndiscover = {{ file = \"users.toml\", allow = [\"127.0.0.1\"] }}\n"
    );
    let gateway = Gateway::start(scratch, &text).await;
    let stop = Arc::<AtomicBool>::default();
    let load = tokio::spawn(send_until(stop.clone(), gateway.address()));
    let count = async |number: u64| source(&gateway).await["endpoints"] == number;
    let is_serving = async |origin: &Origin| {
        let before = origin.seen().len();
        eventually("its turn", async || origin.seen().len() > before).await;
    };
    is_serving(&one).await;
    replace(&gateway.scratch, "users.toml", endpoints(&[one.address(), two.address()]));
    eventually("two endpoints", async || count(2).await).await;
    is_serving(&two).await;
    replace(&gateway.scratch, "users.toml", endpoints(&[two.address()]));
    eventually("one endpoint", async || count(1).await).await;
    let left = gateway.admin_get("/upstreams").await;
    eventually("the other one has left", async || {
        !gateway.admin_get("/upstreams").await.text().contains(&one.address().to_string())
    })
    .await;
    assert!(left.status == 200);
    // Nothing of this takes the last good set out of service.
    let huge = vec![b'#'; 17 * 1024 * 1024];
    for (what, content) in [
        ("`min_endpoints`", b"endpoints = []\n".as_slice()),
        ("line 1", b"endpoints = [\"127.0.0.1"),
        ("`endpoints`", b""),
        ("not text", b"\xff\x00"),
        ("too large", &huge),
        ("without a port", b"endpoints = [\"127.0.0.1\"]"),
    ] {
        let words = if what == "without a port" { "with a port" } else { what };
        replace(&gateway.scratch, "users.toml", content);
        eventually(what, async || {
            source(&gateway).await["error"].as_str().is_some_and(|error| error.contains(words))
        })
        .await;
        is_serving(&two).await;
    }
    std::fs::remove_file(gateway.scratch.path().join("users.toml")).expect("the file can be removed");
    eventually("the file is missing", async || {
        source(&gateway).await["error"].as_str().is_some_and(|error| error.contains("cannot read"))
    })
    .await;
    is_serving(&two).await;
    assert!(gateway.metric("witgate_upstream_source_up", &[]).await < 0.5);
    assert!(gateway.metric("witgate_upstream_latency_seconds", &["0.95"]).await > 0.0);
    replace(&gateway.scratch, "users.toml", endpoints(&[one.address()]));
    is_serving(&one).await;
    stop.store(true, Ordering::SeqCst);
    let (sent, failures) = load.await.expect("the load ends");
    assert!(sent > 0 && failures.is_empty(), "{} of {sent}: {:?}", failures.len(), failures.first());
    let log = gateway.output();
    for event in ["endpoints-changed", "source-failed", "source-recovered"] {
        assert!(log.contains(event), "{event} is missing in {log}");
    }
}

#[tokio::test]
async fn a_source_reaches_none_of_the_gateways_own_listeners_nor_of_this_host() {
    let scratch = Scratch::new();
    scratch.write("users.json", "{\"endpoints\": []}");
    scratch.write("others.json", "{\"endpoints\": []}");
    let text = "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"admin.sock\"\n\
         [[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         [[listeners]]\nname = \"any\"\naddress = \"0.0.0.0:0\"\n\
         [[routes]]\nhosts = [\"others\"]\npath = \"/*\"\nupstream = \"others\"\n\
         [[routes]]\npath = \"/*\"\nupstream = \"users\"\n\
         [upstreams.others]\ndiscover = { file = \"others.json\", min_endpoints = 0 }\n\
         [upstreams.users]\ndiscover = { file = \"users.json\", allow = [\"0.0.0.0/0\", \"::/0\"], min_endpoints = 0 }\n";
    let gateway = Gateway::start_exactly(scratch, text).await;
    let status = gateway.admin_get("/status").await.json();
    let admin: SocketAddr = status["admin"].as_str().and_then(|text| text.parse().ok()).expect("an address");
    let any = gateway.listener("any").port();
    let own = [
        admin.to_string(),
        format!("[::ffff:127.0.0.1]:{}", admin.port()),
        gateway.address().to_string(),
        format!("127.0.0.1:{any}"),
        format!("127.7.7.7:{any}"),
        format!("0.0.0.0:{any}"),
    ];
    let json = |addresses: &[String]| serde_json::json!({ "endpoints": addresses }).to_string();
    replace(&gateway.scratch, "users.json", json(&own));
    let local = ["127.0.0.1:1", "169.254.169.254:80", "[::1]:1", "[fe80::1]:80", "localhost:80", "0.0.0.0:1"];
    replace(&gateway.scratch, "others.json", json(&local.map(str::to_owned)));
    eventually("all were refused", async || {
        let status = gateway.admin_get("/status").await.json();
        let sources = status["sources"].as_array().cloned().unwrap_or_default();
        sources.iter().all(|source| source["left_out"] == 6 && source["endpoints"] == 0)
    })
    .await;
    let mut client = gateway.client().await;
    for host in ["users", "others"] {
        assert_eq!(client.get("/metrics", &[("host", host)]).await.status, 503, "{host}");
    }
    let shown = Command::new(witgate())
        .args(["upstreams", "users", "--admin"])
        .arg(gateway.scratch.path().join("admin.sock"))
        .output()
        .expect("the command can be run");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("left out") && shown.contains("is a listener of this gateway"), "{shown}");
}

/// A dnsmasq with a hosts file. It ends with this.
struct NameServer(Child);

impl NameServer {
    fn start(folder: &Path, address: SocketAddr) -> NameServer {
        let child = Command::new("/usr/sbin/dnsmasq")
            .args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces"])
            .args(["--conf-file=/dev/null", "--listen-address=127.0.0.1", "--pid-file=", "--user=root"])
            .args(["--local=/test/", "--local-ttl=1"])
            .arg(format!("--port={}", address.port()))
            .arg(format!("--addn-hosts={}", folder.join("hosts").display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq can be run");
        NameServer(child)
    }

    fn read_hosts(&self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a process id")).expect("a process");
        kill_process(pid, Signal::HUP).expect("the process is ours");
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_name_server_that_changes_lies_and_dies_under_load_loses_no_request() {
    if missing("dnsmasq") {
        return;
    }
    // Both origins have the same port, at two addresses of this host.
    let first = tokio::net::TcpListener::bind("127.0.0.2:0").await.expect("a free port");
    let port = first.local_addr().expect("an address").port();
    let second = tokio::net::TcpListener::bind(("127.0.0.3", port)).await.expect("the same port");
    let counts = [first, second].map(|listener| {
        let count = Arc::<AtomicUsize>::default();
        tokio::spawn(serve(listener, count.clone()));
        count
    });
    let is_serving = async |index: usize| {
        let before = counts[index].load(Ordering::SeqCst);
        eventually("its turn", async || counts[index].load(Ordering::SeqCst) > before).await;
    };
    let scratch = Scratch::new();
    scratch.write("hosts", "127.0.0.2 users.test\n");
    let server = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let mut names = Some(NameServer::start(scratch.path(), server));
    let text = format!(
        "{ROUTE}[upstreams.users]\n\
         discover = {{ dns = {{ names = [\"users.test:{port}\"], servers = [\"{server}\"], min_ttl = \"1s\" }}, allow = [\"127.0.0.0/8\"] }}\n"
    );
    let gateway = Gateway::start(scratch, &text).await;
    let first = format!("127.0.0.2:{port}");
    eventually("the first set is in service", async || {
        gateway.admin_get("/upstreams").await.text().contains(&first)
    })
    .await;
    let stop = Arc::<AtomicBool>::default();
    let load = tokio::spawn(send_until(stop.clone(), gateway.address()));
    is_serving(0).await;
    gateway.scratch.write("hosts", "127.0.0.2 users.test\n127.0.0.3 users.test\n");
    names.as_ref().expect("it runs").read_hosts();
    is_serving(1).await;
    gateway.scratch.write("hosts", "127.0.0.3 users.test\n");
    names.as_ref().expect("it runs").read_hosts();
    eventually("one has left", async || source(&gateway).await["endpoints"] == 1).await;
    is_serving(1).await;
    // The name vanishes, then the server.
    gateway.scratch.write("hosts", "");
    names.as_ref().expect("it runs").read_hosts();
    eventually("the name is gone", async || {
        source(&gateway).await["error"].as_str().is_some_and(|error| error.contains("NXDOMAIN"))
    })
    .await;
    is_serving(1).await;
    drop(names.take());
    is_serving(1).await;
    gateway.scratch.write("hosts", "127.0.0.2 users.test\n");
    names = Some(NameServer::start(gateway.scratch.path(), server));
    is_serving(0).await;
    stop.store(true, Ordering::SeqCst);
    let (sent, failures) = load.await.expect("the load ends");
    assert!(sent > 0 && failures.is_empty(), "{} of {sent}: {:?}", failures.len(), failures.first());
    // The endpoints are addresses.
    let upstreams = gateway.admin_get("/upstreams").await;
    assert!(upstreams.text().contains(&format!("127.0.0.2:{port}")), "{}", upstreams.text());
    drop(names);
}

/// Responds to each request and counts it.
async fn serve(listener: tokio::net::TcpListener, count: Arc<AtomicUsize>) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    while let Ok((stream, _)) = listener.accept().await {
        let count = count.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                if line.trim().is_empty() {
                    count.fetch_add(1, Ordering::SeqCst);
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
                line.clear();
            }
        });
    }
}

/// A thousand sets a second: the set in service changes once a second, and requests of another upstream go on.
#[tokio::test]
async fn a_thousand_changes_a_second_are_gathered() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let scratch = Scratch::new();
    replace(&scratch, "users.toml", endpoints(&[one.address()]));
    let text = format!(
        "{ROUTE}[upstreams.users]\ndiscover = {{ file = \"users.toml\", allow = [\"127.0.0.1\"] }}\n"
    );
    let gateway = Gateway::start(scratch, &text).await;
    let stop = Arc::<AtomicBool>::default();
    let load = tokio::spawn(send_until(stop.clone(), gateway.address()));
    let begun = std::time::Instant::now();
    let both = [one.address(), two.address()];
    let mut turn = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        turn += 1;
        replace(&gateway.scratch, "users.toml", endpoints(&both[..1 + turn % 2]));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    replace(&gateway.scratch, "users.toml", endpoints(&both[1..]));
    eventually("the last set", async || {
        let upstreams = gateway.admin_get("/upstreams").await;
        !upstreams.text().contains(&one.address().to_string())
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    let (sent, failures) = load.await.expect("the load ends");
    assert!(sent > 0 && failures.is_empty(), "{} of {sent}: {:?}", failures.len(), failures.first());
    let changes = source(&gateway).await["changes"].as_u64().expect("a number");
    assert!(changes <= begun.elapsed().as_secs() + 3, "{changes} in {:?}, {turn} written", begun.elapsed());
}

#[tokio::test]
async fn the_last_good_set_serves_after_a_restart_while_the_source_is_gone() {
    let one = Origin::named("one").await;
    let scratch = Scratch::new();
    replace(&scratch, "users.toml", endpoints(&[one.address()]));
    let text = format!(
        "[gateway]\ncache_folder = \"cache\"\n{ROUTE}\
         [upstreams.users]\ndiscover = {{ file = \"users.toml\", allow = [\"127.0.0.1\"] }}\n"
    );
    let mut gateway = Gateway::start(scratch, &text).await;
    let folder = gateway.scratch.path().join("cache/endpoints");
    eventually("the set is saved", async || {
        std::fs::read_dir(&folder).is_ok_and(|mut files| {
            files.any(|file| {
                file.is_ok_and(|file| file.path().extension().is_some_and(|extension| extension == "set"))
            })
        })
    })
    .await;
    std::fs::remove_file(gateway.scratch.path().join("users.toml")).expect("the file can be removed");
    gateway.signal(Signal::KILL);
    gateway.exit().await;
    gateway.start_again().await;
    assert_eq!(gateway.client().await.get("/", &[]).await.status, 200);
    eventually("the failure of the source to be told", async || source(&gateway).await["error"].is_string())
        .await;
    let told = source(&gateway).await;
    assert!(told["restored"] == true && told["endpoints"] == 1, "{told}");
    replace(&gateway.scratch, "users.toml", endpoints(&[one.address()]));
    eventually("the source is back", async || source(&gateway).await["restored"] == false).await;
    // A set that another program has changed is not used.
    std::fs::remove_file(gateway.scratch.path().join("users.toml")).expect("the file can be removed");
    gateway.signal(Signal::KILL);
    gateway.exit().await;
    for file in std::fs::read_dir(&folder).expect("the folder is there") {
        let path = file.expect("a file").path();
        let mut content = std::fs::read(&path).expect("it can be read");
        *content.last_mut().expect("it is not empty") ^= 1;
        std::fs::write(&path, content).expect("it can be written");
    }
    gateway.start_again().await;
    assert_eq!(gateway.client().await.get("/", &[]).await.status, 503);
}
