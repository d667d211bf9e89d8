//! Names of gRPC methods and their beginnings.

use super::Scalar;
use crate::model::{self, NamePattern};

/// A method of gRPC, or with `*` at its end the beginning of names; with a service before a slash only of that service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrpcMethod(pub model::GrpcMethod);

/// A name of a service or method of gRPC, or with `*` at its end the beginning of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrpcName(pub NamePattern);

/// The characters of names.
fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    !text.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

const LETTERS: &str = "it has letters, digits, `.`, `_` and `-`, and may end with `*`";

impl Scalar for GrpcName {
    const FORMAT: &'static str = "witgate-grpc-name";
    const WHAT: &'static str = "the name of a gRPC service or method such as \"example.Orders\" or \"Get*\"";

    fn read(text: &str) -> Result<Self, String> {
        if is_name(text) { Ok(Self(NamePattern::read(text))) } else { Err(LETTERS.to_owned()) }
    }
}

impl Scalar for GrpcMethod {
    const FORMAT: &'static str = "witgate-grpc-method";
    const WHAT: &'static str = "a gRPC method such as \"Get*\" or \"example.Orders/GetOrder\"";

    fn read(text: &str) -> Result<Self, String> {
        let (service, method) = match text.split_once('/') {
            Some((service, method)) => (GrpcName::read(service)?.0, method),
            None => (NamePattern::any(), text),
        };
        Ok(Self(model::GrpcMethod { service, method: GrpcName::read(method)?.0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_named_with_or_without_their_service() {
        let matches = |pattern: &str, path: &str| GrpcMethod::read(pattern).unwrap().0.matches(path);
        for (pattern, path, expected) in [
            ("Get*", "/example.Orders/GetOrder", true),
            ("Get*", "/example.Orders/Forget", false),
            ("GetOrder", "/example.Orders/GetOrders", false),
            ("example.Orders/*", "/example.Orders/Any", true),
            ("example.*/Get*", "/example.Orders/GetOrder", true),
            ("example.Orders/Get*", "/example.Users/GetUser", false),
            ("*", "/a.B/C", true),
            ("*", "/a.B/C/D", false),
            ("*", "/a.B", false),
            ("*", "//C", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        for wrong in ["", "/", "a/", "/a", "G*t", "a b", "a/b/c", "**"] {
            assert!(GrpcMethod::read(wrong).is_err(), "{wrong}");
        }
    }
}
