//! Limits rates by client, caller, header, claim or route, with any number of policies.
//!
//! The plugin only names the buckets; the gateway counts, so a limit holds over all cores and instances.

mod key;

use key::{By, KeyParts, Parts};
use witgate_sdk::{
    Bucket, Buckets, Function, Interest, Period, RateLimiting, Request, SettingsProblem, rate_limiting,
    settings,
};

/// The policies: a request must satisfy all of them that apply to it.
#[settings(check = problems)]
struct Settings {
    policies: Vec<Policy>,
    /// Number of leading bits of an IPv6 address that identify a client. A household or a server usually has a
    /// whole /64.
    #[serde(default = "default_ipv6_prefix")]
    #[schemars(range(min = 16, max = 128))]
    ipv6_prefix: u8,
}

/// One limit.
#[settings]
struct Policy {
    /// Its name, as shown in `RateLimit-Policy`: letters, digits and hyphens, at most 64 characters.
    name: String,
    /// The parts of the key that distinguishes buckets: one part, or a list of them. With an empty list all
    /// requests share one bucket.
    by: Parts,
    /// Number of requests in each window.
    #[schemars(range(min = 1))]
    limit: u32,
    /// Length of the window.
    #[serde(default = "default_window")]
    window: Period,
    /// Number of requests that may come at once; the default is the limit.
    #[schemars(range(min = 1))]
    burst: Option<u32>,
    /// What one request costs.
    #[serde(default = "default_cost")]
    #[schemars(range(min = 1))]
    cost: u32,
    /// What happens to a request that lacks such a header, claim or subject.
    #[serde(default)]
    missing: Missing,
}

/// What happens to a request that lacks a part of the key.
#[settings]
#[derive(Clone, Copy, Default, PartialEq)]
enum Missing {
    /// All such requests share one bucket, so that leaving a header out does not evade the limit.
    #[default]
    Share,
    /// The policy does not apply.
    Skip,
}

fn default_ipv6_prefix() -> u8 {
    64
}

fn default_window() -> Period {
    Period::from_secs(60)
}

fn default_cost() -> u32 {
    1
}

fn problems(settings: &Settings) -> Vec<SettingsProblem> {
    let mut problems = Vec::new();
    if !(16..=128).contains(&settings.ipv6_prefix) {
        problems.push(SettingsProblem::new("/ipv6_prefix", "an IPv6 prefix has 16 to 128 bits"));
    }
    if settings.policies.is_empty() {
        problems
            .push(SettingsProblem::new("/policies", "there is no policy: add one, or remove the binding"));
    }
    for (index, policy) in settings.policies.iter().enumerate() {
        let mut problem = |field: &str, message: String| {
            problems.push(SettingsProblem::new(format!("/policies/{index}/{field}"), message));
        };
        let is_name = |name: &str| {
            (1..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        if !is_name(&policy.name) {
            problem(
                "name",
                "a policy's name has 1 to 64 letters, digits, hyphens, underscores or dots".to_owned(),
            );
        }
        if settings.policies[..index].iter().any(|earlier| earlier.name == policy.name) {
            problem(
                "name",
                format!("there is a policy `{}` already, and they would share buckets", policy.name),
            );
        }
        if policy.window.duration().is_zero() {
            problem("window", "a window lasts at least 1ms".to_owned());
        }
        let largest = policy.burst.unwrap_or(policy.limit);
        let numbers = [("limit", Some(policy.limit)), ("burst", policy.burst), ("cost", Some(policy.cost))];
        for (field, _) in numbers.iter().filter(|(_, value)| *value == Some(0)) {
            problem(field, format!("a {field} is at least 1"));
        }
        if policy.cost > largest {
            problem("cost", format!("a request that costs {} never fits a burst of {largest}", policy.cost));
        }
    }
    problems
}

#[rate_limiting]
impl RateLimiting for Settings {
    fn interest(&self) -> Interest {
        let parts = || self.policies.iter().flat_map(|policy| policy.by.iter());
        Interest::none()
            .request_headers(parts().filter_map(By::header))
            .pure(Function::Draw, parts().map(By::input))
    }

    fn draw(&self, request: &Request) -> Buckets {
        let parts = KeyParts::new(request, self.ipv6_prefix);
        Buckets(self.policies.iter().filter_map(|policy| policy.bucket(&parts)).collect())
    }
}

impl Policy {
    /// The bucket; `None` if the policy does not apply.
    fn bucket(&self, parts: &KeyParts) -> Option<Bucket> {
        let key = parts.key(&self.by, self.missing)?;
        let bucket =
            Bucket::new(self.limit, self.window.duration(), key).named(&*self.name).with_cost(self.cost);
        Some(match self.burst {
            Some(burst) => bucket.with_burst(burst),
            None => bucket,
        })
    }
}

#[cfg(test)]
mod tests;
