//! TLS for client connections: certificates by server name, client certificates, session tickets.
//!
//! Files are read only here, away from the data path. A reload reads them again and compares a digest, so that a
//! replaced certificate takes effect with the next reload.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use ::aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use tokio_rustls::TlsAcceptor;
use witgate_config::Problem;
use witgate_config::model::{CertificateFiles, ClientIdentity, Listener, ListenerProtocol, ListenerTls};
use witgate_exchange::arrival::HostCheck;
use witgate_wire::pem::{self, Unusable};

use super::certificate;
use super::workload::WorkloadVerifier;

/// The TLS settings of a listener, ready for handshakes.
pub(crate) struct Tls {
    /// Does the handshakes.
    pub(crate) acceptor: TlsAcceptor,
    names: Arc<Names>,
    /// What of a client certificate identifies the caller.
    pub(crate) client_identity: Option<ClientIdentity>,
    /// SHA-256 of every file that was read, and of what of a client certificate identifies the caller.
    digest: [u8; 32],
}

impl Tls {
    /// Whether the files have the same contents.
    pub(crate) fn is_same(&self, other: &Tls) -> bool {
        self.digest == other.digest
    }

    /// Reads the TLS files of a listener; `index` is its position in the configuration.
    ///
    /// # Errors
    /// The first file that cannot be read or used, with its path.
    pub(crate) fn read(index: usize, listener: &Listener, tls: &ListenerTls) -> Result<Tls, Problem> {
        let key = format!("listeners[{index}].tls");
        let mut files = Files { key: &key, digest: Context::new(&SHA256) };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let names = Arc::new(names(tls, &mut files, &provider)?);
        let verifier = verifier(tls, &mut files, &provider)?;
        let versions: &[_] = if tls.tls12 { &[&version::TLS13, &version::TLS12] } else { &[&version::TLS13] };
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| problem(&key, format!("TLS cannot be set up: {error}")))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(names.clone());
        let config = finish(config, listener, tls, &key)?;
        files.digest.update(format!("{:?}", tls.client_identity).as_bytes());
        let digest = files.digest.finish().as_ref().try_into().expect("SHA-256 has 32 bytes");
        let client_identity = tls.client_identity.clone();
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), names, client_identity, digest })
    }

    /// Which hosts a connection with this server name is for; `None`: for every host, because there is one certificate.
    pub(crate) fn hosts_of(&self, server_name: &str) -> Option<HostCheck> {
        if self.names.certificates.len() == 1 {
            return None;
        }
        let (names, server_name) = (self.names.clone(), server_name.to_ascii_lowercase());
        Some(Box::new(move |host| host == server_name || names.serves(&server_name, host)))
    }
}

fn finish(
    mut config: ServerConfig,
    listener: &Listener,
    tls: &ListenerTls,
    key: &str,
) -> Result<ServerConfig, Problem> {
    config.alpn_protocols = match (listener.protocol, listener.http2) {
        (ListenerProtocol::Tcp, _) => tls.alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
        (ListenerProtocol::Http, true) => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        (ListenerProtocol::Http, false) => vec![b"http/1.1".to_vec()],
    };
    // The ticket key is new with every change of TLS files, so that no session outlives the client CA that
    // admitted it.
    config.ticketer = aws_lc_rs::Ticketer::new()
        .map_err(|error| problem(key, format!("session tickets cannot be set up: {error}")))?;
    Ok(config)
}

/// Reads files and keeps the digest over all of them.
struct Files<'a> {
    key: &'a str,
    digest: Context,
}

impl Files<'_> {
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, Unusable> {
        let bytes = pem::read(path)?;
        self.digest.update(&bytes);
        Ok(bytes)
    }
}

fn problem(key: &str, message: String) -> Problem {
    Problem { key: key.to_owned(), ..Problem::new(message) }
}

/// Server certificates by DNS name.
#[derive(Debug)]
struct Names {
    /// The positions of the certificates with a name.
    exact: HashMap<String, Vec<usize>>,
    /// The key is what follows `*.`.
    wildcard: HashMap<String, Vec<usize>>,
    /// The first is the default.
    certificates: Vec<Arc<CertifiedKey>>,
}

impl Names {
    /// The positions of the certificates for a name, the preferred one first.
    fn of(&self, name: &str) -> impl Iterator<Item = usize> {
        let of_parent = name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(name).into_iter().chain(of_parent).flatten().copied()
    }

    /// Whether a connection with this server name is also for `host`: its certificate has that name, or none has.
    fn serves(&self, server_name: &str, host: &str) -> bool {
        let chosen = self.of(server_name).next().unwrap_or_default();
        self.of(host).next().is_none() || self.of(host).any(|position| position == chosen)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let position = name.and_then(|name| self.of(&name).next()).unwrap_or_default();
        self.certificates.get(position).cloned()
    }
}

fn names(tls: &ListenerTls, files: &mut Files<'_>, provider: &CryptoProvider) -> Result<Names, Problem> {
    let (mut exact, mut wildcard, mut certificates) =
        (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new(), Vec::new());
    for (index, pair) in tls.certificates.iter().enumerate() {
        // The first pair may stand in the table itself. A key that is not there is reported for the table around it.
        let place = if index == 0 { files.key.to_owned() } else { format!("{}.certificates", files.key) };
        let certified = Arc::new(certified_key(pair, files, provider, &place)?);
        for name in certificate::dns_names(&certified.cert[0]) {
            // Where two certificates have the same name, the first one is used.
            match name.strip_prefix("*.") {
                Some(parent) => wildcard.entry(parent.to_owned()).or_default().push(index),
                None => exact.entry(name).or_default().push(index),
            }
        }
        certificates.push(certified);
    }
    if certificates.is_empty() {
        return Err(problem(files.key, "TLS without a certificate".to_owned()));
    }
    Ok(Names { exact, wildcard, certificates })
}

fn certified_key(
    pair: &CertificateFiles,
    files: &mut Files<'_>,
    provider: &CryptoProvider,
    place: &str,
) -> Result<CertifiedKey, Problem> {
    let of_certificate = |unusable: Unusable| unusable.about(format!("{place}.certificate"));
    let of_key = |unusable: Unusable| unusable.about(format!("{place}.key"));
    let chain = files.read(&pair.certificate).and_then(|bytes| pem::certificates(&pair.certificate, &bytes));
    let chain = chain.map_err(of_certificate)?;
    let key = files.read(&pair.key).and_then(|bytes| pem::key(&pair.key, &bytes)).map_err(of_key)?;
    pem::certified(&pair.certificate, chain, &pair.key, key, provider).map_err(of_key)
}

fn verifier(
    tls: &ListenerTls,
    files: &mut Files<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
    let Some(path) = &tls.client_ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let key = format!("{}.client_ca", files.key);
    let roots = files.read(path).and_then(|bytes| pem::roots(path, &bytes));
    let roots = roots.map_err(|unusable| unusable.about(&*key))?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = if tls.client_certificate_required { builder } else { builder.allow_unauthenticated() };
    let verifier = builder
        .build()
        .map_err(|error| problem(&key, format!("`{}` cannot verify clients: {error}", path.display())))?;
    Ok(match &tls.client_identity {
        Some(ClientIdentity::Spiffe(domain)) => Arc::new(WorkloadVerifier::new(verifier, domain.clone())),
        _ => verifier,
    })
}
