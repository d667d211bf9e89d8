//! The request with which a plugin is called, from the options.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use witgate_config::file;
use witgate_exchange::head::{Client, RequestHead};
use witgate_exchange::identity::Identity;

use crate::cli::request;
use crate::exit::{Exit, Failure};

/// The options that describe the request.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Method
    #[arg(long, default_value = "GET")]
    method: Method,
    /// Path, with query if any
    #[arg(long, default_value = "/")]
    path: PathAndQuery,
    /// Header, e.g. `x-api-key: secret`; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = request::header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Authority the client asks for
    #[arg(long, default_value = "localhost")]
    authority: String,
    /// Address of the client
    #[arg(long, default_value = "127.0.0.1")]
    client: IpAddr,
    /// Subject of the caller, as if authentication had established it
    #[arg(long)]
    subject: Option<String>,
    /// Claim of the caller, e.g. `plan=gold`; may be repeated
    #[arg(long = "claim", value_name = "NAME=VALUE", requires = "subject")]
    claims: Vec<String>,
    /// A file with the body [default: no body]
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
}

impl Options {
    /// The head of the request.
    ///
    /// # Errors
    /// A claim without a value.
    pub(crate) fn head(&self) -> Result<RequestHead, Failure> {
        let head = request::head(self.method.clone(), self.path.clone(), &self.authority, &self.headers);
        let client = Client { address: self.client, ..head.client };
        Ok(RequestHead { client, route: Some("call".into()), identity: self.identity()?, ..head })
    }

    /// The body of the request.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub(crate) fn body(&self) -> Result<Bytes, Failure> {
        let Some(path) = &self.body else { return Ok(Bytes::new()) };
        let read = file::read(path, file::PLUGIN);
        read.map(Bytes::from)
            .map_err(|error| Failure::new(Exit::Usage, format!("{} cannot be read: {error}", path.display())))
    }

    fn identity(&self) -> Result<Option<Arc<Identity>>, Failure> {
        let claims = self.claims.iter().map(|claim| match claim.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => {
                Err(Failure::new(Exit::Usage, format!("--claim is written as NAME=VALUE, not `{claim}`")))
            }
        });
        let claims = claims.collect::<Result<_, _>>()?;
        let identity = |subject: &String| {
            Arc::new(Identity { subject: subject.clone(), claims, binding: Arc::from("option") })
        };
        Ok(self.subject.as_ref().map(identity))
    }
}
