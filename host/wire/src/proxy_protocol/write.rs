//! Writes the header that tells an endpoint whose connection is forwarded to it.

use std::net::{IpAddr, SocketAddr};

use super::tlv::{Kind, Tlvs, crc32c, push};
use super::{Addresses, SIGNATURE};

/// The version that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text, with addresses only.
    V1,
    /// Binary, with additional fields.
    V2,
}

/// What the header tells about a client's connection.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// The two ends of the connection. `None`: the connection is the gateway's own, for example that of a health check.
    pub addresses: Option<Addresses>,
    /// The server name that the client has asked for by TLS.
    pub authority: Option<Box<str>>,
    /// The application protocol of its TLS connection, or the first that it offers where TLS is passed through.
    pub alpn: Option<Box<[u8]>>,
    /// Set if TLS with the client ends here.
    pub tls: Option<TlsFacts>,
    /// The fields of a header that came with the connection; some are passed on.
    pub received: Tlvs,
}

/// What is told about TLS that ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsFacts {
    /// The version, for example `TLSv1.3`.
    pub version: &'static str,
    /// Whether the client has presented a certificate, which was verified.
    pub certificate: bool,
}

/// The header. Where the two addresses are of different families, both are written as IPv6.
pub fn write(version: Version, client: &Client) -> Vec<u8> {
    let addresses = client.addresses.map(same_family);
    match version {
        Version::V1 => write_v1(addresses),
        Version::V2 => write_v2(addresses, client),
    }
}

/// IPv4 if both addresses are, also if they are written as IPv6 (`::ffff:192.0.2.1`), else IPv6.
fn same_family(addresses: Addresses) -> Addresses {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (source, destination) = (canonical(addresses.source), canonical(addresses.destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return Addresses { source, destination };
    }
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    Addresses { source: mapped(source), destination: mapped(destination) }
}

fn write_v1(addresses: Option<Addresses>) -> Vec<u8> {
    let Some(Addresses { source, destination }) = addresses else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

fn write_v2(addresses: Option<Addresses>, client: &Client) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    match addresses {
        None => out.extend_from_slice(&[0x20, 0, 0, 0]),
        Some(Addresses { source, destination }) => {
            out.extend_from_slice(&[0x21, if source.is_ipv4() { 0x11 } else { 0x21 }, 0, 0]);
            for end in [source, destination] {
                match end.ip() {
                    IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                }
            }
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
            write_fields(&mut out, client);
        }
    }
    push(&mut out, Kind::CRC32C, &[0; 4]);
    let length = u16::try_from(out.len() - 16).unwrap_or(u16::MAX);
    out[14..16].copy_from_slice(&length.to_be_bytes());
    let sum = crc32c([&*out]);
    let at = out.len() - 4;
    out[at..].copy_from_slice(&sum.to_be_bytes());
    out
}

fn write_fields(out: &mut Vec<u8>, client: &Client) {
    if let Some(alpn) = &client.alpn {
        push(out, Kind::ALPN, alpn);
    }
    if let Some(authority) = &client.authority {
        push(out, Kind::AUTHORITY, authority.as_bytes());
    }
    if let Some(tls) = &client.tls {
        // PP2_CLIENT_SSL, and for a certificate PP2_CLIENT_CERT_CONN and PP2_CLIENT_CERT_SESS; `verify` is 0 if the client has
        // presented a certificate that was verified.
        let (bits, verify) = if tls.certificate { (0x07, 0_u32) } else { (0x01, 1) };
        let mut value = vec![bits];
        value.extend_from_slice(&verify.to_be_bytes());
        push(&mut value, Kind::SSL_VERSION, tls.version.as_bytes());
        push(out, Kind::SSL, &value);
    }
    for (kind, value) in client.received.iter().filter(|(kind, _)| kind.is_passed_on()) {
        push(out, kind, value);
    }
}
