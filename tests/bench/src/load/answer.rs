//! Reads one HTTP/1.1 response with a `Content-Length`, which all responses of the origin have.

use std::io::{ErrorKind, Read};

use anyhow::{Context, Result, bail, ensure};

/// The longest head of a response, in bytes; the heads of the origin are shorter.
const MOST: usize = 64 * 1024;

/// Reads one whole response. `buffer` is reused for the next one.
///
/// # Errors
/// The connection ends early, or the status is not 200.
pub(super) fn read(stream: &mut impl Read, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    let mut chunk = [0; 16 * 1024];
    let (head, length) = loop {
        if let Some(found) = head(buffer)? {
            break found;
        }
        ensure!(buffer.len() < MOST, "an endless head");
        let read = some(stream, &mut chunk)?;
        buffer.extend_from_slice(&chunk[..read]);
    };
    let mut missing = (head + length).saturating_sub(buffer.len());
    while missing > 0 {
        missing = missing.saturating_sub(some(stream, &mut chunk)?);
    }
    Ok(())
}

fn some(stream: &mut impl Read, chunk: &mut [u8]) -> Result<usize> {
    loop {
        match stream.read(chunk) {
            Ok(0) => bail!("the connection ended inside a response"),
            Ok(read) => return Ok(read),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("reading a response"),
        }
    }
}

/// Lengths of the head and of the body, once the head is complete.
fn head(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).context("a head that is not text")?;
    let status = text.split(' ').nth(1);
    ensure!(status == Some("200"), "a response with status {}", status.unwrap_or("none"));
    let mut fields = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.context("a response without Content-Length")?;
    Ok(Some((end + 4, length.trim().parse().context("Content-Length")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_is_read_to_its_end() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\nhello";
        read(&mut &text[..], &mut Vec::new()).unwrap();
        let error = read(&mut &text[..text.len() - 1], &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "the connection ended inside a response");
    }

    #[test]
    fn refusals_are_told() {
        let text = b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(
            read(&mut &text[..], &mut Vec::new()).unwrap_err().to_string(),
            "a response with status 503"
        );
    }
}
