//! TLS to clients: server names, versions, client certificates, certificates that change on disk.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use witgate_tests::{Client, Gateway, Origin, Scratch, eventually, guest};

/// A certificate authority for one test.
pub(crate) struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("valid parameters");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        Authority { issuer: rcgen::CertifiedIssuer::self_signed(parameters, key).expect("a certificate") }
    }

    /// Writes NAME.crt and NAME.key for these host names and URIs.
    pub(crate) fn issue(&self, scratch: &Scratch, name: &str, hosts: &[&str]) {
        let (uris, hosts): (Vec<&str>, Vec<&str>) = hosts.iter().partition(|name| name.contains("://"));
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::new(hosts).expect("valid names");
        let uri = |uri: &str| rcgen::SanType::URI(uri.try_into().expect("ASCII"));
        parameters.subject_alt_names.extend(uris.into_iter().map(uri));
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        scratch.write(&format!("{name}.key"), key.serialize_pem());
        scratch.write(&format!("{name}.crt"), certificate.pem());
    }

    pub(crate) fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a certificate");
        roots
    }

    /// Connects with a server name, protocols to offer, and optionally a client certificate.
    async fn connect(
        &self,
        gateway: &Gateway,
        host: &'static str,
        protocols: &[&str],
        identity: Option<(&Path, &str)>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let builder = rustls::ClientConfig::builder().with_root_certificates(self.roots());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((folder, name)) => {
                let chain =
                    CertificateDer::from_pem_file(folder.join(format!("{name}.crt"))).expect("a certificate");
                let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).expect("a key");
                builder.with_client_auth_cert(vec![chain], key).expect("they fit")
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(gateway.listener("secure")).await?;
        let name = ServerName::try_from(host).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

fn leaf(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
}

fn config(origin: &Origin, more: &str) -> String {
    format!(
        r#"
[[listeners]]
name = "secure"
address = "127.0.0.1:0"
[listeners.tls]
certificates = [
    {{ certificate = "one.crt", key = "one.key" }},
    {{ certificate = "two.crt", key = "two.key" }},
]
{more}

[[routes]]
path = "/*"
upstream = "origin"

[upstreams.origin]
endpoints = ["{}"]
"#,
        origin.address()
    )
}

async fn start(authority: &Authority, origin: &Origin, more: &str) -> Gateway {
    let scratch = Scratch::new();
    authority.issue(&scratch, "one", &["one.test"]);
    authority.issue(&scratch, "two", &["two.test", "*.two.test"]);
    scratch.write("ca.crt", authority.issuer.pem());
    authority.issue(&scratch, "client", &["client.test"]);
    Gateway::start(scratch, &config(origin, more)).await
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name_and_the_protocol_by_alpn() {
    let (authority, origin) = (Authority::new(), Origin::named("origin").await);
    let gateway = start(&authority, &origin, "").await;
    let mut leaves = Vec::new();
    for host in ["one.test", "two.test", "a.two.test"] {
        for protocol in ["http/1.1", "h2"] {
            let stream = authority.connect(&gateway, host, &[protocol], None).await.expect("a handshake");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
            leaves.push(leaf(&stream));
            let mut client = match protocol {
                "h2" => Client::http2_over(stream).await,
                _ => Client::http1_over(stream).await,
            };
            assert_eq!(client.get("/x", &[]).await.text(), "origin GET /x");
            assert_eq!(origin.last().header("x-forwarded-proto"), "https");
        }
    }
    assert_ne!(leaves[0], leaves[2], "two names, two certificates");
    assert_eq!(leaves[2], leaves[4], "a wildcard covers its names");
}

#[tokio::test]
async fn a_client_certificate_is_optional_or_required_and_never_forged() {
    let (authority, origin) = (Authority::new(), Origin::named("origin").await);
    let gateway =
        start(&authority, &origin, "client_ca = \"ca.crt\"\nclient_certificate = \"optional\"").await;
    let folder = gateway.scratch.path().to_owned();
    let without = authority.connect(&gateway, "one.test", &["http/1.1"], None).await.expect("a handshake");
    assert_eq!(Client::http1_over(without).await.get("/", &[]).await.status, 200);
    let with = authority.connect(&gateway, "one.test", &["http/1.1"], Some((&folder, "client"))).await;
    assert_eq!(Client::http1_over(with.expect("a handshake")).await.get("/", &[]).await.status, 200);

    let strict = "client_ca = \"ca.crt\"";
    let gateway = start(&authority, &origin, strict).await;
    let folder = gateway.scratch.path().to_owned();
    let request = || http::Request::get("/").body(http_body_util::Full::default()).expect("a request");
    // In TLS 1.3 the client learns of the refusal with its first read.
    if let Ok(stream) = authority.connect(&gateway, "one.test", &["http/1.1"], None).await {
        Client::http1_over(stream).await.try_send(request()).await.expect_err("no certificate, no response");
    }
    let stranger = Authority::new();
    stranger.issue(&gateway.scratch, "stranger", &["client.test"]);
    if let Ok(stream) =
        authority.connect(&gateway, "one.test", &["http/1.1"], Some((&folder, "stranger"))).await
    {
        Client::http1_over(stream).await.try_send(request()).await.expect_err("a stranger's certificate");
    }
    let with = authority.connect(&gateway, "one.test", &["http/1.1"], Some((&folder, "client"))).await;
    assert_eq!(Client::http1_over(with.expect("a handshake")).await.get("/", &[]).await.status, 200);
}

#[tokio::test]
async fn plugins_are_told_of_the_connection_and_of_the_names_in_the_clients_certificate() {
    let (authority, origin) = (Authority::new(), Origin::named("origin").await);
    let scratch = Scratch::new();
    scratch.install(&guest("exchange"), "exchange");
    authority.issue(&scratch, "one", &["one.test"]);
    authority.issue(&scratch, "two", &["two.test"]);
    scratch.write("ca.crt", authority.issuer.pem());
    authority.issue(&scratch, "client", &["client.test", "spiffe://td.test/client"]);
    let plugin = "client_ca = \"ca.crt\"\nclient_certificate = \"optional\"\n\
                  [plugins.exchange]\nfile = \"exchange.wasm\"\nunstable = true\n\
                  [bindings.exchange]\ngrants = { store = [], notes = {} }\n";
    let config = config(&origin, plugin).replace("path = \"/*\"", "path = \"/*\"\nplugins = [\"exchange\"]");
    let gateway = Gateway::start(scratch, &config).await;
    let folder = gateway.scratch.path().to_owned();
    let (with, name) = (Some((folder.as_path(), "client")), "spiffe://td.test/client client.test");
    for (host, protocol, identity, expected) in [
        ("one.test", "h2", None, "TLSv1.3 one.test h2 - -".to_owned()),
        ("two.test", "http/1.1", with, format!("TLSv1.3 two.test http/1.1 {name}")),
    ] {
        let stream = authority.connect(&gateway, host, &[protocol], identity).await.expect("a handshake");
        let mut client = match protocol {
            "h2" => Client::http2_over(stream).await,
            _ => Client::http1_over(stream).await,
        };
        assert_eq!(client.get("/x", &[("x-tls", "forged")]).await.status, 200);
        assert_eq!(origin.last().header("x-tls"), expected);
    }
}

#[tokio::test]
async fn certificates_are_reloaded_when_their_files_change() {
    let (authority, origin) = (Authority::new(), Origin::named("origin").await);
    let gateway = start(&authority, &origin, "").await;
    let serving = async || {
        leaf(&authority.connect(&gateway, "one.test", &["http/1.1"], None).await.expect("a handshake"))
    };
    let old = serving().await;

    let failed = gateway.metric("witgate_reloads_total", &["result=\"failed\""]).await;
    gateway.scratch.write("one.crt", "not a certificate");
    eventually("the bad certificate to be refused", async || {
        gateway.metric("witgate_reloads_total", &["result=\"failed\""]).await > failed
    })
    .await;
    assert_eq!(serving().await, old, "the old one keeps serving");

    authority.issue(&gateway.scratch, "one", &["one.test"]);
    eventually("the new certificate", async || serving().await != old).await;
}

#[tokio::test]
async fn tls_upstreams_are_verified() {
    let authority = Authority::new();
    let scratch = Scratch::new();
    authority.issue(&scratch, "origin", &["origin.test"]);
    let folder = scratch.path();
    let chain = CertificateDer::from_pem_file(folder.join("origin.crt")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(folder.join("origin.key")).expect("a key");
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![chain], key);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.expect("they fit")));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure").await;
                }
            });
        }
    });
    scratch.write("ca.crt", authority.issuer.pem());
    scratch.write("other.crt", Authority::new().issuer.pem());
    let mut text = String::new();
    for (name, tls) in [
        ("good", "{ ca = \"ca.crt\", server_name = \"origin.test\" }"),
        ("wrong-name", "{ ca = \"ca.crt\", server_name = \"else.test\" }"),
        ("wrong-ca", "{ ca = \"other.crt\", server_name = \"origin.test\" }"),
    ] {
        text += &format!(
            "[[routes]]\npath = \"/{name}\"\nupstream = \"{name}\"\n\
             [upstreams.{name}]\nendpoints = [\"{address}\"]\ntls = {tls}\n"
        );
    }
    let gateway = Gateway::start(scratch, &text).await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/good", &[]).await.text(), "secure");
    for target in ["/wrong-name", "/wrong-ca"] {
        let reply = client.get(target, &[]).await;
        assert_eq!(
            (reply.status.as_u16(), reply.json()["code"].as_str()),
            (502, Some("upstream-tls")),
            "{target}"
        );
    }
}
