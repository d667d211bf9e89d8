//! The response that a plugin is called with.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use witgate_config::file;
use witgate_exchange::contracts::{ResponseHead, ResponseOrigin};

use crate::cli::request;
use crate::exit::{Exit, Failure};

/// The options that describe the response.
// The group would have the name of that of the request's options.
#[derive(Args, Debug)]
#[group(skip)]
pub(crate) struct Options {
    /// Call a transformation with a response of this status, too
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..=599))]
    response: Option<u16>,
    /// Header of the response, e.g. `content-type: text/html`; may be repeated
    #[arg(
        long = "response-header",
        value_name = "NAME: VALUE",
        value_parser = request::header,
        requires = "response"
    )]
    response_headers: Vec<(HeaderName, HeaderValue)>,
    /// A file with the body of the response [default: an empty body]
    #[arg(long, value_name = "FILE", requires = "response")]
    response_body: Option<PathBuf>,
}

/// A response, as plugins see it.
pub(crate) struct Response {
    /// Status and headers.
    pub(crate) head: Arc<ResponseHead>,
    /// The whole body.
    pub(crate) body: Bytes,
}

impl Options {
    /// The response; `None` if none is described.
    ///
    /// # Errors
    /// The file with the body cannot be read.
    pub(crate) fn response(&self) -> Result<Option<Response>, Failure> {
        let Some(status) = self.response else { return Ok(None) };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.response_headers {
            headers.append(name, value.clone());
        }
        let body = match &self.response_body {
            None => Bytes::new(),
            Some(path) => {
                let unread = |error| Failure::new(Exit::Usage, format!("{}: {error}", path.display()));
                file::read(path, file::PLUGIN).map_err(unread)?.into()
            }
        };
        let head =
            ResponseHead { status, headers, trailers: None, local: false, origin: ResponseOrigin::default() };
        Ok(Some(Response { head: Arc::new(head), body }))
    }
}
