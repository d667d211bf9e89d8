//! An origin that answers with given bytes, whatever it is asked.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use crate::listener::tests::Client;

/// An origin, and the heads of the requests that it got.
pub(super) struct RawOrigin {
    pub(super) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl RawOrigin {
    /// Answers every request with these bytes.
    pub(super) fn answering(answer: impl Into<Vec<u8>>) -> RawOrigin {
        let answer = answer.into();
        RawOrigin::serving(move |client| {
            client.send(&answer);
        })
    }

    /// Lets `serve` answer every request, whose head was read.
    pub(super) fn serving(serve: impl Fn(&mut Client) + Send + Sync + 'static) -> RawOrigin {
        RawOrigin::serving_heads(move |client, _| serve(client))
    }

    /// Lets `serve` answer every request, with its head.
    pub(super) fn serving_heads(serve: impl Fn(&mut Client, &str) + Send + Sync + 'static) -> RawOrigin {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, serve) = (heads.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (seen, serve) = (seen.clone(), serve.clone());
                std::thread::spawn(move || {
                    let mut client = Client(stream);
                    while let Some(head) = head(&mut client) {
                        seen.lock().expect("no panic").push(head.clone());
                        serve(&mut client, &head);
                    }
                });
            }
        });
        RawOrigin { address, heads }
    }

    /// The heads of the requests so far.
    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }
}

/// The next head; `None` once the gateway has closed the connection.
fn head(client: &mut Client) -> Option<String> {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") {
        match client.0.read(&mut byte) {
            Ok(1..) => text.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}
