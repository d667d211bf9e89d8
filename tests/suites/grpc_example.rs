//! The example of gRPC: a service in Python, unmodified, called in four forms, by gRPC's own library among them.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use witgate_tests::{Gateway, Scratch, eventually, missing, repository};

/// The service of the example in a process of its own.
struct Service {
    process: Child,
    port: u16,
}

impl Service {
    fn start(python: &PathBuf) -> Self {
        let mut process = Command::new(python)
            .arg("server.py")
            .arg("127.0.0.1:0")
            .current_dir(repository().join("examples/grpc"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python can be run");
        let output = process.stdout.take().expect("its output is ours");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("a line");
        let port =
            line.trim().rsplit(' ').next().and_then(|port| port.parse().ok()).expect("it tells its port");
        Service { process, port }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Waiting for the killed process collects its exit status.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A Python with gRPC: the environment made by CI, or the one that `PYTHON` names. `None` if there is none, which does not
/// occur in CI.
fn python() -> Option<PathBuf> {
    let made = repository().join("target/python/bin/python");
    let python = std::env::var_os("PYTHON").map_or(made, PathBuf::from);
    let has_grpc = || {
        let mut command = Command::new(&python);
        command.args(["-c", "import grpc, grpc_tools"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if python.is_file() && has_grpc() {
        return Some(python);
    }
    assert!(std::env::var_os("CI").is_none(), "Python with grpcio is missing, and in CI nothing is skipped");
    let _ = missing("python with grpcio");
    None
}

#[tokio::test]
async fn a_service_in_python_is_called_as_grpc_grpc_web_connect_and_json() {
    let Some(python) = python() else { return };
    let service = Service::start(&python);
    let example = repository().join("examples/grpc");
    let scratch = Scratch::new();
    scratch.write("orders.proto", std::fs::read(example.join("orders.proto")).expect("the example"));
    let text = std::fs::read_to_string(example.join("witgate.toml")).expect("the example");
    let text = text
        .replace("${ADMIN:-127.0.0.1:9900}", "off")
        .replace("${LISTEN:-127.0.0.1:8080}", "127.0.0.1:0")
        .replace("${ORDERS:-127.0.0.1:50051}", &format!("127.0.0.1:{}", service.port));
    let gateway = Gateway::start_exactly(scratch, &text).await;

    // gRPC, by its own library.
    let (client, address) = (example.join("client.py"), gateway.address().to_string());
    let output = tokio::task::spawn_blocking(move || Command::new(python).arg(client).arg(address).output());
    let output = output.await.expect("no panic").expect("Python can be run");
    let told = String::from_utf8_lossy(&output.stdout);
    let expected = "order 1: 2 x engine for Ada\nNOT_FOUND: there is no such order\n\
                    INVALID_ARGUMENT: the quantity must be at least 1\n";
    assert_eq!(told, expected, "{}", String::from_utf8_lossy(&output.stderr));

    // JSON.
    let mut client = gateway.client().await;
    let kind = [("content-type", "application/json")];
    let order = json!({"customerName": "Ada", "productName": "engine", "quantity": 2});
    let reply = client.post("/v1/orders", &kind, order.to_string()).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({"orderId": "2"})));
    assert_eq!(client.get("/v1/orders/2", &[]).await.json(), order);
    let reply = client.get("/v1/orders/none", &[]).await;
    let error = json!({"code": 5, "message": "there is no such order", "details": []});
    assert_eq!((reply.status.as_u16(), reply.json()), (404, error));
    let reply = client.post("/v1/orders", &kind, "{\"quantity\": \"two\"}").await;
    assert_eq!(reply.status, 400);
    assert!(
        reply.json()["detail"].as_str().is_some_and(|detail| detail.contains("`quantity`")),
        "{}",
        reply.text()
    );
    // A request that is malformed ends its connection.
    let mut client = gateway.client().await;
    let refused = client.post("/v1/orders", &kind, "{}").await;
    assert_eq!((refused.status.as_u16(), refused.json()["code"].clone()), (400, 3.into()));

    // Connect with JSON, and with GET.
    let connect = [kind[0], ("connect-protocol-version", "1")];
    let path = "/example.OrderService/GetOrder";
    assert_eq!(client.post(path, &connect, "{\"orderId\": \"1\"}").await.json(), order);
    let reply = client.post(path, &connect, "{\"orderId\": \"none\"}").await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (404, "not_found".into()));
    let reply = client.get(&format!("{path}?connect=v1&encoding=proto&base64=1&message=CgEx"), &[]).await;
    let encoded = b"\x0a\x03Ada\x12\x06engine\x18\x02";
    assert_eq!((reply.header("content-type"), &reply.body[..]), ("application/proto", &encoded[..]));

    // gRPC-Web.
    let reply = client
        .post(path, &[("content-type", "application/grpc-web+proto")], &b"\0\0\0\0\x03\x0a\x011"[..])
        .await;
    assert!(reply.body[5..].starts_with(encoded), "{:?}", reply.body);
    assert!(String::from_utf8_lossy(&reply.body).contains("grpc-status: 0\r\n"), "{:?}", reply.body);

    // When the contract changes, so do the paths; a broken one leaves the last good one in service.
    let proto = std::fs::read_to_string(example.join("orders.proto")).expect("the example");
    gateway.scratch.write("orders.proto", "this is no contract");
    gateway.scratch.write(
        "orders.proto",
        proto.replace("get: \"/v1/orders/{order_id}\"", "get: \"/v2/orders/{order_id}\""),
    );
    eventually("the new path", async || client.get("/v2/orders/1", &[]).await.status == 200).await;
    assert_eq!(client.get("/v1/orders/1", &[]).await.status, 404);
    gateway.scratch.write("orders.proto", "this is no contract");
    eventually("the broken file to be told", async || {
        gateway.output().contains("this is no contract") || gateway.output().contains("orders.proto")
    })
    .await;
    assert_eq!(client.get("/v2/orders/1", &[]).await.json(), order);
}
