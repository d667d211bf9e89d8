//! `witgate plugin play`

mod client;
mod file;
mod journal;
mod origins;
mod recorder;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use witgate_exchange::contracts::Contracts;
use witgate_exchange::contracts::store::KeyStore;

use self::file::{NAME, ORIGIN, Script, Stored};
use self::journal::{Event, Journal};
use self::recorder::{Caller, Recorder};
use crate::cli::output::{Format, print};
use crate::control::rehearsal::Rehearsal;
use crate::control::source::{Refusal, Source};
use crate::exit::{Exit, ExitResult, Failure};
use origins::Origins;

/// Play a whole exchange from a file: print what the plugin decides in each phase, and what leaves the gateway.
///
/// The exchange goes through the gateway itself, with its own checks, over connections of this machine. What the plugin
/// fetches is answered by the file. The exit code is 1 if a call failed or the gateway refused a result.
#[derive(Args)]
#[command(after_long_help = EXAMPLE)]
pub(crate) struct Arguments {
    /// A TOML file, or a JSON file of the same form
    file: PathBuf,
    #[command(flatten)]
    format: Format,
}

const EXAMPLE: &str = r#"Example of a file; only `plugin` is needed:

  plugin = "target/require_key.wasm"     # relative to this file

  [binding]                              # as [bindings.NAME] of a configuration
  settings = { key = "open-sesame" }
  grants = { fetch = ["users"], store = ["seen"] }

  [request]
  method = "POST"
  target = "/orders?page=2"
  authority = "shop.example"
  headers = { x-api-key = "open-sesame", accept = ["text/html", "*/*"] }
  client = "192.0.2.7"
  chunks = ["{\"a\":", "1}"]             # or `body`, or `body_file`
  # subject = "ada"                      # a caller, for plugins that do not authenticate
  # claims = { plan = "gold" }

  [response]                             # of the upstream that gets the request
  status = 200
  headers = { content-type = "text/plain" }
  body = "hello"

  [upstreams.users]                      # for `fetch` and routing; a list answers in order
  status = 200
  body = '{"name":"ada"}'

  [store.seen]                           # text, or an integer for a counter
  ada = 3

  [data]
  words = "words.txt"
"#;

/// What is printed.
#[derive(Serialize)]
struct Report {
    events: Vec<Event>,
    /// The keys of the file afterwards; `null`: the plugin has removed it.
    store: BTreeMap<String, BTreeMap<String, Option<String>>>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let script = Script::read(&arguments.file)?;
    let request = script.request()?;
    let origins = Origins::bind(script.responses()?)?;
    let source = source(&script, &origins)?;
    let journal = Arc::new(Journal::new());
    let rehearsal = start(&script, &source, &journal)?;
    let store = Arc::clone(rehearsal.store());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let exchange = async {
        origins.serve(&journal)?;
        let address = rehearsal.address();
        let address = address.ok_or_else(|| Failure::new(Exit::Failure, "the gateway has no listener"))?;
        let outcome = client::exchange(address, request, script.play.request.client, &journal).await;
        // Plugins that observe may fetch, so the upstreams go on meanwhile.
        tokio::task::spawn_blocking(move || rehearsal.end()).await.map_err(anyhow::Error::from)?;
        outcome
    };
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, exchange);
    let report = Report { events: journal.events(), store: held(&script, &*store) };
    print(arguments.format, &report, || describe(&report))?;
    outcome?;
    let failed = report
        .events
        .iter()
        .any(|event| matches!(event, Event::Refused { .. } | Event::Call { decision: Err(_), .. }));
    if failed {
        let message = "a call failed, or the gateway refused its result; the lines above say which";
        return Err(Failure::new(Exit::Failure, message));
    }
    Ok(())
}

/// The configuration that the file describes.
fn source(script: &Script, origins: &Origins) -> Result<Source, Failure> {
    let upstreams: BTreeMap<&str, Value> = origins
        .addresses()
        .map(|(name, address)| (name, json!({ "endpoints": [address.to_string()] })))
        .collect();
    let data: BTreeMap<&str, Value> = script
        .play
        .data
        .iter()
        .map(|(name, file)| (name.as_str(), json!({ "file": script.path(file) })))
        .collect();
    let config = json!({
        "admin": { "address": "off" },
        "telemetry": { "access_log": "off" },
        "gateway": { "workers": 1, "trusted_proxies": ["127.0.0.1"] },
        "listeners": [{ "name": "play", "address": "127.0.0.1:0" }],
        "routes": [{ "name": "play", "path": "/*", "upstream": ORIGIN, "plugins": [NAME] }],
        "upstreams": upstreams,
        "data": data,
        // Whoever tries a plugin may try one that uses a draft of the contracts.
        "plugins": { NAME: { "file": script.path(&script.play.plugin), "unstable": true } },
        "bindings": { NAME: script.play.binding },
    });
    let text = toml::to_string(&config).map_err(|error| {
        let hint = "TOML has no null: leave the key out";
        Failure::from(script.refusal("binding", format!("it cannot be used: {error}"), hint))
    })?;
    let loaded = witgate_config::parse_str(&text).map_err(|failure| {
        let refusal = Refusal::without_files(Exit::Config, failure.problems, failure.sources);
        Failure::from(script.placed(refusal))
    })?;
    Ok(Source::Made(Arc::new(loaded.config)))
}

/// Puts the configuration in service, with a recorder around the plugin.
fn start(script: &Script, source: &Source, journal: &Arc<Journal>) -> Result<Rehearsal, Failure> {
    let request = &script.play.request;
    let caller = request.subject.as_ref().map(|subject| Caller {
        subject: subject.clone(),
        claims: request.claims.clone().into_iter().collect(),
    });
    if caller.is_none() && !request.claims.is_empty() {
        let hint = "add to [request]: subject = \"ada\"";
        let message = "claims need a subject".to_owned();
        return Err(script.refusal("request.claims", message, hint).into());
    }
    let has_caller = caller.is_some();
    let mut authenticates = false;
    let wrap = |mut bindings: crate::control::rehearsal::Bindings| {
        if let Some(plugin) = bindings.get(NAME) {
            authenticates = Contracts::of(plugin).authenticate();
            let recorder = Recorder::new(plugin, Arc::clone(journal), caller);
            bindings.insert(NAME.to_owned(), Arc::new(recorder));
        }
        bindings
    };
    let started = Rehearsal::start(source, NAME, wrap, |store| fill(script, store));
    let rehearsal = started.map_err(|refusal| script.placed(refusal))?;
    if has_caller && authenticates {
        let message = "the plugin itself says who the caller is".to_owned();
        return Err(script.refusal("request.subject", message, "leave `subject` and `claims` out").into());
    }
    Ok(rehearsal)
}

/// Writes what the file says into the store.
fn fill(script: &Script, store: &dyn KeyStore) -> Result<(), Refusal> {
    for (space, keys) in &script.play.store {
        for (key, value) in keys {
            let written = match value {
                Stored::Text(text) => store.set(space, key, text.clone().into_bytes(), None).at_once(),
                Stored::Counter(by) => {
                    store.increment(space, key, *by, None).at_once().map(|result| result.map(drop))
                }
            };
            if !matches!(written, Some(Ok(()))) {
                let message = "the store does not take this value".to_owned();
                return Err(script.refusal(
                    &format!("store.{space}.{key}"),
                    message,
                    "use less, or shorter values",
                ));
            }
        }
    }
    Ok(())
}

/// What the keys of the file hold now.
fn held(script: &Script, store: &dyn KeyStore) -> BTreeMap<String, BTreeMap<String, Option<String>>> {
    let value = |space: &str, key: &str| {
        let value = store.get(space, key).at_once()?.ok()??;
        Some(String::from_utf8_lossy(&value).into_owned())
    };
    let spaces = script.play.store.iter();
    spaces
        .map(|(space, keys)| {
            (space.clone(), keys.keys().map(|key| (key.clone(), value(space, key))).collect())
        })
        .collect()
}

fn describe(report: &Report) -> String {
    let mut text: String = report.events.iter().map(describe_event).collect();
    for (space, keys) in &report.store {
        for (key, value) in keys {
            let value = value.as_deref().unwrap_or("(removed)");
            text.push_str(&format!("store {space}: {key} = {value}\n"));
        }
    }
    text
}

fn describe_event(event: &Event) -> String {
    match event {
        Event::Call { phase, decision, microseconds } => {
            let decision = match decision {
                Ok(Value::String(word)) => word.clone(),
                Ok(decision) => serde_json::to_string_pretty(decision).unwrap_or_default(),
                Err(failure) => format!("FAILED: {failure}"),
            };
            format!("{phase} ({microseconds:.1} microseconds): {decision}\n")
        }
        Event::Refused { reason } => format!("the gateway REFUSED this result: {reason}\n"),
        Event::Sent(sent) => {
            format!("-> {}: {}\n{}", sent.upstream, sent.line, message(&sent.headers, &sent.body))
        }
        Event::Answered { status, headers, body, complete } => {
            let cut = if *complete { "" } else { " (cut before its end)" };
            format!("<- client: {status}{cut}\n{}", message(headers, body))
        }
    }
}

/// Headers and body, indented.
fn message(headers: &[String], body: &str) -> String {
    let lines = headers.iter().map(String::as_str).chain(body.lines());
    lines.map(|line| format!("     {line}\n")).collect()
}
