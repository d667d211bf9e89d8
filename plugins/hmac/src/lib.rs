//! Authenticates signed webhooks by their bodies: GitHub, Stripe, and generic ones.
//!
//! For services that send requests and share a secret with the receiver.

mod encoding;
mod stripe;

use encoding::Encoding;
use witgate_sdk::crypto::{self, Hash};
use witgate_sdk::{
    AuthenticationByBody, Body, Decision, HeaderName, Interest, Period, Plugin, Reading, Request,
    SettingsProblem, authentication_by_body, settings,
};

/// The challenge for a request without a signature (RFC 9110 section 11.6.1).
const CHALLENGE: &str = "Signature";

/// Whose signatures are checked, and how.
#[settings]
struct Settings {
    /// How requests are signed.
    format: Format,
    /// The secrets, one of which must have made the signature.
    #[schemars(length(min = 1))]
    secrets: Vec<String>,
    /// The subject of the caller.
    #[serde(default = "default_subject")]
    subject: String,
    /// How far the time in a signature of Stripe may lie in the past or the future.
    #[serde(default = "default_tolerance")]
    tolerance: Period,
    /// The longest body in bytes. The binding's `budget.body_limit` limits it, too.
    #[serde(default = "default_max_body")]
    max_body: u32,
    /// The header with a generic signature. The default is `x-signature`.
    header: Option<HeaderName>,
    /// What stands before a generic signature, e.g. `sha256=`.
    #[serde(default)]
    prefix: String,
    /// The hash function of a generic signature.
    #[serde(default)]
    hash: HashName,
    /// How a generic signature is written.
    #[serde(default)]
    encoding: Encoding,
}

/// How requests are signed.
#[settings]
#[derive(Clone, Copy, PartialEq)]
enum Format {
    /// `X-Hub-Signature-256`, as GitHub does.
    Github,
    /// `Stripe-Signature`, with the time of the signature.
    Stripe,
    /// An HMAC of the body in a header.
    Generic,
}

#[settings]
#[derive(Clone, Copy, Default)]
enum HashName {
    #[default]
    Sha256,
    Sha384,
    Sha512,
}

fn default_subject() -> String {
    "webhook".to_owned()
}

fn default_tolerance() -> Period {
    Period::from_secs(300)
}

fn default_max_body() -> u32 {
    1 << 20
}

/// The plugin: where the signature is and how it is checked.
struct Signed {
    format: Format,
    secrets: Vec<String>,
    subject: String,
    tolerance: Period,
    max_body: u32,
    header: String,
    prefix: String,
    hash: Hash,
    encoding: Encoding,
}

impl Plugin for Signed {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let empty = settings.secrets.iter().position(|secret| secret.trim().is_empty());
        if settings.secrets.is_empty() || empty.is_some() {
            let pointer = empty.map_or("/secrets".to_owned(), |index| format!("/secrets/{index}"));
            return Err(vec![SettingsProblem::new(
                &pointer,
                "a secret is needed; anybody could sign with an empty one",
            )]);
        }
        if settings.subject.is_empty() {
            return Err(vec![SettingsProblem::new("/subject", "the subject of a caller is not empty")]);
        }
        let hash = match settings.hash {
            HashName::Sha256 => Hash::Sha256,
            HashName::Sha384 => Hash::Sha384,
            HashName::Sha512 => Hash::Sha512,
        };
        let (header, prefix, hash, encoding) = match settings.format {
            Format::Github => {
                ("x-hub-signature-256".to_owned(), "sha256=".to_owned(), Hash::Sha256, Encoding::Hex)
            }
            Format::Stripe => ("stripe-signature".to_owned(), String::new(), Hash::Sha256, Encoding::Hex),
            Format::Generic => {
                let header = settings.header.map_or("x-signature".to_owned(), |name| name.to_string());
                (header, settings.prefix, hash, settings.encoding)
            }
        };
        let Settings { format, secrets, subject, tolerance, max_body, .. } = settings;
        Ok(Self { format, secrets, subject, tolerance, max_body, header, prefix, hash, encoding })
    }
}

#[authentication_by_body]
impl AuthenticationByBody for Signed {
    fn interest(&self) -> Interest {
        Interest::none().request_headers([&self.header])
    }

    fn reads(&self) -> Reading {
        Reading::whole(self.max_body)
    }

    fn authenticate_by_body(&self, body: &Body, request: &Request) -> Decision {
        let mut values = request.values(&self.header);
        let signed = match (values.next(), values.next()) {
            (None, _) => return Decision::not_mine(CHALLENGE),
            (Some(value), None) => {
                std::str::from_utf8(value).is_ok_and(|value| self.is_signed(value, &body.bytes))
            }
            // Another program might use the other one.
            (Some(_), Some(_)) => false,
        };
        if signed { Decision::accept(&self.subject) } else { Decision::unauthorized(CHALLENGE) }
    }
}

impl Signed {
    /// Whether the value of the header is a signature of the body.
    fn is_signed(&self, value: &str, body: &[u8]) -> bool {
        if self.format == Format::Stripe {
            return stripe::is_signed(value, body, &self.secrets, self.tolerance.duration());
        }
        let Some(signature) = value.strip_prefix(&self.prefix) else { return false };
        // All secrets are tried, so that the time does not tell which one fits.
        let fitting = self.secrets.iter().filter(|secret| {
            let tag = self.encoding.encode(&crypto::hmac(self.hash, secret, body));
            crypto::equal(tag, self.encoding.unified(signature).as_bytes())
        });
        fitting.count() > 0
    }
}

#[cfg(test)]
mod tests;
