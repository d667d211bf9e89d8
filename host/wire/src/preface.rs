//! Tells which version of HTTP a cleartext client speaks: HTTP/2 with prior knowledge begins with a fixed preface
//! (RFC 9113 section 3.4), from which every HTTP/1.1 request differs after a few bytes.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes read at a time; most first requests fit.
const READ_BYTES: usize = 4096;

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.1, or anything else.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Reads until the protocol is known. The bytes stay in `arrived` for the protocol to read.
///
/// # Errors
/// Those of the transport.
pub async fn detect<T: AsyncRead + Unpin>(io: &mut T, arrived: &mut BytesMut) -> io::Result<Spoken> {
    arrived.reserve(READ_BYTES);
    loop {
        let seen = arrived.len().min(PREFACE.len());
        if arrived[..seen] != PREFACE[..seen] {
            return Ok(Spoken::Http1);
        }
        if seen == PREFACE.len() {
            return Ok(Spoken::Http2);
        }
        if io.read_buf(arrived).await? == 0 {
            return Ok(Spoken::Http1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(pieces: &[&[u8]]) -> (Spoken, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut io = tokio_test(pieces);
            let mut arrived = BytesMut::new();
            let spoken = detect(&mut io, &mut arrived).await.expect("bytes");
            (spoken, arrived.to_vec())
        })
    }

    fn tokio_test(pieces: &[&[u8]]) -> tokio::io::DuplexStream {
        let (mut client, server) = tokio::io::duplex(1);
        let pieces: Vec<u8> = pieces.concat();
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut client, &pieces).await });
        server
    }

    #[test]
    fn the_preface_is_recognised_byte_by_byte() {
        assert_eq!(spoken(&[PREFACE]), (Spoken::Http2, PREFACE.to_vec()));
    }

    #[test]
    fn what_only_begins_like_it_is_http1_and_nothing_is_lost() {
        assert_eq!(spoken(&[b"PROPFIND"]), (Spoken::Http1, b"PRO".to_vec()));
        assert_eq!(
            spoken(&[b"PRI * HTTP/2.0\r\n\r\nXX"]),
            (Spoken::Http1, b"PRI * HTTP/2.0\r\n\r\nX".to_vec())
        );
        assert_eq!(spoken(&[b"PR"]), (Spoken::Http1, b"PR".to_vec()));
    }
}
