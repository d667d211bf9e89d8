//! Requests at a fixed rate, independent of the responses.
//!
//! Each request has an intended time of sending, and its latency counts from that time. If a response is late, the
//! requests behind it are sent late, and their waiting time counts, too, so that a slow proxy cannot improve its
//! figures by slowing the clients down (coordinated omission). One thread for each connection sleeps until the
//! next intended time. The delay with which the kernel wakes it (about 50 us) is part of every figure, for all
//! proxies alike, and moves ratios of small latencies towards 1.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::answer;
use crate::pause;

/// One run. It ends after its duration plus the delay of the proxy, at most [`BACKLOG`].
pub(crate) struct OpenLoop<'a> {
    pub(crate) address: SocketAddr,
    /// Requests per second, over all connections.
    pub(crate) rate: f64,
    pub(crate) connections: u32,
    pub(crate) duration: Duration,
    /// The bytes of each request.
    pub(crate) request: &'a [u8],
}

/// A proxy with a greater delay cannot keep up with the rate.
const BACKLOG: Duration = Duration::from_secs(5);

impl OpenLoop<'_> {
    /// Runs the load; returns the latencies, sorted.
    ///
    /// # Errors
    /// A response is missing or is not a 200, or the proxy cannot keep up with the rate.
    pub(crate) fn run(&self) -> Result<Vec<Duration>> {
        ensure!(self.rate > 0.0 && self.connections > 0, "a rate and connections above 0");
        // All clients are connected before the first request is due.
        let streams: Vec<_> = (0..self.connections).map(|_| self.connect()).collect::<Result<_>>()?;
        let start = Instant::now() + Duration::from_millis(20);
        let mut latencies = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.connections)
                .zip(streams)
                .map(|(number, stream)| scope.spawn(move || self.client(number, stream, start)))
                .collect();
            let joined = clients.into_iter().map(|client| match client.join() {
                Ok(latencies) => latencies,
                Err(_) => bail!("a client panicked"),
            });
            joined.collect::<Result<Vec<_>>>()
        })?
        .concat();
        ensure!(!latencies.is_empty(), "no request was due");
        latencies.sort_unstable();
        Ok(latencies)
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(BACKLOG))?;
        Ok(stream)
    }

    fn client(&self, number: u32, mut stream: TcpStream, start: Instant) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        let mut buffer = Vec::new();
        for due in due(self.rate, self.connections, number, self.duration) {
            let intended = start + due;
            if let Some(wait) = intended.checked_duration_since(Instant::now()) {
                pause(wait);
            }
            stream.write_all(self.request)?;
            answer::read(&mut stream, &mut buffer)?;
            let latency = intended.elapsed();
            ensure!(latency < BACKLOG, "the proxy cannot keep {:.0} requests a second", self.rate);
            latencies.push(latency);
        }
        Ok(latencies)
    }
}

/// When the requests of a connection are due, counted from the start. Together, the connections are due at equal
/// intervals.
fn due(rate: f64, connections: u32, number: u32, duration: Duration) -> impl Iterator<Item = Duration> {
    (0u32..)
        .map(move |turn| (f64::from(number) + f64::from(turn) * f64::from(connections)) / rate)
        .map(Duration::from_secs_f64)
        .take_while(move |due| *due < duration)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn all_connections_together_keep_the_rate() {
        let duration = Duration::from_secs(1);
        let mut all: Vec<_> = (0..4).flat_map(|number| due(100.0, 4, number, duration)).collect();
        all.sort_unstable();
        assert_eq!(all.len(), 100);
        assert_eq!(all[37], Duration::from_millis(370));
    }

    #[test]
    fn a_late_answer_makes_those_behind_it_late() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let late = Duration::from_millis(300);
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4];
            let mut answers = 0;
            while stream.read_exact(&mut request).is_ok() {
                if answers == 0 {
                    pause(late);
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                answers += 1;
            }
            answers
        });
        // The requests are due at 0, 100 and 200 ms; the first response comes after 300 ms.
        let load = OpenLoop { address, rate: 10.0, connections: 1, duration: late, request: b"GET " };
        let latencies = load.run().unwrap();
        assert_eq!(latencies.len(), 3);
        assert_eq!(server.join().unwrap(), 3);
        // A closed loop would measure one slow response. In the open loop the requests behind it count from their
        // intended times.
        assert!(latencies[2] >= late);
        assert!(latencies[1] >= late - Duration::from_millis(100));
        assert!(latencies[0] >= late - Duration::from_millis(200));
    }
}
