//! A plugin for what version 0.2.0 lets a call say and ask about its exchange. A request says what to do when buckets are named
//! by the header `x-do`, with words in `x-with`; the other headers are described where they are read.

use witgate_sdk::{
    BodyResult, Bucket, Buckets, Chunk, Interest, Plugin, RateLimiting, Request, RequestChanges, RequestOutcome, Response,
    ResponseChanges, ResponseOutcome, ResponseView, SettingsProblem, Transformation, BodyAccess, calendar, clock, ending, facts,
    notes, response_body, settlement, span, store, upstream_host,
};

#[witgate_sdk::settings]
struct Settings {
    /// What `draw` does to requests without `x-do`, in the same words.
    #[serde(default)]
    act: String,
}

struct Exchange(Settings);

impl Plugin for Exchange {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        Ok(Exchange(settings))
    }
}

impl RateLimiting for Exchange {
    fn draw(&self, request: &Request) -> Buckets {
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        let (deed, with) = match header("x-do") {
            deed if deed.is_empty() => {
                self.0.act.split_once(' ').map_or((self.0.act.clone(), String::new()), |(deed, with)| (deed.into(), with.into()))
            }
            deed => (deed, header("x-with")),
        };
        let mut told = told(&deed, &with);
        told.truncate(256);
        Some(Bucket::per_minute(1000, told)).into()
    }
}

fn told(deed: &str, with: &str) -> String {
    let words: Vec<&str> = with.split(' ').collect();
    let word = |index: usize| words.get(index).copied().unwrap_or_default();
    let number = |index: usize| word(index).parse().unwrap_or_default();
    let space = store::space("space");
    let after = (!word(1).is_empty()).then(|| word(1));
    match deed {
        "set" => format!("{:?}", space.set(word(0), "v", None)),
        "keys" => format!("{:?}", space.keys(word(0), after).map(|page| (page.keys.len(), page.next))),
        "all-keys" => {
            let (mut after, mut all) = (None, Vec::new());
            loop {
                match space.keys(word(0), after.as_deref()) {
                    Ok(page) => (after, all) = (page.next, [all, page.keys].concat()),
                    Err(error) => break format!("{error:?}"),
                }
                if after.is_none() {
                    all.sort();
                    break all.join(" ");
                }
            }
        }
        "remove-keys" => {
            let (mut after, mut removed) = (None, 0);
            loop {
                match space.remove_keys(word(0), after.as_deref()) {
                    Ok(removal) => (after, removed) = (removal.next, removed + removal.removed),
                    Err(error) => break format!("{error:?}"),
                }
                if after.is_none() {
                    break removed.to_string();
                }
            }
        }
        "other-space" => format!("{:?}", store::space("other").keys("", None).map(|page| page.keys)),
        "count" => match calendar::month(word(1)) {
            Some(month) => format!("{:?} {}", space.count(word(0), 1, &month), month.name),
            None => "no zone".into(),
        },
        "window" => {
            let window = calendar::at(word(0), calendar::Period::Day, std::time::Duration::from_secs(number(1) as u64));
            window.map_or("none".into(), |window| format!("{} {} {}", window.name, window.begins / 1000, window.ends / 1000))
        }
        "day" => {
            let day = calendar::day("UTC").expect("a zone");
            format!("{}", day.ends_in() <= std::time::Duration::from_secs(86_400) && day.begins <= clock::now().as_millis() as u64)
        }
        "leave" => format!("{:?}", notes::leave(word(0), word(1))),
        "leave-long" => format!("{:?}", notes::leave(word(0), vec![b'v'; number(1)])),
        "leave-many" => {
            let left = (0..number(1)).filter(|index| notes::leave(word(0), index.to_string()).is_ok()).count();
            left.to_string()
        }
        "leave-panic" => {
            let left = notes::leave(word(0), word(1));
            panic!("{left:?}")
        }
        "read" => format!("{:?}", notes::text(word(0))),
        "own" => format!("{:?} {:?}", notes::leave(word(0), "own"), notes::text(word(0))),
        "attributes" => {
            for index in 0..number(0) {
                span::attribute(&format!("a{index}"), "x".repeat(300));
            }
            span::attribute("Not.A.Name", 1);
            span::attribute("tokens", 17);
            span::attribute("tokens", 18);
            format!("{}", span::sampled())
        }
        "tls" => format!("{:?}", facts::tls().map(|tls| (tls.version, tls.server_name, tls.protocol))),
        "certificate" => format!("{:?}", facts::certificate().map(|known| (known.subject, known.dns_names, known.spiffe_id))),
        "origin" => format!("{:?}", facts::origin().map(|origin| origin.attempts)),
        other => other.to_owned(),
    }
}

impl Transformation for Exchange {
    fn interest(&self) -> Interest {
        Interest {
            response: true,
            request_body: BodyAccess::Streamed,
            response_body: BodyAccess::Streamed,
            ..Interest::none() }
    }

    /// `x-decline: request` declines the body of the response.
    fn on_request(&self, request: &Request) -> RequestOutcome {
        if request.header("x-decline") == Some("request") {
            response_body::decline();
        }
        let mut changes = RequestChanges::none();
        if let Some(host) = request.header("x-set-host") {
            changes = changes.set("x-host-set", format!("{:?}", upstream_host::set(host)));
        }
        if let Some(note) = notes::text("a") {
            changes = changes.set("x-note", note);
        }
        if let Some(tls) = facts::tls() {
            let certificate = facts::certificate();
            let told = [
                Some(tls.version),
                tls.server_name,
                tls.protocol,
                certificate.as_ref().and_then(|known| known.spiffe_id.clone()),
                certificate.map(|known| known.dns_names.join("+")),
            ];
            changes = changes.set("x-tls", told.map(|part| part.unwrap_or("-".into())).join(" "));
        }
        changes.into()
    }

    /// A body that contains `stop` ends the exchange; `stop-bad` with a response that is invalid.
    fn on_request_body(&self, chunk: Chunk, _: &Request) -> BodyResult {
        let has = |word: &[u8]| chunk.content.windows(word.len()).any(|bytes| bytes == word);
        let mut response = Response::new(422).with_header("x-ended", "yes").with_body("no more");
        if has(b"stop-bad") {
            response.status = 99;
        }
        if has(b"stop") {
            ending::respond(&response);
        }
        BodyResult::unchanged()
    }

    /// `x-decline: response` declines the body. `x-cost` is what the request has cost. The response gets the facts as `x-origin`.
    fn on_response(&self, _: &ResponseView, request: &Request, _: &[u8]) -> ResponseOutcome {
        if request.header("x-decline") == Some("response") {
            response_body::decline();
        }
        if let Some(cost) = request.header("x-cost").and_then(|cost| cost.parse().ok()) {
            settlement::cost("default", cost);
            settlement::cost("no-such-policy", cost);
        }
        let Some(origin) = facts::origin() else { return ResponseChanges::none().into() };
        let told = format!(
            "{} {} {} {} {} {}",
            origin.upstream.as_deref().unwrap_or("-"),
            origin.endpoint.is_some(),
            origin.attempts,
            origin.microseconds.is_some(),
            origin.local,
            origin.fault.as_deref().unwrap_or("-"),
        );
        ResponseChanges::none().set("x-origin", told).into()
    }

    fn on_response_body(&self, chunk: Chunk, _: &ResponseView, _: &Request) -> BodyResult {
        BodyResult::replace(chunk.content.to_ascii_uppercase())
    }
}

witgate_sdk::export!(Exchange: RateLimiting, Transformation);
