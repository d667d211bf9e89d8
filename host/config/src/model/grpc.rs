//! Settings about gRPC.

use std::path::PathBuf;

/// The name of a method of gRPC, or the beginning of names. Empty parts match everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcMethod {
    /// The service with its package.
    pub service: NamePattern,
    /// The method.
    pub method: NamePattern,
}

/// A name, or the beginning of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// Exactly this name.
    Exact(String),
    /// Every name that begins like this; empty: every name.
    Prefix(String),
}

impl NamePattern {
    /// Reads a name, or with `*` at its end the beginning of names.
    pub fn read(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => NamePattern::Prefix(prefix.to_owned()),
            None => NamePattern::Exact(text.to_owned()),
        }
    }

    /// Every name.
    pub fn any() -> Self {
        NamePattern::Prefix(String::new())
    }

    /// Whether it matches a name.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            NamePattern::Exact(exact) => name == exact,
            NamePattern::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

impl GrpcMethod {
    /// Whether it matches the call with this path, `/package.Service/Method`.
    pub fn matches(&self, path: &str) -> bool {
        let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        parts.is_some_and(|(service, method)| {
            !service.is_empty()
                && !method.is_empty()
                && !method.contains('/')
                && self.service.matches(service)
                && self.method.matches(method)
        })
    }
}

/// `routes.grpc_bridge`: the protocols whose calls are translated to gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GrpcBridge {
    /// gRPC-Web.
    pub web: bool,
    /// Connect.
    pub connect: bool,
}

/// `routes.transcode`: how requests with JSON become calls of gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcode {
    /// Files with a `google.protobuf.FileDescriptorSet` each.
    pub descriptors: Vec<PathBuf>,
    /// Source files of Protocol Buffers.
    pub protos: Vec<PathBuf>,
    /// The folders in which imports of the source files are looked up, besides their own.
    pub includes: Vec<PathBuf>,
    /// The services that may be called, by full name; empty: all.
    pub services: Vec<String>,
    /// Whether methods can also be called by `POST /package.Service/Method`.
    pub auto: bool,
    /// The form of answers that are streams, where the request accepts none in particular.
    pub streams: StreamForm,
    /// Whether query parameters that no field has are ignored, in place of a refusal.
    pub ignore_unknown_query: bool,
    /// How messages are written.
    pub json: JsonForm,
}

/// The form in which a stream of messages is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamForm {
    /// A line for each message.
    #[default]
    Ndjson,
    /// Server-sent events.
    Sse,
    /// One array.
    Array,
}

/// How messages are written as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JsonForm {
    /// Whether fields that have their default value are written.
    pub defaults: bool,
    /// Whether fields have the names of the source file, in place of those in camel case.
    pub proto_names: bool,
    /// Whether enums are written as numbers.
    pub enum_numbers: bool,
}
