//! The client of the exchange.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderName};
use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::file::{Line, Message};
use super::journal::{Event, Journal};
use super::origins::{body, lines};
use crate::exit::{Exit, Failure};

/// The longest exchange.
const LONGEST: Duration = Duration::from_secs(60);

/// Sends the request and notes the response. Runs on a local task set.
///
/// # Errors
/// There is no response.
pub(super) async fn exchange(
    gateway: SocketAddr,
    request: Message<Line>,
    client: Option<IpAddr>,
    journal: &Arc<Journal>,
) -> Result<(), Failure> {
    let exchanged = tokio::time::timeout(LONGEST, converse(gateway, request, client, journal)).await;
    let exchanged =
        exchanged.map_err(|_| Failure::new(Exit::Failure, "no response came within 60 seconds"))?;
    exchanged.map_err(|error| Failure::new(Exit::Failure, format!("the gateway ended the exchange: {error}")))
}

async fn converse(
    gateway: SocketAddr,
    message: Message<Line>,
    client: Option<IpAddr>,
    journal: &Arc<Journal>,
) -> anyhow::Result<()> {
    let stream = TcpStream::connect(gateway).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    let Message { head, mut headers, body: pieces } = message;
    if !headers.contains_key(HOST) {
        headers.insert(HOST, HeaderValue::from_str(&head.authority)?);
    }
    if let Some(address) = client {
        // The gateway trusts this machine to say where a request comes from.
        let forwarded = HeaderName::from_static("x-forwarded-for");
        headers.insert(forwarded, HeaderValue::from_str(&address.to_string())?);
    }
    let mut request = Request::new(body(pieces, journal));
    *request.method_mut() = head.method;
    *request.uri_mut() = head.target.into();
    *request.headers_mut() = headers;
    let response = sender.send_request(request).await?;
    let (head, mut rest) = response.into_parts();
    let (mut received, mut complete) = (Vec::new(), true);
    while let Some(frame) = rest.frame().await {
        match frame {
            Ok(frame) => received.extend(frame.into_data().unwrap_or_default()),
            Err(_) => {
                complete = false;
                break;
            }
        }
    }
    journal.note(Event::Answered {
        status: head.status.as_u16(),
        headers: lines(&head.headers),
        body: String::from_utf8_lossy(&received).into_owned(),
        complete,
    });
    Ok(())
}
