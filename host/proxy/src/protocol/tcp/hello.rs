//! The ClientHello of a client, read in a bounded time and put back, and the alert for a client whose hello is refused.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_wire::client_hello::{Alert, ClientHello, HelloReader, Malformed};
use witgate_wire::tcp::Tcp;

use crate::protocol::connection::Incoming;

/// Bytes read at a time; most hellos fit.
const READ_BYTES: usize = 2048;

/// How long a client that was refused has to read the alert, and how many of its bytes are dropped meanwhile. If unread bytes
/// were left, the close would reset the connection, and the client might not get the alert.
const LINGER: Duration = Duration::from_millis(500);
const MOST_DROPPED: usize = 64 * 1024;

/// Reads the hello. Afterwards the stream is as before, so that whoever reads it next gets the hello unchanged.
///
/// # Errors
/// `BadClientHello`, of which the client has been told by an alert; `HeaderTimeout`; `ClientGone`; `Draining`.
pub(crate) async fn read(incoming: &Incoming, stream: &mut Tcp) -> Result<ClientHello, Fault> {
    let limit = incoming.generation.config.limits.handshake_timeout;
    let mut arrived = BytesMut::new();
    let read = tokio::select! {
        biased;
        read = timeout(limit, complete(stream, &mut arrived)) => read,
        () = incoming.until_silence_is_over() => return Err(Fault::new(FaultKind::Draining)),
    };
    match read {
        Err(_) => {
            let cause = format!("no complete ClientHello within {limit:?} (`limits.handshake_timeout`)");
            Err(Fault::new(FaultKind::HeaderTimeout).cause(cause))
        }
        Ok(Err(_)) => {
            Err(Fault::new(FaultKind::ClientGone)
                .cause("the client left before its ClientHello was complete"))
        }
        Ok(Ok(Err(malformed))) => {
            refuse(stream, malformed.alert()).await;
            Err(Fault::new(FaultKind::BadClientHello).cause(malformed.reason()))
        }
        Ok(Ok(Ok(hello))) => {
            stream.put_back(arrived);
            Ok(hello)
        }
    }
}

async fn complete(stream: &mut Tcp, arrived: &mut BytesMut) -> io::Result<Result<ClientHello, Malformed>> {
    let mut reader = HelloReader::default();
    loop {
        arrived.reserve(READ_BYTES);
        if stream.read_buf(arrived).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match reader.advance(arrived) {
            Ok(Some(hello)) => return Ok(Ok(hello)),
            Ok(None) => {}
            Err(malformed) => return Ok(Err(malformed)),
        }
    }
}

/// Tells a client that has sent only its hello why the connection is closed.
pub(crate) async fn refuse(stream: &mut Tcp, alert: Alert) {
    let told = async {
        stream.write_all(&alert.record()).await?;
        stream.shutdown().await?;
        let (mut dropped, mut buffer) = (0, [0; 1024]);
        while dropped < MOST_DROPPED {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => dropped += read,
            }
        }
        io::Result::Ok(())
    };
    // Best effort: a client that does not read the alert learns of the close.
    let _ = timeout(LINGER, told).await;
}
