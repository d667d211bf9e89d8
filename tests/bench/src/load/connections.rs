//! A new connection for each request. TLS resumption is disabled in the client, so that it is off for all proxies.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;

use super::{Done, answer};

const CLIENTS: usize = 8;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";

/// Eight clients in closed loops.
pub(super) fn run(address: SocketAddr, tls: Option<&Arc<ClientConfig>>, seconds: u32) -> Result<Done> {
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let requests = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(address, tls, end))).collect();
        clients.into_iter().map(joined).sum::<Result<u64>>()
    })?;
    Ok(Done { requests, failed: 0 })
}

fn joined(client: std::thread::ScopedJoinHandle<'_, Result<u64>>) -> Result<u64> {
    client.join().unwrap_or_else(|_| bail!("a client panicked"))
}

fn client(address: SocketAddr, tls: Option<&Arc<ClientConfig>>, end: Instant) -> Result<u64> {
    let mut requests = 0;
    let mut buffer = Vec::new();
    while Instant::now() < end {
        let mut stream = connect(address)?;
        match tls {
            None => exchange(&mut stream, &mut buffer)?,
            Some(config) => {
                let name = ServerName::IpAddress(address.ip().into());
                let mut session = ClientConnection::new(config.clone(), name)?;
                exchange(&mut rustls::Stream::new(&mut session, &mut stream), &mut buffer)?;
            }
        }
        requests += 1;
    }
    Ok(requests)
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).context("connecting")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

fn exchange(stream: &mut (impl Read + Write), buffer: &mut Vec<u8>) -> Result<()> {
    stream.write_all(REQUEST)?;
    answer::read(stream, buffer)
}

/// Connections that had one response each and are kept open.
pub(crate) fn idle(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let mut buffer = Vec::new();
    let one = |_| {
        let mut stream = connect(address)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        answer::read(&mut stream, &mut buffer)?;
        Ok(stream)
    };
    (0..count).map(one).collect()
}
