//! A widely used upstream: nginx over HTTP/2 closes each connection after a number of requests, and ignores later
//! requests on it.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http::{Method, Request};
use http_body_util::Full;
use tokio::task::JoinSet;
use witgate_tests::{Client, Gateway, Scratch, eventually, missing, raw};

/// Number of clients, and of requests of each.
const CLIENTS: usize = 30;
const REQUESTS: usize = 50;

/// A body longer than the 64 KiB that nginx accepts before it reads, and the number of requests with it for each
/// client.
static LONG: [u8; 70_000] = [b'x'; 70_000];
const LONG_REQUESTS: usize = 20;

/// nginx in a process of its own. It reads requests with their bodies, over HTTP/2 in cleartext.
struct Nginx {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// `None` if nginx is not installed (which does not occur in CI).
    async fn start() -> Option<Self> {
        if missing("nginx") {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("witgate-nginx-").tempdir().expect("a scratch folder");
        let [front, back] = free_ports();
        let path = folder.path().display();
        let mut text = format!(
            "daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log {path}/error.log;\n\
             events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n"
        );
        for temporary in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(text, "{temporary}_temp_path {path}/{temporary};").expect("text takes text");
        }
        write!(
            text,
            "server {{ listen {front} http2; keepalive_requests 50; location / {{ proxy_pass http://{back}; }} }}\n\
             server {{ listen {back}; location / {{ return 200 well; }} }}\n}}\n"
        )
        .expect("text takes text");
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, text).expect("the scratch folder can be written");
        let process = Command::new("nginx")
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(config)
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx can be run");
        let nginx = Nginx { process, address: front, _folder: folder };
        let listens = async || tokio::net::TcpStream::connect(front).await.is_ok();
        eventually("nginx to listen", listens).await;
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Waiting for the killed process collects its exit status.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two ports that were free a moment ago. nginx cannot choose a free port by itself.
fn free_ports() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    listeners.map(|listener| listener.local_addr().expect("it is bound"))
}

async fn gateway(nginx: &Nginx, limits: &str) -> Gateway {
    let text = format!(
        "[gateway]\nworkers = 2\n[admin]\naddress = \"off\"\nsocket = \"admin.sock\"\n\
         [[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n{limits}\
         [[routes]]\nupstream = \"nginx\"\n\
         [upstreams.nginx]\nendpoints = [\"{}\"]\nprotocol = \"http2\"\n",
        nginx.address
    );
    Gateway::start_exactly(Scratch::new(), &text).await
}

#[tokio::test]
async fn no_post_is_lost_where_nginx_closes_each_connection_after_fifty_requests() {
    post_all(REQUESTS, b"some data").await;
}

#[tokio::test]
async fn nor_is_one_whose_body_is_longer_than_a_window() {
    post_all(LONG_REQUESTS, &LONG).await;
}

/// Sends this many POST requests from each client and expects a response to each.
async fn post_all(requests: usize, body: &'static [u8]) {
    let Some(nginx) = Nginx::start().await else { return };
    let gateway = gateway(&nginx, "").await;
    let address = gateway.address();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let mut client = Client::http1(address).await;
            let mut lost = Vec::new();
            for _ in 0..requests {
                let request = Request::builder().method(Method::POST).uri("/");
                let request = request.body(Full::from(body)).expect("a valid request");
                let reply = client.send(request).await;
                if (reply.status.as_u16(), reply.text()) != (200, "well") {
                    lost.push(format!("{} {}", reply.status, reply.text()));
                }
            }
            lost
        });
    }
    let lost: Vec<String> = clients.join_all().await.into_iter().flatten().collect();
    assert!(lost.is_empty(), "{} of {} lost, e.g. {}", lost.len(), CLIENTS * requests, lost[0]);
}

#[tokio::test]
async fn uploads_that_fail_are_their_clients_fault_and_close_the_upstream_for_nobody() {
    let Some(nginx) = Nginx::start().await else { return };
    let gateway = gateway(&nginx, "limits = { body_bytes = \"1KiB\", body_timeout = \"300ms\" }\n").await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    let too_large = format!("{head}{chunk}{chunk}{chunk}0\r\n\r\n");
    let malformed = format!("{head}{chunk}zz\r\n");
    let stalled = format!("{head}{chunk}");
    for (upload, status) in [(too_large, "413"), (malformed, "400"), (stalled, "408")] {
        for _ in 0..6 {
            let answer = raw(gateway.address(), upload.as_bytes(), Duration::from_secs(5)).await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
        }
    }
    for _ in 0..6 {
        // The response is not awaited.
        raw(gateway.address(), format!("{head}{chunk}").as_bytes(), Duration::from_millis(20)).await;
    }
    let mut client = Client::http1(gateway.address()).await;
    assert_eq!(client.get("/", &[]).await.text(), "well");
}
