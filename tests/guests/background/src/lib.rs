//! A plugin that observes, ticks, and uses the imports of version 0.2.0. A request says what to do by the header `x-do`, with words
//! in `x-with`; the settings say what observing and ticking do.

use witgate_sdk::{
    Bucket, Buckets, Exchange, Observe, Plugin, RateLimiting, Request, SettingsProblem, Tick, crypto, data, fetch, log,
    observed, password, store,
};

#[witgate_sdk::settings]
struct Settings {
    /// What `observe` and `tick` do: `store`, `fetch`, `panic`, `loop`.
    #[serde(default)]
    act: String,
    /// A file that `configure` reads and refuses if it begins with `bad`.
    #[serde(default)]
    checks: Option<String>,
}

struct Background {
    act: String,
    checked: Option<usize>,
}

impl Plugin for Background {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let mut checked = None;
        if let Some(name) = &settings.checks {
            let text = data::file(name).text().map_err(|error| vec![SettingsProblem::new("/checks", error.to_string())])?;
            if text.starts_with("bad") {
                return Err(vec![SettingsProblem::new("/checks", "the table is malformed")]);
            }
            checked = Some(text.len());
        }
        Ok(Background { act: settings.act, checked })
    }
}

impl RateLimiting for Background {
    fn draw(&self, request: &Request) -> Buckets {
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        let told = self.told(&header("x-do"), &header("x-with"));
        Some(Bucket::per_minute(1000, told)).into()
    }
}

impl Background {
    fn told(&self, deed: &str, with: &str) -> String {
        let words: Vec<&str> = with.split(' ').collect();
        let word = |index: usize| words.get(index).copied().unwrap_or_default();
        let number = |index: usize| word(index).parse().unwrap_or_default();
        match deed {
            "size" => format!("{:?}", data::file(word(0)).size()),
            "read" => match data::file(word(0)).read(number(1), number(2) as usize) {
                Ok(bytes) => format!("{} {}", bytes.len(), String::from_utf8_lossy(&bytes[..bytes.len().min(20)])),
                Err(error) => error.to_string(),
            },
            "checked" => format!("{:?}", self.checked),
            "password" => format!("{:?}", password::verify(word(0), word(1))),
            "seal" => hex(&crypto::seal(word(0), word(1))),
            "open" => format!("{:?}", crypto::open(word(0), unhex(word(1))).map(|message| String::from_utf8_lossy(&message).into_owned())),
            "random" => hex(&crypto::random(number(0) as u32)),
            "es512" => {
                let key = crypto::PublicKey::Ec(unhex(word(0)));
                format!("{:?}", crypto::verify_es512(&key, word(1), unhex(word(2))))
            }
            "get" => format!("{:?}", store::space("space").get(word(0)).map(|value| value.map(|value| String::from_utf8_lossy(&value).into_owned()))),
            other => format!("no such deed: {other}"),
        }
    }

    fn act(&self, what: &str, by: i64, told: String) {
        match self.act.as_str() {
            "panic" => panic!("told to"),
            "loop" => loop {
                std::hint::spin_loop();
            },
            "fetch" => {
                // Each line ends with what `configure` has read.
                let lines: Vec<String> = told.lines().map(|line| format!("{line} checked={:?}", self.checked)).collect();
                let sent = fetch::post("collector", format!("/{what}"), lines.join("\n")).send();
                log::info(format!("{what}: {:?}", sent.map(|response| response.status)));
            }
            _ => {
                let space = store::space("space");
                let counted = space.increment(what, by, None);
                let kept = space.set(&format!("{what}-last"), told, None);
                if counted.is_err() || kept.is_err() {
                    log::warn(format!("{counted:?} {kept:?}"));
                }
            }
        }
    }
}

impl Observe for Background {
    fn observe(&self, batch: &[Exchange]) {
        let more = |(index, exchange)| {
            let header = observed::response_header(index, "x-told").unwrap_or("-".into());
            let note = observed::note(index, "a").map(|note| String::from_utf8_lossy(&note).into_owned());
            format!("{} {header} {}", line(exchange), note.unwrap_or("-".into()))
        };
        let lines: Vec<String> = batch.iter().enumerate().map(more).collect();
        self.act("seen", batch.len() as i64, lines.join("\n"));
    }
}

fn line(exchange: &Exchange) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let steps: Vec<String> =
        exchange.steps.iter().map(|step| format!("{}/{}", step.binding, step.phase)).collect();
    format!(
        "{} {} {} {} {:?} {} {} {} {} {} {} {}",
        exchange.route,
        exchange.method,
        exchange.path,
        exchange.status,
        exchange.end,
        exchange.received,
        exchange.sent,
        text(&exchange.fault),
        text(&exchange.upstream),
        exchange.attempts,
        exchange.header("user-agent").unwrap_or("-"),
        steps.join(","),
    )
}

impl Tick for Background {
    fn tick(&self) {
        self.act("ticks", 1, "ticked".into());
    }
}

witgate_sdk::export!(Background: RateLimiting, Observe, Tick);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap_or(0)).collect()
}
