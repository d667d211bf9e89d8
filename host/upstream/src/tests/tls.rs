//! TLS of connections to endpoints, and which certificates are refused.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_rustls::TlsAcceptor;
use witgate_config::model::{CertificateFiles, Upstream, UpstreamTls};
use witgate_exchange::body::Body;
use witgate_exchange::fault::FaultKind;

use super::origin::{Origin, Visitor};
use super::{HELLO, get, rebuilt, send, settings, snapshot};
use crate::testing::Snapshot;
use crate::testing::{self, run};

/// TLS settings that accept any certificate.
pub(crate) fn unverified() -> UpstreamTls {
    UpstreamTls {
        server_name: None,
        ca: None,
        client_certificate: None,
        spiffe_ids: Vec::new(),
        insecure_skip_verify: true,
    }
}

/// A CA that issues certificates, with its own certificate in a file.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: NamedTempFile,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = file(&issuer.pem());
        Authority { issuer, file }
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// An origin with a certificate for `name` that responds with hello or with the request body. It may require a
    /// client certificate.
    pub(crate) fn origin(&self, name: &str, wants_certificate: bool) -> Origin {
        let (certificate, key) = self.issue(name, ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_certificate {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = builder.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Origin::start(async move |visitor: Visitor| {
            let Ok(stream) = acceptor.accept(visitor.stream).await else { return };
            let mut stream = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    let mut body = vec![0; std::mem::take(&mut length)];
                    stream.read_exact(&mut body).await.unwrap();
                    let _ = stream.write_all(&answer(&body)).await;
                    let _ = stream.flush().await;
                }
                line.clear();
            }
        })
    }

    pub(crate) fn trusted_as(&self, origin: &Origin, name: &str) -> Upstream {
        Upstream {
            tls: Some(UpstreamTls {
                server_name: Some(name.into()),
                ca: Some(self.file.path().to_owned()),
                client_certificate: None,
                spiffe_ids: Vec::new(),
                insecure_skip_verify: false,
            }),
            ..settings(&[origin.address])
        }
    }
}

/// A response with hello, or with the same body.
fn answer(body: &[u8]) -> Vec<u8> {
    match body {
        [] => HELLO.into(),
        body => {
            [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
        }
    }
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> PathBuf {
    Path::to_path_buf(file.path())
}

#[test]
fn only_the_right_name_from_the_right_authority_is_believed() {
    run(async {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let origin = authority.origin("right.example", false);
        let right = snapshot(authority.trusted_as(&origin, "right.example"));
        assert_eq!(get(&right).await.unwrap(), "hello");
        assert_eq!(get(&right).await.unwrap(), "hello");
        assert_eq!(origin.connections(), 1);
        let wrong_name = snapshot(authority.trusted_as(&origin, "wrong.example"));
        let fault = get(&wrong_name).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::UpstreamTls);
        assert!(fault.cause.as_deref().unwrap().contains("wrong.example"), "{fault}");
        let wrong_authority = snapshot(stranger.trusted_as(&origin, "right.example"));
        assert_eq!(get(&wrong_authority).await.unwrap_err().kind, FaultKind::UpstreamTls);
        let anybody = snapshot(Upstream { tls: Some(unverified()), ..settings(&[origin.address]) });
        assert_eq!(get(&anybody).await.unwrap(), "hello");
    });
}

#[test]
fn bodies_of_any_size_pass_both_ways() {
    run(async {
        let authority = Authority::new();
        let origin = authority.origin("right.example", false);
        let snapshot = snapshot(authority.trusted_as(&origin, "right.example"));
        for size in [1, 16 * 1024, 1 << 20] {
            let data = Bytes::from_iter((0..size).map(|number: u32| number.to_le_bytes()[1]));
            let response = send(&snapshot, Method::POST, Body::Full(data.clone())).await.unwrap();
            assert_eq!(testing::bytes(response.into_body()).await.unwrap(), data);
        }
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn the_gateway_shows_its_certificate() {
    run(async {
        let authority = Authority::new();
        let origin = authority.origin("right.example", true);
        let mut settings = authority.trusted_as(&origin, "right.example");
        assert!(get(&snapshot(settings.clone())).await.is_err(), "it was let in without a certificate");
        let (certificate, key) = authority.issue("gateway.example", ExtendedKeyUsagePurpose::ClientAuth);
        let (certificate, key) = (file(&certificate.pem()), file(&key.serialize_pem()));
        let tls = settings.tls.as_mut().unwrap();
        tls.client_certificate = Some(CertificateFiles { certificate: path(&certificate), key: path(&key) });
        assert_eq!(get(&snapshot(settings)).await.unwrap(), "hello");
    });
}

#[test]
fn files_that_hold_no_certificate_are_problems_and_changed_files_are_read_again() {
    let authority = Authority::new();
    let origin = authority.origin("right.example", false);
    let settings = authority.trusted_as(&origin, "right.example");
    let before = snapshot(settings.clone());
    let unchanged = rebuilt(settings.clone(), Some(&before));
    assert!(Arc::ptr_eq(&before.upstreams["origin"], &unchanged.upstreams["origin"]));
    std::fs::write(authority.file.path(), Authority::new().issuer.pem()).unwrap();
    let changed = rebuilt(settings.clone(), Some(&before));
    assert!(!Arc::ptr_eq(&before.upstreams["origin"], &changed.upstreams["origin"]));
    run(async { assert_eq!(get(&changed).await.unwrap_err().kind, FaultKind::UpstreamTls) });
    std::fs::write(authority.file.path(), "no certificate").unwrap();
    let mut config = testing::config();
    config.upstreams.insert("origin".into(), settings);
    let built = Snapshot::build(config, Some(&before));
    let problems = built.err().unwrap();
    assert_eq!(problems[0].key, "upstreams.origin.tls.ca");
}
