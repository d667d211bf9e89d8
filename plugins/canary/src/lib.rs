//! Sends a share of the requests to another upstream: those that request it by a header or cookie, and a
//! percentage of the others, which can be sticky.
//!
//! For trying a new version with some callers first. Each caller has a fixed number (its position), and the new
//! version gets all callers whose position is below the percentage. So raising the percentage only ever moves
//! callers to the new version.

use witgate_sdk::{
    Destination, Function, HeaderName, Input, Interest, Period, Request, Routing, SettingsProblem, crypto,
    routing, settings,
};

/// Number of positions: a percentage has a resolution of 0.01.
const PLACES: u32 = 10_000;

/// Which requests are sent to the new version.
#[settings(check = problems)]
struct Settings {
    /// The upstream with the new version; the binding's `route_to` must list it. All other requests go to the
    /// upstream of the route.
    upstream: String,
    /// A header whose value decides before anything else.
    header: Option<Choice>,
    /// A cookie whose value decides after the header.
    cookie: Option<Choice>,
    /// The share of all other requests, in percent, with a resolution of 0.01.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    percent: f64,
    /// How a caller is recognised in later requests.
    #[serde(default)]
    sticky: Sticky,
}

/// Its name. The name of a cookie is case-sensitive.
#[settings]
struct Choice {
    /// Its name. The case of a cookie's name matters.
    name: String,
    /// The value that selects the new version.
    #[serde(default = "always")]
    value: String,
    /// The value that selects the upstream of the route.
    #[serde(default = "never")]
    never: String,
}

/// What determines the position of a caller.
#[settings]
#[derive(Default)]
enum Sticky {
    /// A cookie, which is set if it is missing.
    Cookie(StickyCookie),
    /// A request header, e.g. one that names the tenant. A request without it gets a random position.
    Header(HeaderName),
    /// The identity of the caller. A request without one gets a random position.
    Subject,
    /// The address of the client.
    Client,
    /// Nothing: every request gets a random position.
    #[default]
    Nothing,
}

/// The cookie that holds the position.
#[settings]
struct StickyCookie {
    /// Its name, which is case-sensitive.
    #[serde(default = "cookie_name")]
    name: String,
    /// How long browsers keep it.
    #[serde(default = "cookie_age")]
    max_age: Period,
}

fn always() -> String {
    "always".to_owned()
}

fn never() -> String {
    "never".to_owned()
}

fn cookie_name() -> String {
    "witgate-canary".to_owned()
}

fn cookie_age() -> Period {
    Period::from_secs(7 * 24 * 3600)
}

fn problems(settings: &Settings) -> Vec<SettingsProblem> {
    let mut problems = Vec::new();
    if settings.upstream.is_empty() {
        problems.push(SettingsProblem::new("/upstream", "name the upstream with the new version"));
    }
    if !(0.0..=100.0).contains(&settings.percent) {
        problems.push(SettingsProblem::new("/percent", "a percentage is from 0 to 100"));
    }
    for (pointer, choice) in [("/header", &settings.header), ("/cookie", &settings.cookie)] {
        if choice.as_ref().is_some_and(|choice| choice.value == choice.never) {
            problems.push(SettingsProblem::new(pointer, "`value` and `never` are the same"));
        }
    }
    let sticky = match &settings.sticky {
        Sticky::Cookie(cookie) => Some(("/sticky/cookie", &cookie.name)),
        _ => None,
    };
    let chosen = [("/header", &settings.header), ("/cookie", &settings.cookie)];
    let chosen = chosen.iter().filter_map(|(pointer, choice)| Some((*pointer, &choice.as_ref()?.name)));
    for (pointer, name) in chosen.chain(sticky) {
        // A cookie's name is a token (RFC 6265 section 4.1.1), as a header's name is.
        if let Err(message) = HeaderName::try_from(name.clone()) {
            problems.push(SettingsProblem::new(format!("{pointer}/name"), message));
        }
    }
    problems
}

#[routing]
impl Routing for Settings {
    fn interest(&self) -> Interest {
        let sticky = match &self.sticky {
            Sticky::Header(name) => Some(&**name),
            Sticky::Cookie(_) => Some("cookie"),
            Sticky::Subject | Sticky::Client | Sticky::Nothing => None,
        };
        let interest = Interest::none()
            .request_headers(self.header.iter().map(|choice| &choice.name))
            .request_headers(self.cookie.iter().map(|_| "cookie"))
            .request_headers(sticky);
        let inputs = self.inputs();
        // If every request gets a random position, its result must not be remembered.
        if inputs.is_empty() && self.percent > 0.0 {
            interest
        } else {
            interest.pure(Function::Route, inputs)
        }
    }

    fn route(&self, request: &Request) -> Option<Destination> {
        if let Some(wanted) = self.wanted(request) {
            return wanted.then(|| Destination::to(&*self.upstream));
        }
        if self.percent == 0.0 && !matches!(self.sticky, Sticky::Cookie(_)) {
            // No request goes to the new version, whatever its position is.
            return None;
        }
        let place = self.place(request);
        // The request id differs for each request and serves as the random number.
        let kept = place.unwrap_or_else(|| diced(&request.request_id()));
        let chosen = f64::from(kept) < self.percent / 100.0 * f64::from(PLACES);
        let destination = chosen.then(|| Destination::to(&*self.upstream));
        match &self.sticky {
            Sticky::Cookie(cookie) if place.is_none() => {
                let destination = destination.unwrap_or_else(Destination::unchanged);
                Some(destination.with_response_header("set-cookie", cookie.with_place(kept, request)))
            }
            _ => destination,
        }
    }
}

impl Settings {
    /// The inputs on which a choice depends. A random choice reads the request id in addition, so that it is not
    /// remembered.
    fn inputs(&self) -> Vec<Input> {
        let header = self.header.iter().map(|choice| Input::header(&choice.name));
        let cookie = self.cookie.iter().map(|_| Input::header("cookie"));
        let sticky = match &self.sticky {
            Sticky::Cookie(_) => Some(Input::header("cookie")),
            Sticky::Header(name) => Some(Input::header(&**name)),
            Sticky::Subject => Some(Input::Identity),
            Sticky::Client => Some(Input::ClientAddress),
            Sticky::Nothing => None,
        };
        header.chain(cookie).chain(sticky).collect()
    }

    /// The version that the request selects by header or cookie, if it does.
    fn wanted(&self, request: &Request) -> Option<bool> {
        let by_header = self.header.as_ref().and_then(|choice| choice.decides(request.header(&choice.name)?));
        by_header
            .or_else(|| self.cookie.as_ref().and_then(|choice| choice.decides(request.cookie(&choice.name)?)))
    }

    /// The position of the caller, if it is known.
    fn place(&self, request: &Request) -> Option<u32> {
        match &self.sticky {
            Sticky::Cookie(cookie) => {
                request.cookie(&cookie.name)?.parse().ok().filter(|place| *place < PLACES)
            }
            Sticky::Header(name) => request.values(name).next().map(hashed),
            Sticky::Subject => request.identity().map(|caller| hashed(caller.subject)),
            Sticky::Client => Some(hashed(request.client_address())),
            Sticky::Nothing => None,
        }
    }
}

impl Choice {
    fn decides(&self, value: &str) -> Option<bool> {
        if value == self.value {
            Some(true)
        } else if value == self.never {
            Some(false)
        } else {
            None
        }
    }
}

impl StickyCookie {
    fn with_place(&self, place: u32, request: &Request) -> String {
        let secure = if request.scheme() == "https" { "; Secure" } else { "" };
        let (name, age) = (&self.name, self.max_age.duration().as_secs());
        format!("{name}={place}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}")
    }
}

/// A position that is the same for the same bytes, on every core and after every restart.
fn hashed(bytes: impl AsRef<[u8]>) -> u32 {
    let digest = crypto::digest(crypto::Hash::Sha256, bytes);
    let head = digest.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    u32::try_from(head % u64::from(PLACES)).unwrap_or_default()
}

/// A position from a request id, by a hash (FNV-1a) that costs less than a digest by the gateway. It need not be
/// found again.
fn diced(id: &str) -> u32 {
    let number = id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u32::try_from((number >> 20) % u64::from(PLACES)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
