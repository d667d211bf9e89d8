//! Connections that are forwarded as they are, by a gateway and servers with real sockets.

mod passthrough;
mod proxy_protocol;
mod real;
mod sessions;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use witgate_tests::{DEADLINE, Gateway, eventually};

/// A service on a free port that does the same with each connection. It ends when this is dropped.
struct Service {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Service {
    async fn with<F, S>(serve: F) -> Service
    where
        F: Fn(TcpStream) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Service { address, task }
    }

    /// A service that greets each client with its name and then sends back what it gets.
    async fn greeting(name: &'static str) -> Service {
        Service::with(move |mut stream| async move {
            if stream.write_all(name.as_bytes()).await.is_ok() {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            }
        })
        .await
    }

    /// A service that sends back everything it has got, once the client has half-closed the connection.
    async fn telling() -> Service {
        Service::with(|mut stream| async move {
            let mut came = Vec::new();
            if stream.read_to_end(&mut came).await.is_ok() {
                let _ = stream.write_all(&came).await;
            }
        })
        .await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A configuration with one listener for TCP, `db`, whose connections go to these endpoints. `more` belongs to the upstream.
fn config(endpoints: &[SocketAddr], more: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    format!(
        "[telemetry]\naccess_log = \"access.log\"\n\
         [[listeners]]\nname = \"db\"\nprotocol = \"tcp\"\naddress = \"127.0.0.1:0\"\n\
         [[routes]]\nname = \"database\"\nlisteners = \"db\"\nupstream = \"database\"\n\
         [upstreams.database]\nprotocol = \"tcp\"\nendpoints = [{}]\n{more}",
        endpoints.join(", ")
    )
}

async fn connect(gateway: &Gateway, listener: &str) -> TcpStream {
    TcpStream::connect(gateway.listener(listener)).await.expect("the gateway accepts")
}

/// Reads exactly this text.
async fn expect(stream: &mut TcpStream, text: &str) {
    let mut came = vec![0; text.len()];
    let read = tokio::time::timeout(DEADLINE, stream.read_exact(&mut came)).await.expect("bytes in time");
    read.unwrap_or_else(|error| panic!("{text:?} was expected: {error}"));
    assert_eq!(String::from_utf8_lossy(&came), text);
}

/// Reads until the connection ends, in order or by a reset.
async fn rest(stream: &mut TcpStream) -> (Vec<u8>, std::io::Result<()>) {
    let mut came = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut came)).await.expect("an end in time");
    (came, read.map(drop))
}

/// Writes pieces with a pause between them, so that they arrive one by one.
async fn write_in_pieces(stream: &mut TcpStream, pieces: impl IntoIterator<Item = &[u8]>) {
    for piece in pieces {
        if stream.write_all(piece).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The line of the access log that fits.
async fn line(gateway: &Gateway, fits: impl Fn(&Value) -> bool) -> Value {
    let path = gateway.scratch.path().join("access.log");
    let mut found = None;
    eventually("a line of the access log", async || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        found = text.lines().filter_map(|line| serde_json::from_str(line).ok()).find(|line| fits(line));
        found.is_some()
    })
    .await;
    found.expect("the loop ended with one")
}
