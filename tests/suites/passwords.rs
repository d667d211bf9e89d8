//! Verification of passwords under load, over real connections.

use std::net::SocketAddr;

use http::Request;
use http_body_util::Full;
use tokio::net::TcpSocket;
use witgate_tests::{Client, Gateway, Origin, Scratch, plugin};

/// A client with this address.
async fn client_from(address: &str, gateway: SocketAddr) -> Client {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(address.parse().expect("an address"), 0)).expect("a loopback address");
    Client::http1_over(socket.connect(gateway).await.expect("a connection")).await
}

#[tokio::test]
async fn one_client_that_tries_passwords_leaves_room_for_others_and_busy_is_not_remembered() {
    let origin = Origin::named("origin").await;
    let scratch = Scratch::new();
    scratch.install(&plugin("basic-auth"), "basic_auth");
    // `alice:myPassword`, quick to verify, and somebody whose password takes long.
    let slow = ".".repeat(53);
    scratch
        .write("users.htpasswd", format!("alice:{{SHA}}VBPuJHI7uixaa6LQGWx4s+5GKNE=\nslow:$2y$11${slow}\n"));
    let config = format!(
        "[data.users]\nfile = \"users.htpasswd\"\n\
         [plugins.basic-auth]\nfile = \"basic_auth.wasm\"\nunstable = true\n\
         [bindings.basic-auth]\ngrants = {{ data = [\"users\"], credentials = [\"authorization\"] }}\n\
         budget.wall = \"60s\"\ninstances = {{ max = 200 }}\n\
         [[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"origin\"\nplugins = [\"basic-auth\"]\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n",
        origin.address()
    );
    let gateway = Gateway::start(scratch, &config).await;
    // `slow:x`
    let tries = (0..60).map(|_| async {
        let mut client = client_from("127.0.0.1", gateway.address()).await;
        let request = Request::get("/").header("authorization", "Basic c2xvdzp4");
        client.send(request.body(Full::default()).expect("a request")).await
    });
    let others = async {
        let alice = [("authorization", "Basic YWxpY2U6bXlQYXNzd29yZA==")];
        client_from("127.0.0.2", gateway.address()).await.get("/", &alice).await.status
    };
    let (tried, other) = futures_util::future::join(futures_util::future::join_all(tries), others).await;
    let busy = tried.iter().filter(|reply| reply.status == 503).count();
    let refused = tried.iter().filter(|reply| reply.status == 401).count();
    assert_eq!(busy + refused, 60, "{tried:?}");
    assert!((1..=28).contains(&busy), "at least 32 of 60 are verified: {busy}");
    assert!(tried.iter().filter(|reply| reply.status == 503).all(|reply| reply.header("retry-after") == "1"));
    assert_eq!(other, 200);
    let mut client = client_from("127.0.0.1", gateway.address()).await;
    assert_eq!(
        client.get("/", &[("authorization", "Basic c2xvdzp4")]).await.status,
        401,
        "busy is not remembered"
    );
}
