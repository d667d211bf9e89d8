//! Authenticates users by name and password (HTTP Basic, RFC 7617), from a file of `htpasswd` that the operator grants.
//!
//! The file is read when the plugin is configured, and again when it changes; a file with a mistake leaves the last good one in
//! use. The gateway verifies passwords on threads of its own.

mod users;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use users::Users;
use witgate_sdk::{
    Acceptance, Authentication, Decision, Identity, Input, Interest, Period, Plugin, Request, Response,
    SettingsProblem, authentication, data, log, password, settings,
};

/// Which file, and what users are told.
#[settings]
struct Settings {
    /// The file under `[data]`, in the format of `htpasswd`: lines of `name:hash`.
    #[serde(default = "default_file")]
    file: String,
    /// What the browser shows when it asks for a password. Printable ASCII without quotes and backslashes.
    #[serde(default = "default_realm")]
    #[schemars(regex(pattern = "^[ !#-\\[\\]-~]*$"))]
    realm: String,
    /// How long the gateway may remember that a name and password are valid. A changed file is heeded at once.
    #[serde(default = "default_cache_for")]
    cache_for: Period,
}

fn default_file() -> String {
    "users".to_owned()
}

fn default_realm() -> String {
    "restricted".to_owned()
}

fn default_cache_for() -> Period {
    Period::from_secs(60)
}

struct BasicAuth {
    challenge: String,
    cache_for: Duration,
    users: Users,
}

impl Plugin for BasicAuth {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let text = data::file(&settings.file)
            .text()
            .map_err(|error| vec![SettingsProblem::new("/file", error.to_string())])?;
        Ok(Self {
            challenge: format!("Basic realm=\"{}\", charset=\"UTF-8\"", settings.realm),
            cache_for: settings.cache_for.duration(),
            users: Users::read(&text).map_err(|problem| vec![SettingsProblem::new("/file", problem)])?,
        })
    }
}

#[authentication]
impl Authentication for BasicAuth {
    fn interest(&self) -> Interest {
        Interest::none().request_headers(["authorization"]).authenticates_by([Input::header("authorization")])
    }

    fn authenticate(&self, request: &Request) -> Decision {
        let mut values = request.values("authorization");
        let Some(value) = values.next() else { return self.not_mine() };
        let Some(token) = basic(value) else { return self.not_mine() };
        // Of two credentials, another program might use the other one.
        let credentials = if values.next().is_none() { decoded(token) } else { None };
        let Some((name, password)) = credentials else { return self.refused() };
        let (hash, known) = self.users.hash(&name);
        match password::verify(password, hash) {
            Ok(true) if known => Acceptance::from(Identity::new(name)).cacheable_for(self.cache_for).into(),
            Ok(_) => self.refused(),
            Err(password::Error::Busy | password::Error::Unavailable) => {
                Response::problem(503, "Service Unavailable").with_header("retry-after", "1").into()
            }
            Err(error @ (password::Error::UnknownForm | password::Error::TooCostly)) => {
                log::warn(format!("the hash of a user cannot be verified: {error:?}"));
                self.refused()
            }
        }
    }
}

impl BasicAuth {
    fn not_mine(&self) -> Decision {
        Decision::not_mine(&self.challenge)
    }

    fn refused(&self) -> Decision {
        Decision::unauthorized(&self.challenge)
    }
}

/// The token of Basic credentials; `None` if they are of another scheme. Schemes have no case (RFC 9110 section 11.1).
fn basic(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    scheme.eq_ignore_ascii_case(b"basic ").then(|| token.trim_ascii())
}

/// Name and password of a token; `None` if it is malformed. A name contains no colon (RFC 7617 section 2).
fn decoded(token: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut name = STANDARD.decode(token).ok()?;
    let colon = name.iter().position(|byte| *byte == b':')?;
    let password = name.split_off(colon + 1);
    name.truncate(colon);
    let name = String::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    Some((name, password))
}

#[cfg(test)]
mod tests;
