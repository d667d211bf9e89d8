//! The inputs of a result as bytes, which are the key under which it is remembered.

use std::hash::Hasher;
use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256};
use http::{HeaderMap, HeaderName};

use witgate_exchange::contracts::{Input, ResponseHead};
use witgate_exchange::credentials::Credentials;
use witgate_exchange::head::RequestHead;

/// The inputs of a result.
#[derive(Clone, Copy)]
pub(super) struct Basis<'a> {
    pub(super) inputs: &'a [Input],
    pub(super) head: &'a RequestHead,
    pub(super) shown: Option<ResponseInputs<'a>>,
    /// Whether all inputs are treated as credentials.
    pub(super) secret: bool,
    /// What is a credential for the binding.
    pub(super) credentials: &'a Credentials,
}

/// The inputs of a call with a response.
#[derive(Clone, Copy)]
pub(super) struct ResponseInputs<'a> {
    pub(super) head: &'a ResponseHead,
    /// The names of the declared headers.
    pub(super) headers: &'a [HeaderName],
    pub(super) context: &'a [u8],
}

/// Marks the end of a list of values. No value has this length.
const END: u32 = u32::MAX;

impl Basis<'_> {
    /// Whether a credential is among the inputs.
    pub(super) fn has_credentials(&self) -> bool {
        self.inputs.iter().any(|input| self.is_credential(input))
            || self.shown.is_some_and(|shown| shown.headers.iter().any(|name| self.credentials.include(name)))
    }

    /// Writes the inputs that may be kept in clear. Each value is preceded by its length, so that different inputs
    /// never give equal bytes.
    pub(super) fn write_plain(&self, plain: &mut Vec<u8>) {
        let mut sink = |bytes: &[u8]| plain.extend_from_slice(bytes);
        for input in self.inputs.iter().filter(|input| !self.is_secret(input)) {
            feed(input, self.head, &mut sink);
        }
        if let Some(ResponseInputs { head, headers, context }) = self.shown {
            sink(&head.status.to_le_bytes());
            sink(&[u8::from(head.local)]);
            item(context, &mut sink);
            for name in headers.iter().filter(|name| !self.credentials.include(name)) {
                values(&head.headers, name, &mut sink);
            }
        }
    }

    /// Adds the credentials to a hash.
    pub(super) fn hash_secrets(&self, hasher: &mut impl Hasher) {
        self.feed_secrets(&mut |bytes| hasher.write(bytes));
    }

    /// The SHA-256 of the credentials; `None` if there are none.
    pub(super) fn digest_of_secrets(&self) -> Option<[u8; 32]> {
        if !self.secret && !self.has_credentials() {
            return None;
        }
        let mut context = Context::new(&SHA256);
        self.feed_secrets(&mut |bytes| context.update(bytes));
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Some(digest)
    }

    fn feed_secrets(&self, sink: &mut impl FnMut(&[u8])) {
        for input in self.inputs.iter().filter(|input| self.is_secret(input)) {
            feed(input, self.head, sink);
        }
        if let Some(shown) = self.shown {
            for name in shown.headers.iter().filter(|name| self.credentials.include(name)) {
                values(&shown.head.headers, name, sink);
            }
        }
    }

    fn is_secret(&self, input: &Input) -> bool {
        self.secret || self.is_credential(input)
    }

    fn is_credential(&self, input: &Input) -> bool {
        match input {
            Input::Header(name) => self.credentials.include(name),
            Input::Query => self.credentials.are_in_query(),
            _ => false,
        }
    }
}

/// Writes one input of a request.
fn feed(input: &Input, head: &RequestHead, sink: &mut impl FnMut(&[u8])) {
    match input {
        Input::Header(name) => values(&head.headers, name, sink),
        Input::Method => item(head.method.as_str().as_bytes(), sink),
        Input::Path => item(head.path().as_bytes(), sink),
        Input::Query => optional(head.query().map(str::as_bytes), sink),
        Input::Authority => item(head.authority.as_bytes(), sink),
        Input::Scheme => item(head.scheme.as_str().as_bytes(), sink),
        Input::OriginalPath => item(head.received_target().path().as_bytes(), sink),
        Input::ClientAddress => match head.client.address {
            IpAddr::V4(address) => item(&address.octets(), sink),
            IpAddr::V6(address) => item(&address.octets(), sink),
        },
        Input::ClientCertificate => {
            let certificate = head.client.certificate.as_ref();
            optional(certificate.map(|certificate| certificate.fingerprint.as_bytes()), sink);
        }
        Input::Identity => {
            let identity = head.identity.as_ref();
            optional(identity.map(|identity| identity.subject.as_bytes()), sink);
            for (name, value) in identity.iter().flat_map(|identity| &identity.claims) {
                item(name.as_bytes(), sink);
                item(value.as_bytes(), sink);
            }
            sink(&END.to_le_bytes());
        }
        Input::Route => item(head.route_name().as_bytes(), sink),
        Input::PathParameter(wanted) => {
            let mut found = head.parameters.iter().filter(|(name, _)| **name == **wanted);
            optional(found.next().map(|(_, value)| value.as_bytes()), sink);
        }
    }
}

/// Writes all values of a header.
fn values(headers: &HeaderMap, name: &HeaderName, sink: &mut impl FnMut(&[u8])) {
    headers.get_all(name).iter().for_each(|value| item(value.as_bytes(), sink));
    sink(&END.to_le_bytes());
}

fn optional(bytes: Option<&[u8]>, sink: &mut impl FnMut(&[u8])) {
    match bytes {
        Some(bytes) => item(bytes, sink),
        None => sink(&END.to_le_bytes()),
    }
}

fn item(bytes: &[u8], sink: &mut impl FnMut(&[u8])) {
    // A head has far less than 4 GiB.
    sink(&u32::try_from(bytes.len()).unwrap_or(END - 1).to_le_bytes());
    sink(bytes);
}
