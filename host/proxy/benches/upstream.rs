//! One exchange with an origin on the loopback, over a pooled connection: taking it, writing the head, reading the
//! answer, giving it back. The kernel is most of it, and the same for every line: what headers cost is the difference
//! between the lines.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use http::Request;
use witgate_exchange::contracts::Fetch as _;
use witgate_proxy::snapshot::{Services, Snapshot};

/// An origin that answers every head with 1 KiB.
fn origin() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

fn serve(mut stream: TcpStream) {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n{}", "x".repeat(1024));
    let mut buffer = [0; 16 * 1024];
    let mut held = 0;
    while let Ok(read) = stream.read(&mut buffer[held..]) {
        held += read;
        if read == 0 {
            return;
        }
        if buffer[..held].ends_with(b"\r\n\r\n") {
            held = 0;
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn snapshot(origin: SocketAddr) -> Arc<Snapshot> {
    let text = format!(
        "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         [[routes]]\npath = \"/*\"\nupstream = \"origin\"\n\
         [upstreams.origin]\nendpoints = [\"{origin}\"]\n"
    );
    let loaded = match witgate_config::parse_str(&text) {
        Ok(loaded) => loaded,
        Err(failure) => panic!("{:?}", failure.problems),
    };
    match Snapshot::build(Arc::new(loaded.config), Services::default(), None) {
        Ok(snapshot) => Arc::new(snapshot),
        Err(problems) => panic!("{problems:?}"),
    }
}

fn request(headers: usize) -> Request<Bytes> {
    let mut request = Request::get("/");
    for number in 0..headers {
        request = request.header(format!("x-header-{number}"), format!("the value of header {number}"));
    }
    request.body(Bytes::new()).expect("a request")
}

/// The same exchange with few and with many headers.
pub(crate) fn bench(criterion: &mut Criterion) {
    let snapshot = snapshot(origin().expect("an origin"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let core = tokio::task::LocalSet::new();
    let mut group = criterion.benchmark_group("upstream exchange");
    for headers in [0, 15, 90] {
        let request = request(headers);
        group.bench_with_input(BenchmarkId::new("headers", headers), &request, |bencher, request| {
            bencher.iter(|| {
                let exchange = snapshot.fetch("origin", request.clone(), None, None, 64 * 1024);
                match core.block_on(&runtime, exchange) {
                    Ok(response) => assert_eq!(response.body().len(), 1024),
                    Err(fault) => panic!("{fault:?}"),
                }
            });
        });
    }
    group.finish();
}
