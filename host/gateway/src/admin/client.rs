//! The client with which commands reach a running gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use witgate_config::file;

use crate::exit::{Exit, Failure};

/// Time for connecting to the admin listener.
const CONNECT: Duration = Duration::from_secs(5);

/// The address of a gateway's admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminAddress {
    /// A Unix socket.
    Socket(PathBuf),
    /// A TCP address and the bearer token for changes.
    Tcp(String, Option<String>),
}

impl AdminAddress {
    /// Parses an address: `unix:/run/witgate.sock`, a path with a slash in it, `127.0.0.1:9900` or
    /// `http://127.0.0.1:9900`.
    pub(crate) fn parse(text: &str, token: Option<String>) -> AdminAddress {
        if let Some(path) = text.strip_prefix("unix:") {
            return AdminAddress::Socket(PathBuf::from(path));
        }
        let address = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        match address {
            Some(address) => AdminAddress::Tcp(address.to_owned(), token),
            None if text.contains('/') => AdminAddress::Socket(PathBuf::from(text)),
            None => AdminAddress::Tcp(text.to_owned(), token),
        }
    }

    /// The address, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            AdminAddress::Socket(path) => format!("the admin socket {}", path.display()),
            AdminAddress::Tcp(address, _) => format!("the admin listener {address}"),
        }
    }
}

/// The response of a gateway.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// The body.
    pub(crate) body: Bytes,
}

/// Sends a request to a running gateway.
///
/// # Errors
/// [`Exit::AdminUnreachable`] if there is no response.
pub(crate) fn ask(place: &AdminAddress, method: Method, target: &str) -> Result<Answer, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failure, format!("no runtime: {error}")))?;
    runtime.block_on(reach(place, method, target)).map_err(|error| {
        let message = format!(
            "{} cannot be reached: {error:#}\nIs the gateway running? Its address can be given with `--admin`.",
            place.describe()
        );
        Failure::new(Exit::AdminUnreachable, message)
    })
}

async fn reach(place: &AdminAddress, method: Method, target: &str) -> anyhow::Result<Answer> {
    match place {
        AdminAddress::Socket(path) => {
            let stream = tokio::time::timeout(CONNECT, tokio::net::UnixStream::connect(path)).await??;
            exchange(stream, request("localhost", None, method, target)?).await
        }
        AdminAddress::Tcp(address, token) => {
            let stream = tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect(address)).await??;
            exchange(stream, request(address, token.as_deref(), method, target)?).await
        }
    }
}

fn request(
    host: &str,
    token: Option<&str>,
    method: Method,
    target: &str,
) -> anyhow::Result<Request<Empty<Bytes>>> {
    let mut request = Request::builder().method(method).uri(target).header(HOST, host);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    Ok(request.body(Empty::new())?)
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answered = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok(Answer { status, body: response.into_body().collect().await?.to_bytes() })
    };
    // The connection is driven here, beside the exchange, and ends with it.
    tokio::select! {
        answer = answered => answer,
        ended = connection => Err(ended.err().map_or_else(
            || anyhow::anyhow!("the connection was closed without a response"),
            anyhow::Error::from,
        )),
    }
}

/// The address of the admin listener, by the configuration of the gateway.
pub(crate) fn place(config: &Path) -> Option<AdminAddress> {
    let Ok(loaded) = witgate_config::load(config) else { return place_in(config) };
    let admin = loaded.config.admin;
    let token = admin.token.or(admin.read_token);
    let tcp = |address: SocketAddr| AdminAddress::Tcp(address.to_string(), token.clone());
    admin.socket.map(AdminAddress::Socket).or_else(|| admin.address.map(tcp))
}

/// The admin settings as far as they can be read, even from a configuration with mistakes elsewhere: that is when
/// an operator wants to ask the running gateway.
fn place_in(config: &Path) -> Option<AdminAddress> {
    let files = if config.is_dir() {
        crate::watch::names(config, "toml").into_iter().map(|name| config.join(name)).collect()
    } else {
        vec![config.to_owned()]
    };
    let folder = if config.is_dir() { config } else { config.parent().unwrap_or(Path::new("")) };
    files.iter().find_map(|path| {
        let text = file::read_text(path, file::CONFIGURATION).ok()?;
        let (table, _mistakes) = toml::de::DeTable::parse_recoverable(&text);
        let admin = table.get_ref().get("admin")?.get_ref().as_table()?;
        let value = |key: &str| admin.get(key).and_then(|value| value.get_ref().as_str()).map(str::to_owned);
        if let Some(socket) = value("socket") {
            return Some(AdminAddress::Socket(folder.join(socket)));
        }
        let address: SocketAddr = value("address")?.parse().ok()?;
        // References (`${…}`) are not resolved here; for such a token, use `--token`.
        Some(AdminAddress::Tcp(address.to_string(), value("token").filter(|token| !token.contains("${"))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_by_how_they_are_written() {
        let socket = |path: &str| AdminAddress::Socket(PathBuf::from(path));
        let tcp = |address: &str| AdminAddress::Tcp(address.to_owned(), None);
        assert_eq!(AdminAddress::parse("unix:admin.sock", None), socket("admin.sock"));
        assert_eq!(AdminAddress::parse("/run/witgate.sock", None), socket("/run/witgate.sock"));
        assert_eq!(AdminAddress::parse("./admin.sock", None), socket("./admin.sock"));
        assert_eq!(AdminAddress::parse("http://127.0.0.1:9900/", None), tcp("127.0.0.1:9900"));
        assert_eq!(AdminAddress::parse("localhost:9900", None), tcp("localhost:9900"));
    }

    #[test]
    fn the_place_is_found_in_a_configuration_with_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("witgate.toml");
        std::fs::write(&file, "[admin]\nsocket = \"admin.sock\"\n[gateway]\nworkers = = 3\n").unwrap();
        assert_eq!(place_in(&file), Some(AdminAddress::Socket(folder.path().join("admin.sock"))));
        std::fs::write(&file, "[admin]\naddress = \"127.0.0.1:9\"\ntoken = \"t\"\n").unwrap();
        assert_eq!(
            place_in(folder.path()),
            Some(AdminAddress::Tcp("127.0.0.1:9".to_owned(), Some("t".to_owned())))
        );
    }
}
