//! The PROXY protocol, versions 1 and 2: the header by which a proxy tells the next one whose connection it forwards
//! (`proxy-protocol.txt` of HAProxy, revision of 2020). It precedes everything else on a connection, TLS included.
//!
//! | module | what it holds |
//! |---|---|
//! | `read` | reads a header that may arrive in pieces |
//! | `write` | writes one |
//! | `tlv` | the additional fields of version 2, and their checksum |

mod read;
mod tlv;
mod write;

use std::net::SocketAddr;

pub use read::{Malformed, read};
pub use tlv::{Kind, Tlvs};
pub use write::{Client, TlsFacts, Version, write};

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The two ends of the client's connection. `None` if the proxy speaks for itself (`LOCAL`), or does not tell
    /// (`UNKNOWN`, `UNSPEC`, a Unix socket).
    pub addresses: Option<Addresses>,
    /// The additional fields. They are facts about the connection that the proxy claims, and identify nobody.
    pub tlvs: Tlvs,
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// The address that the client has connected to.
    pub destination: SocketAddr,
}

#[cfg(test)]
mod tests;
