//! Sends records of finished exchanges to an HTTP collector: JSON lines, a JSON list, or lines of syslog.
//!
//! Best effort: what a collector does not take after a bounded number of tries is dropped and counted. What must not be lost does not
//! belong here.

mod record;

use std::time::Duration;

use record::{Field, Format};
use witgate_sdk::fetch::{self, OutboundRequest};
use witgate_sdk::{
    Exchange, HeaderName, Observe, Period, Plugin, Secret, SettingsProblem, log, metrics, observe, settings,
};

/// Headers that are never sent anywhere, even if the binding grants them.
const SECRET: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];

/// Where records go, and what is in them.
#[settings]
struct Settings {
    /// The upstream of the collector; the binding's `fetch` grant must list it.
    upstream: String,
    /// The path to send to.
    #[serde(default = "default_path")]
    #[schemars(regex(pattern = "^/"))]
    path: String,
    /// How records are written.
    #[serde(default)]
    format: Format,
    /// The fields of a record.
    #[serde(default = "record::all")]
    #[schemars(length(min = 1))]
    fields: Vec<Field>,
    /// Request headers that are sent, too; the binding's `headers` grant must list them. Credentials are refused.
    #[serde(default)]
    headers: Vec<HeaderName>,
    /// The value of `Authorization` for the collector.
    authorization: Option<Secret>,
    /// Fixed fields of each record, e.g. `service = "shop"`.
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    /// How often a message is sent again if the collector cannot be reached, or answers with 429 or 5xx.
    #[serde(default = "default_retries")]
    #[schemars(range(max = 5))]
    retries: u32,
    /// The longest message in bytes. More records are sent in several.
    #[serde(default = "default_max_body")]
    #[schemars(range(min = 16_384, max = 16_777_216))]
    max_body: u32,
    /// Time limit of one message. The wall time of the binding limits all tries of a batch together.
    #[serde(default = "default_timeout")]
    timeout: Period,
}

fn default_path() -> String {
    "/".to_owned()
}

fn default_retries() -> u32 {
    2
}

fn default_max_body() -> u32 {
    1 << 20
}

fn default_timeout() -> Period {
    Period::from_secs(5)
}

/// The plugin.
struct Ship(Settings);

impl Plugin for Ship {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let mut problems = Vec::new();
        if !settings.path.starts_with('/') {
            problems.push(SettingsProblem::new("/path", "a path begins with `/`"));
        }
        if settings.fields.is_empty() {
            problems.push(SettingsProblem::new("/fields", "name at least one field"));
        }
        for (index, name) in settings.headers.iter().enumerate() {
            if SECRET.contains(&&**name) {
                let message = format!("`{name}` holds credentials, which are never sent");
                problems.push(SettingsProblem::new(format!("/headers/{index}"), message));
            }
        }
        for name in settings.labels.keys() {
            if Field::ALL.iter().any(|field| field.name() == name) || name == "headers" || name.is_empty() {
                let pointer = format!("/labels/{}", name.replace('~', "~0").replace('/', "~1"));
                problems.push(SettingsProblem::new(pointer, "a label has a name that no field has"));
            }
        }
        if settings.retries > 5 {
            problems.push(SettingsProblem::new("/retries", "at most 5"));
        }
        if !(16_384..=16_777_216).contains(&settings.max_body) {
            problems.push(SettingsProblem::new("/max_body", "from 16384 to 16777216 bytes"));
        }
        if problems.is_empty() { Ok(Self(settings)) } else { Err(problems) }
    }
}

#[observe]
impl Observe for Ship {
    fn observe(&self, batch: &[Exchange]) {
        let format = self.0.format;
        let longest = usize::try_from(self.0.max_body).unwrap_or(usize::MAX);
        let (mut body, mut count) = (format.begin(), 0);
        for exchange in batch {
            let record = self.record(exchange);
            if record.len() + 4 > longest {
                drop_records(1, "a record is longer than `max_body`");
                continue;
            }
            if count > 0 && body.len() + record.len() + 4 > longest {
                self.deliver(format.finished(std::mem::replace(&mut body, format.begin())), count);
                count = 0;
            }
            format.append(&mut body, &record, count == 0);
            count += 1;
        }
        if count > 0 {
            self.deliver(format.finished(body), count);
        }
    }
}

impl Ship {
    fn record(&self, exchange: &Exchange) -> String {
        let mut members = serde_json::Map::new();
        for field in &self.0.fields {
            members.insert(field.name().to_owned(), field.value(exchange));
        }
        for (name, value) in &self.0.labels {
            members.insert(name.clone(), value.as_str().into());
        }
        let mut headers = serde_json::Map::new();
        for name in &self.0.headers {
            if let Some(value) = exchange.header(name) {
                headers.insert(name.to_string(), value.into());
            }
        }
        if !headers.is_empty() {
            members.insert("headers".to_owned(), headers.into());
        }
        self.0.format.record(exchange, members)
    }

    /// Sends a message, again if that may help.
    fn deliver(&self, body: String, records: u64) {
        let message = self.message(body);
        let mut why = String::new();
        for _ in 0..=self.0.retries {
            match message.send() {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    metrics::count("records_sent", records);
                    return;
                }
                Ok(answer) => {
                    why = format!("the collector answered with {}", answer.status);
                    if answer.status != 429 && answer.status < 500 {
                        break;
                    }
                }
                Err(error @ (fetch::Error::Denied | fetch::Error::Invalid(_))) => {
                    why = format!("the message cannot be sent: {error:?}");
                    break;
                }
                // The collector has taken the message; only its answer is too long.
                Err(fetch::Error::TooLarge) => {
                    metrics::count("records_sent", records);
                    return;
                }
                Err(error) => why = format!("the collector cannot be reached: {error:?}"),
            }
        }
        drop_records(records, &why);
    }

    fn message(&self, body: String) -> OutboundRequest {
        let message = fetch::post(&self.0.upstream, &self.0.path, body)
            .with_header("content-type", self.0.format.content_type())
            .with_timeout(Duration::max(self.0.timeout.duration(), Duration::from_millis(1)));
        match &self.0.authorization {
            Some(authorization) => message.with_header("authorization", authorization.reveal()),
            None => message,
        }
    }
}

/// Counts records that nobody gets, and says why.
fn drop_records(records: u64, why: &str) {
    metrics::count("records_dropped", records);
    log::warn(format_args!("{records} records were dropped: {why}"));
}

#[cfg(test)]
mod tests;
