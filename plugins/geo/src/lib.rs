//! Refuses requests by the country of the client, and tells the country to the upstream.
//!
//! The table is a file that the operator grants: a database of MaxMind's format (`.mmdb`), or lines of networks and countries. It is
//! read when the plugin is configured and whenever it changes; a damaged file leaves the last good one in use.

mod mmdb;
mod ranges;

use std::net::IpAddr;

use mmdb::Mmdb;
use ranges::Ranges;
use witgate_sdk::{
    Function, Gate, HeaderName, Input, Interest, Network, Plugin, Problem, Request, RequestChanges,
    RequestOutcome, Response, SettingsProblem, Transformation, data, log, settings,
};

/// Who is let in, and what the upstream is told.
#[settings]
struct Settings {
    /// The file under `[data]`; the binding's `data` grant must list it.
    #[serde(default = "default_table")]
    table: String,
    /// Countries whose clients are let in (ISO 3166-1, two letters); all others are refused.
    allow: Option<Vec<String>>,
    /// Countries whose clients are refused.
    #[serde(default)]
    deny: Vec<String>,
    /// What is done with clients whose country the table does not say.
    #[serde(default)]
    unknown: Unknown,
    /// Networks that are let in, whatever their country.
    #[serde(default)]
    except: Vec<Network>,
    /// The header that tells the country to the upstream. What the client sends under this name never reaches it.
    header: Option<HeaderName>,
    /// The status of a refusal.
    #[serde(default = "default_status")]
    #[schemars(range(min = 400, max = 499))]
    status: u16,
}

/// What is done with clients of no known country, such as those in private networks.
#[settings]
#[derive(Clone, Copy, Default, PartialEq)]
enum Unknown {
    /// They are let in.
    #[default]
    Allow,
    /// They are refused.
    Deny,
}

fn default_table() -> String {
    "countries".to_owned()
}

fn default_status() -> u16 {
    403
}

/// A country by its two letters.
type Country = [u8; 2];

/// Where the country of an address is looked up.
enum Table {
    Mmdb(Mmdb),
    Ranges(Ranges),
}

/// The plugin.
struct Geo {
    table: Table,
    allow: Option<Vec<Country>>,
    deny: Vec<Country>,
    unknown: Unknown,
    except: Vec<Network>,
    header: Option<HeaderName>,
    refusal: Response,
}

impl Plugin for Geo {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let mut problems = Vec::new();
        let mut countries = |key: &str, list: &[String]| -> Vec<Country> {
            let read = |(index, text): (usize, &String)| {
                let country = country(text);
                if country.is_none() {
                    let message = format!("`{text}` is not a country: write two letters, e.g. `DE`");
                    problems.push(SettingsProblem::new(format!("/{key}/{index}"), message));
                }
                country
            };
            list.iter().enumerate().filter_map(read).collect()
        };
        let allow = settings.allow.as_deref().map(|list| countries("allow", list));
        let deny = countries("deny", &settings.deny);
        if let Some(both) = allow.iter().flatten().find(|country| deny.contains(country)) {
            let message = format!("`{}` is also in `allow`", String::from_utf8_lossy(both));
            problems.push(SettingsProblem::new("/deny", message));
        }
        if !(400..=499).contains(&settings.status) {
            problems.push(SettingsProblem::new("/status", "a status from 400 to 499"));
        }
        let table = match table(&settings.table) {
            Ok(table) if problems.is_empty() => table,
            Ok(_) => return Err(problems),
            Err(why) => {
                problems.push(SettingsProblem::new("/table", why));
                return Err(problems);
            }
        };
        let status = if (400..=499).contains(&settings.status) { settings.status } else { 403 };
        let refusal = Problem::fault(status, "forbidden", "The caller may not do this");
        let refusal = refusal.detail("this service is not offered where the request comes from").into();
        let Settings { unknown, except, header, .. } = settings;
        Ok(Self { table, allow, deny, unknown, except, header, refusal })
    }
}

impl Gate for Geo {
    fn admits_by(&self) -> Option<Vec<Input>> {
        Some(if self.refuses() { vec![Input::ClientAddress] } else { Vec::new() })
    }

    fn admit(&self, request: &Request) -> Option<Response> {
        if !self.refuses() {
            return None;
        }
        // An address that is none is of no country.
        let address = request.client_address().parse::<IpAddr>().ok();
        if address.is_some_and(|address| self.except.iter().any(|network| network.contains(address))) {
            return None;
        }
        let admitted = match address.and_then(|address| self.country(address)) {
            Some(country) => {
                self.allow.as_ref().is_none_or(|allow| allow.contains(&country))
                    && !self.deny.contains(&country)
            }
            None => self.unknown == Unknown::Allow,
        };
        (!admitted).then(|| self.refusal.clone())
    }
}

impl Transformation for Geo {
    fn interest(&self) -> Interest {
        let client = self.header.is_some().then_some(Input::ClientAddress);
        Interest::none().pure(Function::OnRequest, client)
    }

    fn on_request(&self, request: &Request) -> RequestOutcome {
        let Some(header) = &self.header else { return RequestChanges::none().into() };
        let address = request.client_address().parse::<IpAddr>().ok();
        match address.and_then(|address| self.country(address)) {
            Some(country) => RequestChanges::none().set(&**header, country.to_vec()).into(),
            None => RequestChanges::none().remove(&**header).into(),
        }
    }
}

witgate_sdk::export!(Geo: Gate, Transformation);

impl Geo {
    /// Whether any client may be refused.
    fn refuses(&self) -> bool {
        self.allow.is_some() || !self.deny.is_empty() || self.unknown == Unknown::Deny
    }

    fn country(&self, address: IpAddr) -> Option<Country> {
        match &self.table {
            Table::Ranges(ranges) => ranges.country(address),
            Table::Mmdb(database) => database.country(address).unwrap_or_else(|why| {
                log::warn(format_args!("the table is damaged: {why}"));
                None
            }),
        }
    }
}

/// Two letters in upper case.
fn country(text: &str) -> Option<Country> {
    let letters: Country = text.as_bytes().try_into().ok()?;
    letters.iter().all(u8::is_ascii_alphabetic).then(|| letters.map(|letter| letter.to_ascii_uppercase()))
}

/// Reads the table; its contents say which format it has.
fn table(name: &str) -> Result<Table, String> {
    let file = data::file(name);
    if let Some(database) = Mmdb::open(name)? {
        return Ok(Table::Mmdb(database));
    }
    // A database that was cut off has lost its end, by which it is known.
    let text = file.text().map_err(|error| {
        format!("it is neither a database of MaxMind's format nor lines of networks and countries: {error}")
    })?;
    Ok(Table::Ranges(Ranges::read(&text)?))
}

#[cfg(test)]
mod tests;
