//! Values that are composed for each request, and the names of their parts.

use bytes::Bytes;

/// A part of a composed value. `H` is the name of a header: text that is untrusted, or a [`http::HeaderName`] once
/// it has been validated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of parts of a request, and of a response")]
pub enum ValuePart<H = String> {
    Text(Bytes),
    Method,
    Path,
    Query,
    Authority,
    Scheme,
    OriginalPath,
    ClientAddress,
    Route,
    PathParameter(Box<str>),
    RequestHeader(H),
    RequestId,
    TraceParent,
    Subject,
    Claim(Box<str>),
    Status,
    ResponseHeader(H),
}

/// The prefixes of parts that have a name of their own, such as `claim.NAME`.
const CLAIM: &str = "claim";
const PARAMETER: &str = "parameter";
const HEADER: &str = "header";
const RESPONSE_HEADER: &str = "response_header";

impl<H> ValuePart<H> {
    /// The names of parts that consist of one word, as templates write them in braces.
    const WORDS: [(&'static str, Self); 12] = [
        ("client.address", ValuePart::ClientAddress),
        ("request.id", ValuePart::RequestId),
        ("method", ValuePart::Method),
        ("path", ValuePart::Path),
        ("original_path", ValuePart::OriginalPath),
        ("query", ValuePart::Query),
        ("authority", ValuePart::Authority),
        ("scheme", ValuePart::Scheme),
        ("route", ValuePart::Route),
        ("trace_parent", ValuePart::TraceParent),
        ("identity.subject", ValuePart::Subject),
        ("status", ValuePart::Status),
    ];

    /// The part with this name; `None` if there is none. `header` parses the name of a header.
    ///
    /// # Errors
    /// The error of `header`.
    pub fn parse<E>(word: &str, header: impl Fn(&str) -> Result<H, E>) -> Option<Result<Self, E>> {
        if let Some((_, part)) = Self::WORDS.into_iter().find(|(known, _)| *known == word) {
            return Some(Ok(part));
        }
        match word.split_once('.')? {
            (CLAIM, name) => Some(Ok(ValuePart::Claim(name.into()))),
            (PARAMETER, name) => Some(Ok(ValuePart::PathParameter(name.into()))),
            (HEADER, name) => Some(header(name).map(ValuePart::RequestHeader)),
            (RESPONSE_HEADER, name) => Some(header(name).map(ValuePart::ResponseHeader)),
            _ => None,
        }
    }

    /// All names of parts, for messages about problems.
    pub fn words() -> String {
        let of_requests: Vec<&str> =
            Self::WORDS.iter().filter(|(_, part)| !part.is_of_response()).map(|(word, _)| *word).collect();
        format!(
            "{}, {CLAIM}.NAME, {PARAMETER}.NAME, {HEADER}.NAME, and for responses status and {RESPONSE_HEADER}.NAME",
            of_requests.join(", ")
        )
    }

    /// Whether the part can only be taken from a response.
    pub fn is_of_response(&self) -> bool {
        matches!(self, ValuePart::Status | ValuePart::ResponseHeader(_))
    }

    /// Whether the part depends on the caller, who is known only after authentication.
    pub fn is_of_caller(&self) -> bool {
        matches!(self, ValuePart::Subject | ValuePart::Claim(_))
    }

    /// The same part, whose header name is converted by `header`.
    ///
    /// # Errors
    /// The error of `header`.
    pub fn with_headers<N, E>(self, header: impl Fn(H) -> Result<N, E>) -> Result<ValuePart<N>, E> {
        Ok(match self {
            ValuePart::Text(text) => ValuePart::Text(text),
            ValuePart::Method => ValuePart::Method,
            ValuePart::Path => ValuePart::Path,
            ValuePart::Query => ValuePart::Query,
            ValuePart::Authority => ValuePart::Authority,
            ValuePart::Scheme => ValuePart::Scheme,
            ValuePart::OriginalPath => ValuePart::OriginalPath,
            ValuePart::ClientAddress => ValuePart::ClientAddress,
            ValuePart::Route => ValuePart::Route,
            ValuePart::PathParameter(name) => ValuePart::PathParameter(name),
            ValuePart::RequestHeader(name) => ValuePart::RequestHeader(header(name)?),
            ValuePart::RequestId => ValuePart::RequestId,
            ValuePart::TraceParent => ValuePart::TraceParent,
            ValuePart::Subject => ValuePart::Subject,
            ValuePart::Claim(name) => ValuePart::Claim(name),
            ValuePart::Status => ValuePart::Status,
            ValuePart::ResponseHeader(name) => ValuePart::ResponseHeader(header(name)?),
        })
    }
}

impl<H: AsRef<str> + PartialEq> ValuePart<H> {
    /// The part as a template writes it: text unchanged, everything else in braces.
    pub fn to_template(&self) -> String {
        match self {
            ValuePart::Text(text) => String::from_utf8_lossy(text).into_owned(),
            ValuePart::Claim(name) => format!("{{{CLAIM}.{name}}}"),
            ValuePart::PathParameter(name) => format!("{{{PARAMETER}.{name}}}"),
            ValuePart::RequestHeader(name) => format!("{{{HEADER}.{}}}", name.as_ref()),
            ValuePart::ResponseHeader(name) => format!("{{{RESPONSE_HEADER}.{}}}", name.as_ref()),
            word => {
                let known = Self::WORDS.into_iter().find(|(_, part)| part == word);
                known.map_or_else(String::new, |(known, _)| format!("{{{known}}}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(word: &str) -> Option<Result<ValuePart, ()>> {
        ValuePart::parse(word, |name| if name.is_empty() { Err(()) } else { Ok(name.to_owned()) })
    }

    #[test]
    fn every_part_is_read_as_it_is_written() {
        let words = ValuePart::<String>::WORDS.map(|(word, _)| word.to_owned());
        let named = ["claim.role", "parameter.id", "header.x-a", "response_header.x-b"].map(str::to_owned);
        for word in words.into_iter().chain(named) {
            let part = parse(&word).and_then(Result::ok).unwrap_or_else(|| panic!("{word}"));
            assert_eq!(part.to_template(), format!("{{{word}}}"));
        }
        assert_eq!(ValuePart::<String>::Text("a{b".into()).to_template(), "a{b");
    }

    #[test]
    fn a_word_that_does_not_exist_and_a_bad_header_are_told_apart() {
        for word in ["", "claim", "nothing", "nothing.at", "Path"] {
            assert_eq!(parse(word), None, "{word}");
        }
        assert_eq!(parse("header."), Some(Err(())));
    }
}
