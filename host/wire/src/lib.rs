//! Bytes: sockets, and the heads and chunks of HTTP/1.
//!
//! | module | what it holds |
//! |---|---|
//! | [`inherited`] | listening sockets that a supervisor passes at start |
//! | [`tcp`], [`socket`] | a TCP socket of the data path, and what is asked of one that carries TLS |
//! | [`preface`] | tells HTTP/2 from HTTP/1 by the first bytes |
//! | [`proxy_protocol`] | the header by which a proxy tells whose connection it forwards |
//! | [`client_hello`] | the server name and the protocols of a TLS ClientHello |
//! | [`http1`] | reads and writes heads, fields and chunks |
//! | [`stream`] | a connection that has switched to another protocol |
//! | [`deadline`] | a timer that moves with every request of a connection |
//! | [`pem`] | certificates and keys |
//! | [`spiffe`] | the SPIFFE id of a certificate |
//!
//! This crate knows no route, no upstream and no exchange. The unsafe code of the data path is all here, beside what
//! makes it sound.

pub mod client_hello;
mod core_local;
pub mod deadline;
pub mod http1;
pub mod inherited;
pub mod pem;
pub mod preface;
pub mod proxy_protocol;
pub mod socket;
pub mod spiffe;
pub mod stream;
pub mod tcp;
