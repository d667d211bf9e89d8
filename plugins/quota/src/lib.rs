//! Limits requests of each caller by the day or the month, as contracts and price lists count them.
//!
//! Counters are in the store: with `[state.NAME]` of the kind `file` they outlive a restart, with `redis` all gateways share them.

mod calendar;

use std::time::Duration;

use calendar::{Offset, Span};
use witgate_sdk::{
    HeaderName, Interest, Plugin, Problem, Request, RequestChanges, RequestOutcome, Response,
    SettingsProblem, Transformation, clock, crypto, encoding, log, settings, store, transformation,
};

/// How long a counter is kept after its window, so that clocks of gateways may differ.
const AFTERWARDS: Duration = Duration::from_secs(3600);

/// Which quotas there are.
#[settings]
struct Settings {
    /// The quotas. A request must have room in each of them, or it counts in none.
    #[schemars(length(min = 1, max = 8))]
    quotas: Vec<Quota>,
    /// The distance of the calendar from UTC, e.g. `+02:00`. Days and months begin at midnight there.
    #[serde(default)]
    offset: Offset,
    /// The space of the store; the binding's `store` grant must list it.
    #[serde(default = "default_store")]
    store: String,
    /// What is done while the store cannot be reached.
    #[serde(default)]
    on_unavailable: OnUnavailable,
}

/// One quota.
#[settings]
struct Quota {
    /// Its name, which callers see.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9-]+$"))]
    name: String,
    /// The most requests in a day or a month.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    limit: u64,
    /// A day or a month.
    per: Span,
    /// Who shares a counter. Callers of whom nothing is known count by their address.
    #[serde(default)]
    by: By,
}

/// Who shares a counter.
#[settings]
#[derive(Default)]
enum By {
    /// The subject of the caller.
    #[default]
    Subject,
    /// The address of the client.
    Client,
    /// All callers with the same value of a claim, e.g. a tenant.
    Claim(String),
    /// All callers with the same value of a header. Only for headers that nobody can choose freely.
    Header(HeaderName),
    /// All callers.
    All,
}

/// What is done while the store cannot be reached.
#[settings]
#[derive(Clone, Copy, Default, PartialEq)]
enum OnUnavailable {
    /// Requests are answered with 503.
    #[default]
    Deny,
    /// Requests go on and are not counted.
    Allow,
}

fn default_store() -> String {
    "quota".to_owned()
}

/// The plugin.
struct Quotas(Settings);

impl Plugin for Quotas {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let mut problems = Vec::new();
        if settings.quotas.is_empty() || settings.quotas.len() > 8 {
            problems.push(SettingsProblem::new("/quotas", "from one to eight quotas"));
        }
        for (index, quota) in settings.quotas.iter().enumerate() {
            let mut problem = |key: &str, message: &str| {
                problems.push(SettingsProblem::new(format!("/quotas/{index}/{key}"), message));
            };
            let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if !(1..=64).contains(&quota.name.len()) || !quota.name.bytes().all(is_letter) {
                problem("name", "a name has up to 64 lower-case letters, digits and hyphens");
            }
            if settings.quotas[..index].iter().any(|other| other.name == quota.name) {
                problem("name", "another quota has this name, so they would share their counters");
            }
            if !(1..=1_000_000_000_000).contains(&quota.limit) {
                problem(
                    "limit",
                    "a limit from 1 to 1000000000000; to refuse all requests, use the plugin `maintenance`",
                );
            }
        }
        if problems.is_empty() { Ok(Self(settings)) } else { Err(problems) }
    }
}

#[transformation]
impl Transformation for Quotas {
    fn interest(&self) -> Interest {
        Interest::none().request_headers(self.0.quotas.iter().filter_map(|quota| match &quota.by {
            By::Header(name) => Some(&**name),
            _ => None,
        }))
    }

    fn on_request(&self, request: &Request) -> RequestOutcome {
        let now = clock::unix_seconds();
        let mut counted: Vec<String> = Vec::new();
        for quota in &self.0.quotas {
            let window = quota.per.window(now, self.0.offset);
            let key = key(quota, request, &window.name);
            let time = Duration::from_secs(window.ends - now) + AFTERWARDS;
            match store::space(&self.0.store).increment(&key, 1, Some(time)) {
                Ok(sum) if u64::try_from(sum).is_ok_and(|sum| sum <= quota.limit) => counted.push(key),
                Ok(_) => {
                    counted.push(key);
                    self.take_back(&counted);
                    return refused(quota, window.ends - now).into();
                }
                Err(error) => {
                    log::warn(format_args!("the quota `{}` cannot be counted: {error}", quota.name));
                    if self.0.on_unavailable == OnUnavailable::Deny {
                        self.take_back(&counted);
                        let problem =
                            Problem::new(503, "Service Unavailable").detail("the quota cannot be counted");
                        return Response::from(problem).with_header("retry-after", "5").into();
                    }
                }
            }
        }
        RequestChanges::none().into()
    }
}

impl Quotas {
    /// A request that is refused counts in no quota.
    fn take_back(&self, keys: &[String]) {
        for key in keys {
            if let Err(error) = store::space(&self.0.store).increment(key, -1, None) {
                log::warn(format_args!("a refused request stays counted: {error}"));
            }
        }
    }
}

/// The counter of a request. Who is counted is written as a digest, so that the store holds no names, and keys are short.
fn key(quota: &Quota, request: &Request, window: &str) -> String {
    let of_client = || format!("client {}", request.client_address());
    let who = match &quota.by {
        By::All => "all".to_owned(),
        By::Client => of_client(),
        By::Subject => {
            request.identity().map_or_else(of_client, |caller| format!("subject {}", caller.subject))
        }
        By::Claim(name) => {
            let caller = request.identity();
            let claim = caller.as_ref().and_then(|caller| caller.claim(name));
            claim.map_or_else(of_client, |value| format!("claim {value}"))
        }
        By::Header(name) => {
            request.values(name).only().map_or_else(of_client, |value| format!("header {value}"))
        }
    };
    let digest = crypto::digest(crypto::Hash::Sha256, who);
    format!("{} {window} {}", quota.name, encoding::hex(&digest[..16]))
}

fn refused(quota: &Quota, seconds: u64) -> Response {
    let name = &quota.name;
    let problem = Problem::fault(429, "rate-limited", "Too many requests")
        .detail(&format!("the quota `{name}` is used up"))
        .with("quota", name)
        .with("limit", quota.limit);
    Response::from(problem)
        .with_header("retry-after", seconds.to_string())
        .with_header("ratelimit-policy", format!("\"{name}\";q={}", quota.limit))
        .with_header("ratelimit", format!("\"{name}\";r=0;t={seconds}"))
}

#[cfg(test)]
mod tests;
