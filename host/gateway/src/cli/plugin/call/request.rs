//! The request a plugin is called with, as the options describe it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use clap::Args;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use witgate_proxy::head::{Client, RequestHead, Scheme};
use witgate_proxy::pipeline::plugin::Identity;
use witgate_proxy::telemetry::trace::{self, TraceContext};

use crate::exit::{Exit, Failure};

/// What the request is like.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Method
    #[arg(long, default_value = "GET")]
    method: Method,
    /// Path, with query if any
    #[arg(long, default_value = "/")]
    path: PathAndQuery,
    /// Header, e.g. `x-api-key: secret`; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Authority the client asks for
    #[arg(long, default_value = "localhost")]
    authority: String,
    /// Address of the client
    #[arg(long, default_value = "127.0.0.1")]
    client: IpAddr,
    /// Who calls, as if authentication had established it
    #[arg(long)]
    subject: Option<String>,
    /// Claim of the caller, e.g. `plan=gold`; may be repeated
    #[arg(long = "claim", value_name = "NAME=VALUE", requires = "subject")]
    claims: Vec<String>,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written as `name: value`")?;
    let name = name.trim().parse::<HeaderName>().map_err(|error| error.to_string())?;
    let value = value.trim().parse::<HeaderValue>().map_err(|error| error.to_string())?;
    Ok((name, value))
}

impl Options {
    /// The head of the request.
    ///
    /// # Errors
    /// A claim without a value.
    pub(super) fn head(&self) -> Result<RequestHead, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        Ok(RequestHead {
            method: self.method.clone(),
            target: self.path.clone(),
            received_target: self.path.clone(),
            upstream_target: None,
            upstream_method: None,
            authority: Arc::from(self.authority.to_ascii_lowercase()),
            scheme: Scheme::Http,
            trailers: None,
            client: Client { address: self.client, peer: SocketAddr::new(self.client, 0), certificate: None },
            route: Arc::from("call"),
            parameters: Vec::new(),
            identity: self.identity()?,
            request_id: trace::request_id(&headers, true),
            trace: TraceContext::from_headers(&headers, 0.0),
            headers,
        })
    }

    fn identity(&self) -> Result<Option<Identity>, Failure> {
        let claims = self.claims.iter().map(|claim| match claim.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => {
                Err(Failure::new(Exit::Usage, format!("--claim is written as NAME=VALUE, not `{claim}`")))
            }
        });
        let claims = claims.collect::<Result<_, _>>()?;
        let identity =
            |subject: &String| Identity { subject: subject.clone(), claims, binding: Arc::from("option") };
        Ok(self.subject.as_ref().map(identity))
    }
}
