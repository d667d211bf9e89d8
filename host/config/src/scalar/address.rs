//! Addresses to listen on and to connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Scalar, host};

/// An address to listen on: an IP address and a port. `:8080` listens on all IPv4 addresses, `localhost` is 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListenAddress(pub(crate) SocketAddr);

impl Scalar for ListenAddress {
    const FORMAT: &'static str = "witgate-listen-address";
    const WHAT: &'static str = "an address to listen on such as \"0.0.0.0:8080\" or \"[::]:8080\"";

    fn read(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        if is_unix(text) {
            return Err(
                "a listener has an IP address and a port; Unix sockets are not supported here".to_owned()
            );
        }
        let (host, port) = split_port(text)?;
        let port = port.ok_or("the port is missing")?;
        let address = match host {
            "" | "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => {
                return Err(format!(
                    "`{host}` is not an IP address; a listener needs one (IPv6 in brackets)"
                ));
            }
        };
        Ok(Self(SocketAddr::new(address, port)))
    }
}

/// How the gateway connects to an endpoint, if its address says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// The address of an endpoint: a host name or IP address with a port, or `http://host`, `https://host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointAddress {
    /// Host name (lower case) or IP address without brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// The scheme, if there is one.
    pub(crate) scheme: Option<Scheme>,
}

impl Scalar for EndpointAddress {
    const FORMAT: &'static str = "witgate-endpoint";
    const WHAT: &'static str = "an endpoint such as \"127.0.0.1:9001\" or \"https://users.internal\"";

    fn read(text: &str) -> Result<Self, String> {
        if is_unix(text) {
            return Err("endpoints are reached over TCP; Unix sockets are not supported".to_owned());
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some((other, _)) => {
                return Err(format!("the scheme `{other}` is neither `http` nor `https`"));
            }
            None => (None, text),
        };
        let rest = rest.strip_suffix('/').filter(|_| scheme.is_some()).unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(
                "an endpoint is a host and a port; paths belong to the route (`rewrite`, `strip_prefix`)"
                    .to_owned(),
            );
        }
        let (host, port) = split_port(rest)?;
        let port = match (port, scheme) {
            (Some(0), _) => return Err("port 0 cannot be connected to".to_owned()),
            (Some(port), _) => port,
            (None, Some(Scheme::Http)) => 80,
            (None, Some(Scheme::Https)) => 443,
            (None, None) => return Err("the port is missing".to_owned()),
        };
        if host.parse::<IpAddr>().is_err() {
            host::check_name(host)?;
        }
        Ok(Self { host: host.to_ascii_lowercase(), port, scheme })
    }
}

/// Whether a text names a Unix socket, as other servers write it.
fn is_unix(text: &str) -> bool {
    let text = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    text.starts_with("unix:") || text.starts_with(['/', '@'])
}

/// Splits `host:port`, `host`, `[v6]:port` or `[v6]`; the brackets are removed.
fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or("the bracket is not closed")?;
        inside.parse::<Ipv6Addr>().map_err(|_| format!("`{inside}` is not an IPv6 address"))?;
        match after.strip_prefix(':') {
            Some(port) => (inside, Some(port)),
            None if after.is_empty() => (inside, None),
            None => return Err(format!("`{after}` after the bracket is not a port")),
        }
    } else if text.parse::<Ipv6Addr>().is_ok() {
        return Err("an IPv6 address goes in brackets".to_owned());
    } else {
        text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
    };
    let port = port
        .map(|port| read_port(port).ok_or_else(|| format!("`{port}` is not a port (0 to 65535)")))
        .transpose()?;
    Ok((host, port))
}

/// Parses a port. `str::parse` alone would accept a plus sign.
fn read_port(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_need_an_ip_address() {
        let cases = [
            ("0.0.0.0:8080", Ok("0.0.0.0:8080")),
            ("[::]:8080", Ok("[::]:8080")),
            (":8080", Ok("0.0.0.0:8080")),
            ("localhost:0", Ok("127.0.0.1:0")),
            ("127.0.0.1", Err("the port is missing")),
            ("::1", Err("an IPv6 address goes in brackets")),
            ("gateway:80", Err("`gateway` is not an IP address; a listener needs one (IPv6 in brackets)")),
            (
                "unix:/run/a.sock",
                Err("a listener has an IP address and a port; Unix sockets are not supported here"),
            ),
            ("127.0.0.1:+80", Err("`+80` is not a port (0 to 65535)")),
            ("127.0.0.1:80800", Err("`80800` is not a port (0 to 65535)")),
        ];
        for (text, expected) in cases {
            let read = ListenAddress::read(text).map(|address| address.0.to_string());
            assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn endpoints_are_hosts_with_ports() {
        let cases = [
            ("127.0.0.1:9001", Ok(("127.0.0.1", 9001, None))),
            ("[::1]:9001", Ok(("::1", 9001, None))),
            ("Users.Internal:80", Ok(("users.internal", 80, None))),
            ("http://users", Ok(("users", 80, Some(Scheme::Http)))),
            ("https://users/", Ok(("users", 443, Some(Scheme::Https)))),
            ("https://[::1]:8443", Ok(("::1", 8443, Some(Scheme::Https)))),
            ("users", Err("the port is missing")),
            ("unix:/run/a.sock", Err("endpoints are reached over TCP; Unix sockets are not supported")),
            (
                "http://unix:/run/a.sock",
                Err("endpoints are reached over TCP; Unix sockets are not supported"),
            ),
            ("unix://run/a.sock", Err("endpoints are reached over TCP; Unix sockets are not supported")),
            ("/run/a.sock", Err("endpoints are reached over TCP; Unix sockets are not supported")),
            ("users:0", Err("port 0 cannot be connected to")),
            ("ftp://users", Err("the scheme `ftp` is neither `http` nor `https`")),
            ("[::1:80", Err("the bracket is not closed")),
            ("us ers:80", Err("`us ers` is not a host name: letters, digits, hyphens and dots")),
            (":80", Err("the host is missing")),
            (
                "http://users/v1",
                Err(
                    "an endpoint is a host and a port; paths belong to the route (`rewrite`, `strip_prefix`)",
                ),
            ),
        ];
        for (text, expected) in cases {
            let read = EndpointAddress::read(text);
            let read = read.as_ref().map(|address| (address.host.as_str(), address.port, address.scheme));
            assert_eq!(read.map_err(String::as_str), expected, "{text}");
        }
    }
}
