//! Translates requests with JSON to calls of gRPC, by the annotations `google.api.http` of the methods, and the answers back:
//! a wrapper of the destination that forwards them.
//!
//! | file | what it does |
//! |---|---|
//! | `schema` | reads descriptor sets and source files |
//! | `template` | path templates of annotations |
//! | `bindings` | which request is a call of which method |
//! | `request` | the message of a call, from path, query and body |
//! | `answer` | the JSON of an answer, of a stream, or of an error |
//! | `wrapper` | the destination |
//!
//! Files are read when a configuration is loaded, never for a request.

#![forbid(unsafe_code)]

mod answer;
mod bindings;
mod field;
mod request;
mod schema;
mod template;
#[cfg(test)]
mod tests;
mod wrapper;

use std::sync::Arc;

use witgate_config::model;
use witgate_exchange::destination::{Destination, Wrapper};

use bindings::Bindings;
use wrapper::Transcoding;

/// Wraps the destination of a route.
pub struct Transcoder {
    settings: model::Transcode,
    bindings: Arc<Bindings>,
}

impl Transcoder {
    /// Reads the files of these settings.
    ///
    /// # Errors
    /// The key of the setting that is wrong, and what is wrong with it: a file that cannot be read or compiled, a service that
    /// does not exist, an annotation that cannot be meant.
    pub fn load(settings: &model::Transcode) -> Result<Transcoder, (&'static str, String)> {
        let pool = schema::load(settings)?;
        let bindings = Arc::new(Bindings::of(&pool, settings)?);
        Ok(Transcoder { settings: settings.clone(), bindings })
    }
}

impl Wrapper for Transcoder {
    fn wrap(&self, inner: Arc<dyn Destination>) -> Arc<dyn Destination> {
        Arc::new(Transcoding::new(inner, self.bindings.clone(), self.settings.clone()))
    }
}
