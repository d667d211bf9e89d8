//! Text with placeholders.

use std::cell::OnceCell;

use witgate_sdk::{HeaderName, Identity, Input, Request, ResponseView};

/// Text with placeholders, parsed once.
pub(crate) struct Template {
    parts: Vec<Part>,
}

enum Part {
    Text(String),
    Value(Placeholder),
}

/// What may stand between braces.
#[derive(Debug, PartialEq)]
pub(crate) enum Placeholder {
    ClientAddress,
    RequestId,
    Method,
    Path,
    OriginalPath,
    Query,
    Authority,
    Scheme,
    Route,
    TraceParent,
    Subject,
    Claim(String),
    RequestHeader(HeaderName),
    Status,
    ResponseHeader(HeaderName),
}

/// What a template may show: one request, and its response once there is one.
pub(crate) struct Seen<'a> {
    request: &'a Request<'a>,
    response: Option<&'a ResponseView<'a>>,
    /// Asked for at most once a message.
    identity: OnceCell<Option<Identity>>,
}

impl<'a> Seen<'a> {
    pub(crate) fn new(request: &'a Request<'a>, response: Option<&'a ResponseView<'a>>) -> Self {
        Self { request, response, identity: OnceCell::new() }
    }

    fn identity(&self) -> Option<&Identity> {
        self.identity.get_or_init(|| self.request.identity()).as_ref()
    }
}

impl Template {
    /// Parses `text {placeholder} text`. Two braces stand for one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(place) = rest.find(['{', '}']) {
            plain.push_str(&rest[..place]);
            let brace = &rest[place..=place];
            rest = &rest[place + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let Some((name, after)) = rest.split_once('}').filter(|_| brace == "{") else {
                return Err(
                    "a brace without its partner: write `{{` or `}}` for a brace in the text".to_owned()
                );
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Value(Placeholder::parse(name)?));
            rest = after;
        }
        plain.push_str(rest);
        if plain.bytes().any(is_control) {
            return Err("a header value must not have control characters".to_owned());
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    pub(crate) fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(placeholder) => Some(placeholder),
            Part::Text(_) => None,
        })
    }

    /// The text for one message; none if a placeholder has no value, or one that no header may have.
    pub(crate) fn render(&self, seen: &Seen) -> Option<Vec<u8>> {
        let mut value = Vec::with_capacity(64);
        for part in &self.parts {
            match part {
                Part::Text(text) => value.extend_from_slice(text.as_bytes()),
                Part::Value(placeholder) => placeholder.write(seen, &mut value)?,
            }
        }
        // A claim is whatever its issuer wrote: it may have line ends.
        (!value.iter().copied().any(is_control)).then_some(value)
    }
}

impl Placeholder {
    fn parse(name: &str) -> Result<Self, String> {
        let header = |name: &str| HeaderName::try_from(name.to_owned());
        Ok(match name {
            "client.address" => Self::ClientAddress,
            "request.id" => Self::RequestId,
            "method" => Self::Method,
            "path" => Self::Path,
            "original_path" => Self::OriginalPath,
            "query" => Self::Query,
            "authority" => Self::Authority,
            "scheme" => Self::Scheme,
            "route" => Self::Route,
            "trace_parent" => Self::TraceParent,
            "identity.subject" => Self::Subject,
            "status" => Self::Status,
            _ => match name.split_once('.') {
                Some(("claim", claim)) if !claim.is_empty() => Self::Claim(claim.to_owned()),
                Some(("header", name)) => Self::RequestHeader(header(name)?),
                Some(("response_header", name)) => Self::ResponseHeader(header(name)?),
                _ => {
                    return Err(format!(
                        "`{{{name}}}` is no placeholder: there are client.address, request.id, method, path, \
                         original_path, query, authority, scheme, route, trace_parent, identity.subject, \
                         claim.NAME, header.NAME, and for responses status and response_header.NAME"
                    ));
                }
            },
        })
    }

    /// What of a request it shows; none: what no two requests have in common.
    pub(crate) fn inputs(&self) -> Option<Vec<Input>> {
        Some(vec![match self {
            Self::RequestId | Self::TraceParent => return None,
            // These come in with a response, and count by themselves.
            Self::Status | Self::ResponseHeader(_) => return Some(Vec::new()),
            Self::ClientAddress => Input::ClientAddress,
            Self::Method => Input::Method,
            Self::Path => Input::Path,
            Self::OriginalPath => Input::OriginalPath,
            Self::Query => Input::Query,
            Self::Authority => Input::Authority,
            Self::Scheme => Input::Scheme,
            Self::Route => Input::Route,
            Self::Subject | Self::Claim(_) => Input::Identity,
            Self::RequestHeader(name) => Input::header(&**name),
        }])
    }

    /// Writes the value; none if there is none.
    fn write(&self, seen: &Seen, value: &mut Vec<u8>) -> Option<()> {
        let request = seen.request;
        match self {
            Self::ClientAddress => value.extend(request.client_address().into_bytes()),
            Self::RequestId => value.extend(request.request_id().into_bytes()),
            Self::Method => value.extend_from_slice(request.method().as_bytes()),
            Self::Path => value.extend_from_slice(request.path().as_bytes()),
            Self::OriginalPath => value.extend(request.original_path().into_bytes()),
            Self::Query => value.extend_from_slice(request.query()?.as_bytes()),
            Self::Authority => value.extend_from_slice(request.authority().as_bytes()),
            Self::Scheme => value.extend(request.scheme().into_bytes()),
            Self::Route => value.extend(request.route().into_bytes()),
            Self::TraceParent => value.extend(request.trace_parent().into_bytes()),
            Self::Subject => value.extend_from_slice(seen.identity()?.subject.as_bytes()),
            Self::Claim(name) => value.extend_from_slice(seen.identity()?.claim(name)?.as_bytes()),
            Self::RequestHeader(name) => value.extend_from_slice(request.values(name).next()?),
            Self::Status => value.extend(seen.response?.status().to_string().into_bytes()),
            Self::ResponseHeader(name) => value.extend_from_slice(seen.response?.values(name).next()?),
        }
        Some(())
    }
}

/// RFC 9110 section 5.5: of the control bytes, only TAB may stand in a value.
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}
