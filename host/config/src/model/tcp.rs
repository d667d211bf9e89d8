//! Connections that are forwarded as they are, and the PROXY protocol.

use ipnet::IpNet;

/// `listeners.protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenerProtocol {
    /// HTTP/1.1 and HTTP/2.
    #[default]
    Http,
    /// Any; connections are forwarded without a look at what is in them.
    Tcp,
}

/// `listeners.proxy_protocol`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// The sources whose connections must begin with a PROXY header.
    pub trusted: Vec<IpNet>,
    /// What is done with connections of other sources.
    pub others: OtherSources,
}

/// What is done with connections that do not come from a trusted source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OtherSources {
    /// They are closed.
    #[default]
    Refuse,
    /// They are served as what they are: no header is read.
    Direct,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary, with additional fields.
    V2,
}

/// What a route does with connections, and which it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpForward {
    /// Server names (SNI) in lower case: exact, or with a wildcard that stands for exactly one leading label. Empty: any or
    /// none.
    pub sni: Vec<String>,
    /// Application protocols (ALPN), of which the client must offer one. Empty: any or none.
    pub alpn: Vec<String>,
    /// Upstream names with weights; at least one of weight above 0.
    pub upstreams: Vec<(String, u32)>,
}
