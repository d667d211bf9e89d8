//! Authenticates bearer tokens: JSON Web Tokens (RFC 7519), with keys from the settings or from a JWKS.
//!
//! The algorithm is that of the key, never that of the token: each key is for one algorithm, and a token that
//! names another one is refused. So neither `none` nor an RSA public key used as HMAC secret is accepted.

mod algorithm;
mod claims;
mod jwk;
mod jwks;
mod keys;
mod refusal;
mod set;
mod shared;
mod token;

use std::rc::Rc;
use std::time::Duration;

use claims::{Claims, Rules};
use jwks::Jwks;
use keys::KeySet;
use refusal::Refusal;
use token::{LastHeading, Token};
use witgate_sdk::{
    Acceptance, Authentication, Decision, HeaderName, Input, Interest, Period, Plugin, Request,
    SettingsProblem, authentication, clock, settings,
};

/// Which tokens are accepted, and which claims become part of the identity.
#[settings]
struct Settings {
    /// Keys, each for one algorithm.
    #[serde(default)]
    keys: Vec<keys::Settings>,
    /// Where further keys are fetched from.
    jwks: Option<jwks::Settings>,
    /// The header that carries the token: after `Bearer ` in `authorization`, as the whole value of any other
    /// header.
    #[serde(default = "default_header")]
    header: HeaderName,
    /// The issuer (`iss`) that tokens must name. If absent, every issuer is accepted, which is only safe if nobody
    /// else signs with these keys.
    issuer: Option<String>,
    /// The audiences (`aud`) of which a token must name one; empty: any.
    #[serde(default)]
    audience: Vec<String>,
    /// Scopes that a token must have in `scope` or `scp`; all of them are required.
    #[serde(default)]
    scopes: Vec<String>,
    /// The claim that becomes the subject of the identity.
    #[serde(default = "default_subject")]
    subject: String,
    /// Claims that become claims of the identity, e.g. `email` or `realm_access.roles`.
    #[serde(default)]
    claims: Vec<String>,
    /// Tolerated difference between the clocks of issuer and gateway.
    #[serde(default = "default_leeway")]
    leeway: Period,
    /// Whether a token without `exp` is accepted, without end.
    #[serde(default)]
    allow_unlimited: bool,
    /// How long, at most, the gateway may remember that a token is valid; never longer than its `exp`.
    #[serde(default = "default_cache_for")]
    cache_for: Period,
}

fn default_header() -> HeaderName {
    HeaderName::try_from("authorization".to_owned()).expect("the name is a token")
}

fn default_subject() -> String {
    "sub".to_owned()
}

fn default_leeway() -> Period {
    Period::from_secs(30)
}

fn default_cache_for() -> Period {
    Period::from_secs(60)
}

/// The plugin: the settings with parsed keys.
struct Jwt {
    header: HeaderName,
    keys: Rc<KeySet>,
    jwks: Option<Jwks>,
    rules: Rules,
    cache_for: Duration,
    last_heading: LastHeading,
}

impl Plugin for Jwt {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let mut problems = Vec::new();
        if settings.keys.is_empty() && settings.jwks.is_none() {
            problems.push(SettingsProblem::new("", "there are no keys: set `keys`, `jwks`, or both"));
        }
        for (index, scope) in settings.scopes.iter().enumerate().filter(|(_, scope)| !is_scope(scope)) {
            problems.push(SettingsProblem::new(
                format!("/scopes/{index}"),
                format!(
                    "`{}` is not one scope: scopes have no blanks, quotes, backslashes or control characters",
                    scope.escape_debug()
                ),
            ));
        }
        let keys = keys::from_settings(settings.keys, &mut problems);
        let jwks = settings.jwks.and_then(|jwks| Jwks::new(jwks, &mut problems));
        if !problems.is_empty() {
            return Err(problems);
        }
        let rules = Rules {
            issuer: settings.issuer,
            audience: settings.audience,
            scopes: settings.scopes,
            subject: settings.subject,
            claims: settings.claims,
            leeway: settings.leeway.duration().as_secs_f64(),
            allow_unlimited: settings.allow_unlimited,
        };
        let cache_for = settings.cache_for.duration();
        Ok(Self {
            header: settings.header,
            keys: Rc::new(keys),
            jwks,
            rules,
            cache_for,
            last_heading: LastHeading::default(),
        })
    }
}

#[authentication]
impl Authentication for Jwt {
    fn interest(&self) -> Interest {
        Interest::none().request_headers([&self.header]).authenticates_by([Input::header(&*self.header)])
    }

    fn authenticate(&self, request: &Request) -> Decision {
        self.decide(request).into()
    }
}

impl Jwt {
    /// Who calls, if the token is good.
    fn decide(&self, request: &Request) -> Result<Acceptance, Refusal> {
        let token = Token::parse(self.presented(request)?, &self.last_heading)?;
        self.verify(&token)?;
        let now = clock::now();
        let payload = token.payload()?;
        let accepted = self.rules.check(Claims::read(&payload, &self.rules)?, now.as_secs_f64())?;
        // A token that does not expire may be remembered for the whole of `cache_for`.
        let rest = accepted.expires.map_or(self.cache_for, |expires| {
            Duration::try_from_secs_f64(expires).unwrap_or(Duration::MAX).saturating_sub(now)
        });
        Ok(Acceptance::from(accepted.identity).cacheable_for(rest.min(self.cache_for)))
    }

    /// The token of a request.
    fn presented<'a>(&self, request: &'a Request) -> Result<&'a [u8], Refusal> {
        let mut values = request.values(&self.header);
        let value = values.next().ok_or(Refusal::NotMine)?.trim_ascii();
        // Two values are refused, because another program might use the other one (RFC 6750 section 3.1,
        // `invalid_request`).
        if values.next().is_some() {
            return Err(Refusal::Ambiguous);
        }
        match value.split_first_chunk() {
            Some((scheme, token)) if is_bearer(scheme) => Ok(token.trim_ascii_start()),
            _ if &*self.header != "authorization" && !value.contains(&b' ') => Ok(value),
            _ => Err(Refusal::NotMine),
        }
    }

    /// Checks with the keys of the settings first, because they need no fetch.
    fn verify(&self, token: &Token) -> Result<(), Refusal> {
        let unknown = Err(Refusal::Invalid("no key fits the token"));
        match (self.keys.verify(token), &self.jwks) {
            (Some(Ok(())), _) => Ok(()),
            (_, Some(jwks)) => jwks.keys(|keys| keys.knows(token))?.verify(token).unwrap_or(unknown),
            (outcome, None) => outcome.unwrap_or(unknown),
        }
    }
}

/// Whether a text is one scope (RFC 6749 section 3.3). Any other text could not be part of the challenge.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// Whether the scheme is `Bearer`, ignoring case (RFC 9110 section 11.1).
fn is_bearer(scheme: &[u8; 7]) -> bool {
    scheme.eq_ignore_ascii_case(b"bearer ")
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests;
