//! `routes.grpc`, `routes.grpc_bridge` and `routes.transcode`: calls of gRPC, and what is translated to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::model::{self, NamePattern, PathMatch};
use crate::pointer::child;
use crate::scalar::{GrpcName, Text};

/// The calls of gRPC that a route is for, in whichever protocol they come: gRPC, gRPC-Web or Connect.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GrpcMatch {
    /// The service with its package, e.g. `"example.Orders"`, or the beginning of names with `*`, e.g. `"example.*"`.
    service: Text<GrpcName>,
    /// The method, e.g. `"GetOrder"`, or the beginning of names with `*`, e.g. `"Get*"`.
    method: Text<GrpcName>,
}

impl Default for GrpcMatch {
    fn default() -> Self {
        GrpcMatch { service: Text::of("*"), method: Text::of("*") }
    }
}

impl GrpcMatch {
    /// The path that the calls have in common, and the condition on the rest of it.
    pub(super) fn meant(self) -> (Option<PathMatch>, Option<model::GrpcMethod>) {
        let (service, method) = (self.service.value.0, self.method.value.0);
        let path = match (&service, &method) {
            (NamePattern::Exact(service), NamePattern::Exact(method)) => {
                Some(PathMatch::Pattern(format!("/{service}/{method}")))
            }
            (NamePattern::Exact(service), NamePattern::Prefix(_)) => {
                Some(PathMatch::Prefix(format!("/{service}")))
            }
            (NamePattern::Prefix(_), _) => None,
        };
        (path, Some(model::GrpcMethod { service, method }))
    }
}

/// A protocol that is translated to gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(super) enum BridgedProtocol {
    GrpcWeb,
    Connect,
}

/// The protocols of a list.
pub(super) fn bridge(written: &[BridgedProtocol]) -> model::GrpcBridge {
    model::GrpcBridge {
        web: written.contains(&BridgedProtocol::GrpcWeb),
        connect: written.contains(&BridgedProtocol::Connect),
    }
}

/// How requests with JSON become calls of gRPC, by the annotations `google.api.http` of the methods. One of `descriptors`
/// and `protos` is required. When the files change, the new ones are put in service; if they cannot be used, the last good
/// ones stay.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Transcode {
    /// Files with a `FileDescriptorSet`, as `protoc --include_imports --descriptor_set_out` or `buf build` write it.
    descriptors: Vec<String>,
    /// Source files (`.proto`), which the gateway compiles itself. The files of `google/api` and `google/protobuf` need
    /// not be there.
    protos: Vec<String>,
    /// Folders in which the imports of `protos` are looked up, besides the folders of the files themselves.
    includes: Vec<String>,
    /// The services that may be called, by full name, e.g. `["example.Orders"]`. Without it, all of the files.
    services: Vec<String>,
    /// Whether every method can also be called by `POST /package.Service/Method` with its message as the body.
    auto: bool,
    /// The form of answers that are streams: `ndjson` (a line for each message), `sse` (server-sent events) or `array`. A
    /// request that accepts `application/x-ndjson`, `text/event-stream` or only `application/json` chooses itself.
    streams: StreamForm,
    /// Whether query parameters that no field has are ignored, in place of a refusal with 400.
    ignore_unknown_query: bool,
    /// How messages are written.
    json: JsonForm,
}

/// The form in which a stream of messages is sent.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum StreamForm {
    #[default]
    Ndjson,
    Sse,
    Array,
}

/// How messages are written as JSON.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct JsonForm {
    /// Whether fields that have their default value are written.
    defaults: bool,
    /// Whether fields have their names of the source file (`order_id`), in place of those in camel case (`orderId`).
    proto_names: bool,
    /// Whether enums are written as numbers, in place of names.
    enum_numbers: bool,
}

impl Transcode {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::Transcode {
        if self.descriptors.is_empty() && self.protos.is_empty() {
            let hint = "write `descriptors = [\"orders.pb\"]` or `protos = [\"orders.proto\"]`".to_owned();
            scope.report(at, "no file says which services and methods there are", Some(hint));
        }
        let mut files = |key: &str, names: &[String]| {
            let named = |(index, name): (usize, &String)| {
                scope.file(&child(&child(at, key), &index.to_string()), name)
            };
            names.iter().enumerate().map(named).collect()
        };
        model::Transcode {
            descriptors: files("descriptors", &self.descriptors),
            protos: files("protos", &self.protos),
            includes: self.includes.iter().map(|folder| scope.path(&child(at, "includes"), folder)).collect(),
            services: self.services,
            auto: self.auto,
            streams: match self.streams {
                StreamForm::Ndjson => model::StreamForm::Ndjson,
                StreamForm::Sse => model::StreamForm::Sse,
                StreamForm::Array => model::StreamForm::Array,
            },
            ignore_unknown_query: self.ignore_unknown_query,
            json: model::JsonForm {
                defaults: self.json.defaults,
                proto_names: self.json.proto_names,
                enum_numbers: self.json.enum_numbers,
            },
        }
    }
}
