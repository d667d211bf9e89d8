//! Why a token is refused, and the response to its bearer (RFC 6750 section 3).

use witgate_sdk::{Decision, Response, log};

/// Why there is no identity.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// The request has no bearer token.
    NotMine,
    /// The request has two tokens.
    Ambiguous,
    /// The token is invalid; the text gives the reason and never quotes the token.
    Invalid(&'static str),
    /// The token is valid but lacks a scope; the required scopes.
    Scope(String),
    /// There are no keys to check the token with, because none could be fetched.
    Unavailable,
}

impl From<Refusal> for Decision {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotMine => Self::not_mine("Bearer"),
            Refusal::Ambiguous => Response::problem(400, "Bad Request")
                .with_header("www-authenticate", "Bearer error=\"invalid_request\"")
                .into(),
            Refusal::Invalid(why) => {
                log::debug(why);
                let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{why}\"");
                Response::unauthorized(&challenge).into()
            }
            Refusal::Scope(scopes) => Response::problem(403, "Forbidden")
                .with_header(
                    "www-authenticate",
                    format!("Bearer error=\"insufficient_scope\", scope=\"{scopes}\""),
                )
                .into(),
            Refusal::Unavailable => {
                Response::problem(503, "Service Unavailable").with_header("retry-after", "5").into()
            }
        }
    }
}
