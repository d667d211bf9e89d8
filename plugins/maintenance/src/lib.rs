//! Answers requests while a service is under maintenance.
//!
//! For planned work on an upstream. Clients and paths that are excepted are let through, so that operators can test.

mod network;

use network::Network;
use witgate_sdk::{Gate, Input, Period, Plugin, Request, Response, SettingsProblem, gate, settings};

/// What is answered, and to whom.
#[settings]
struct Settings {
    /// The status of the response.
    #[serde(default = "default_status")]
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// The title of the problem document that is sent.
    #[serde(default = "default_title")]
    title: String,
    /// What `Retry-After` says, in whole seconds. Without it, none is sent.
    retry_after: Option<Period>,
    /// Addresses and networks of clients that are let through.
    #[serde(default)]
    allow: Vec<String>,
    /// Paths that are let through, with everything below them.
    #[serde(default)]
    except: Vec<String>,
}

fn default_status() -> u16 {
    503
}

fn default_title() -> String {
    "Under maintenance".to_owned()
}

/// The plugin: the settings with parsed networks and the finished response.
struct Maintenance {
    response: Response,
    allow: Vec<Network>,
    except: Vec<String>,
}

impl Plugin for Maintenance {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let mut problems = Vec::new();
        if !(400..=599).contains(&settings.status) {
            problems.push(SettingsProblem::new("/status", "a status from 400 to 599"));
        }
        let mut allow = Vec::new();
        for (index, text) in settings.allow.iter().enumerate() {
            match Network::parse(text) {
                Some(network) => allow.push(network),
                None => problems.push(SettingsProblem::new(
                    format!("/allow/{index}"),
                    "write an address, or a network such as 192.0.2.0/24",
                )),
            }
        }
        for (index, path) in settings.except.iter().enumerate() {
            if !path.starts_with('/') {
                let pointer = format!("/except/{index}");
                problems.push(SettingsProblem::new(pointer, "a path begins with `/`"));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut response = Response::problem(settings.status, &settings.title);
        if let Some(period) = settings.retry_after {
            response = response.with_header("retry-after", period.duration().as_secs().to_string());
        }
        Ok(Self { response, allow, except: settings.except })
    }
}

#[gate]
impl Gate for Maintenance {
    fn admits_by(&self) -> Option<Vec<Input>> {
        let client = (!self.allow.is_empty()).then_some(Input::ClientAddress);
        let path = (!self.except.is_empty()).then_some(Input::Path);
        Some(client.into_iter().chain(path).collect())
    }

    fn admit(&self, request: &Request) -> Option<Response> {
        let excepted =
            !self.except.is_empty() && self.except.iter().any(|path| is_below(request.path(), path));
        let allowed = || !self.allow.is_empty() && self.allows(&request.client_address());
        (!excepted && !allowed()).then(|| self.response.clone())
    }
}

impl Maintenance {
    fn allows(&self, client: &str) -> bool {
        let Ok(client) = client.parse() else { return false };
        self.allow.iter().any(|network| network.contains(client))
    }
}

/// Whether a path is this one or below it.
fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
