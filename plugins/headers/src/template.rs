//! Text with placeholders.

use witgate_sdk::{Header, HeaderChange, HeaderName, ValuePart};

/// The most parts that the gateway accepts in one value.
const PARTS: usize = 32;

/// Text with placeholders, parsed once. The gateway replaces the placeholders.
pub(crate) struct Template {
    parts: Vec<ValuePart>,
}

impl Template {
    /// Parses `text {placeholder} text`. Two braces stand for one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // RFC 9110 section 5.5: TAB is the only control byte that a value may contain.
        if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err("a header value must not have control characters".to_owned());
        }
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
                return Err("an unmatched brace: write `{{` or `}}` for a brace in the text".to_owned());
            };
            if !plain.is_empty() {
                parts.push(ValuePart::text(std::mem::take(&mut plain)));
            }
            parts.push(placeholder(name)?);
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(ValuePart::text(plain));
        }
        if parts.len() > PARTS {
            return Err(format!(
                "{} placeholders and texts between them are too many: at most {PARTS}",
                parts.len()
            ));
        }
        Ok(Self { parts })
    }

    /// Whether it uses a value that only a response has.
    pub(crate) fn shows_a_response(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, ValuePart::Status | ValuePart::ResponseHeader(_)))
    }

    /// The text, if it has no placeholders.
    pub(crate) fn fixed(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [ValuePart::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Replaces all values of a header.
    pub(crate) fn set(&self, name: &HeaderName) -> HeaderChange {
        match self.fixed() {
            Some(text) => HeaderChange::Set(Header::new(&**name, text)),
            None => HeaderChange::set_composed(&**name, self.parts.clone()),
        }
    }

    /// Adds a value to a header.
    pub(crate) fn append(&self, name: &HeaderName) -> HeaderChange {
        match self.fixed() {
            Some(text) => HeaderChange::Append(Header::new(&**name, text)),
            None => HeaderChange::append_composed(&**name, self.parts.clone()),
        }
    }
}

fn placeholder(name: &str) -> Result<ValuePart, String> {
    let header = |name: &str| HeaderName::try_from(name.to_owned()).map(|name| name.to_string());
    Ok(match name {
        "client.address" => ValuePart::ClientAddress,
        "request.id" => ValuePart::RequestId,
        "method" => ValuePart::Method,
        "path" => ValuePart::Path,
        "original_path" => ValuePart::OriginalPath,
        "query" => ValuePart::Query,
        "authority" => ValuePart::Authority,
        "scheme" => ValuePart::Scheme,
        "route" => ValuePart::Route,
        "trace_parent" => ValuePart::TraceParent,
        "identity.subject" => ValuePart::Subject,
        "status" => ValuePart::Status,
        _ => match name.split_once('.') {
            Some(("claim", claim)) if !claim.is_empty() => ValuePart::claim(claim),
            Some(("parameter", name)) if !name.is_empty() => ValuePart::path_parameter(name),
            Some(("header", name)) => ValuePart::request_header(header(name)?),
            Some(("response_header", name)) => ValuePart::response_header(header(name)?),
            _ => {
                return Err(format!(
                    "`{{{name}}}` is no placeholder: there are client.address, request.id, method, path, original_path, \
                     query, authority, scheme, route, trace_parent, identity.subject, claim.NAME, parameter.NAME, \
                     header.NAME, and for responses status and response_header.NAME"
                ));
            }
        },
    })
}
