//! `tcp`: opens a connection, and optionally exchanges bytes. Choose it for endpoints that support no other check.

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Why;
use crate::connection::socket::Socket;

/// The first bytes received, among which the expected ones must be.
const READ: usize = 64 * 1024;

/// A prepared check: the bytes to send, and the bytes to expect.
pub(crate) struct Question {
    send: Vec<u8>,
    expect: Vec<u8>,
}

impl Question {
    /// A check that sends and expects bytes. Both may be empty.
    pub(crate) fn new(send: &[u8], expect: &[u8]) -> Question {
        Question { send: send.to_owned(), expect: expect.to_owned() }
    }

    /// Runs the check over a connection that is already open.
    pub(crate) async fn ask(&self, mut socket: Socket) -> Result<(), Why> {
        if !self.send.is_empty() {
            socket.write_all(&self.send).await.map_err(|error| error.to_string())?;
            socket.flush().await.map_err(|error| error.to_string())?;
        }
        let mut read = Vec::new();
        while memmem::find(&read, &self.expect).is_none() {
            if read.len() >= READ {
                return Err(format!("the first {READ} bytes are not as expected"));
            }
            if socket.read_buf(&mut read).await.map_err(|error| error.to_string())? == 0 {
                return Err("it closed the connection without what is expected".to_owned());
            }
        }
        Ok(())
    }
}
