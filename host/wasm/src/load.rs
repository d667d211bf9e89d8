//! From a component to a binding in service: grants, settings, a first instance.

mod additions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderName;
use serde_json::Value;
use wasmtime::{Trap, WasmBacktrace};
use witgate_config::model::{self, Budget};
use witgate_config::{Problem, Settings, check_settings};
use witgate_exchange::contracts::store::KeyStore;
use witgate_exchange::contracts::{BodyAccess, Contracts, Function, INPUTS, Input, Interest};
use witgate_exchange::credentials::Credentials;

use crate::background::Background;
use crate::bindings::exports::witgate::plugin::lifecycle;
use crate::bindings::witgate::plugin::types;
use crate::budget::Killed;
use crate::call::{self, DeclaredInputs};
use crate::compile::Compiled;
use crate::data::Data;
use crate::imports::Waits;
use crate::imports::log::Pace;
use crate::inspect::Inspection;
use crate::instance::{Instance, Template};
use crate::plugin::Loaded;
use crate::pool::{Pool, Setup};
use crate::quarantine::Quarantine;
use crate::record::Record;
use crate::refusal::{Reason, Refusal, problem};
use crate::revert::Trial;
use crate::rights::Rights;
use crate::runtime::Runtime;

/// Time that each step of an instance's set-up may take outside of the data path.
pub(crate) const SETUP: Duration = Duration::from_secs(1);

/// The largest JSON Schema of settings that is read, in bytes of its text.
const SCHEMA: usize = 1 << 20;

/// The most problems with settings that are taken from a plugin, and the most characters of each that are shown.
const PROBLEMS: (usize, usize) = (20, 300);

/// The most header names that a plugin may declare, for requests and for responses each.
const DECLARED: usize = 64;

/// A component that has been inspected and compiled. Cheap to clone; bindings of one file share the code.
#[derive(Clone)]
pub struct Component {
    pub(crate) inspection: Arc<Inspection>,
    pub(crate) code: Arc<Compiled>,
}

impl Component {
    /// The result of the inspection.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// The contracts it exports.
    pub fn contracts(&self) -> Contracts {
        self.inspection.contracts
    }
}

/// A binding that is to be made from a component.
pub struct BindingRequest<'a> {
    /// Name of the binding.
    pub name: &'a str,
    /// Settings, grants and budgets of the binding.
    pub binding: &'a model::Binding,
    /// The configuration of the plugin file.
    pub plugin: &'a model::Plugin,
    /// Where the plugin's keys are kept.
    pub store: Arc<dyn KeyStore>,
    /// The contents of the files that its grants name.
    pub data: &'a BTreeMap<String, Arc<Data>>,
    /// The secrets of the fleet; empty if there are none.
    pub secrets: &'a [model::Secret],
}

/// Makes a binding.
pub(crate) fn prepare(
    runtime: &Runtime,
    component: &Component,
    order: &BindingRequest<'_>,
) -> Result<Arc<Loaded>, Refusal> {
    check_digest(&component.inspection, order)?;
    check_drafts(&component.inspection, order)?;
    check_grants(&component.inspection, order)?;
    let grants = &order.binding.grants;
    let waits = Waits {
        fetch: grants.fetch.iter().flatten().next().is_some(),
        store: grants.store.iter().flatten().next().is_some() && order.store.waits(),
        password: true,
    };
    let template = Arc::new(template(runtime, component, waits)?);
    let rights = Arc::new(runtime.rights(order, component.inspection.border()));
    let begun = Instant::now();
    let mut instance = instantiate(&template, &rights)?;
    check_schema(&template, &mut instance, &order.binding.settings)?;
    let settings = Value::Object(order.binding.settings.value.clone()).to_string();
    let mut interest = configure(&template, &mut instance, &settings, order)?;
    additions::declare(&template, &mut instance, &mut interest, &order.binding.budget)?;
    check_credentials(&interest, &rights.credentials, order)?;
    let setup = Setup { settings, quick: begun.elapsed() < order.binding.budget.cpu / 2 };
    let contracts = component.contracts();
    check_interest(&interest, contracts)?;
    let instances = order.binding.instances;
    let background = contracts.observe || contracts.tick;
    let (cores, upkeep) = (runtime.cores(), runtime.upkeep().clone());
    let pool = Pool::new(template, rights, setup, instances, cores, background, upkeep);
    let version = next_number();
    let loaded = Loaded {
        name: Arc::from(order.name),
        version,
        turn: AtomicU64::new(version),
        digest: component.inspection.digest,
        contracts,
        settles: component.inspection.settles(),
        shown_to_authenticate: DeclaredInputs::to(interest.authenticates_by.as_deref(), &interest),
        shown: Function::ALL.map(|function| DeclaredInputs::to(interest.inputs(function), &interest)),
        remember: order.binding.remember,
        told: AtomicU16::new(0),
        interest,
        on_failure: order.binding.on_failure,
        pool: Arc::new(pool),
        record: Record::default(),
        quarantine: Quarantine::new(order.binding.quarantine, begun),
        trial: Trial::new(order.binding.revert),
        complaints: Pace::new(Loaded::COMPLAINTS),
        announcements: Pace::new(Loaded::COMPLAINTS),
        on_revert: runtime.on_revert(),
        background: Background::new(order.binding.tick, runtime.queues(), runtime.upstreams()),
    };
    let loaded = Arc::new(loaded);
    // A plugin that is called in the background only needs no instances for the cores that serve requests.
    let first = if contracts.serves_requests() { 0 } else { loaded.pool.cores() - 1 };
    loaded.pool.add(first, instance);
    for core in first..loaded.pool.cores() {
        loaded.pool.fill(core);
    }
    runtime.watch(&loaded);
    Ok(loaded)
}

/// The schema of a component's settings, returned by an instance without grants.
pub(crate) fn settings_schema(runtime: &Runtime, component: &Component) -> Result<Value, Refusal> {
    let template = template(runtime, component, Waits::default())?;
    let rights = Arc::new(runtime.no_rights());
    let mut instance = instantiate(&template, &rights)?;
    schema(&template, &mut instance)
}

/// A number higher than all numbers returned before.
pub(crate) fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn check_digest(inspection: &Inspection, order: &BindingRequest<'_>) -> Result<(), Refusal> {
    match &order.plugin.digest {
        Some(pinned) if *pinned != inspection.digest => Err(Refusal::new(
            Reason::Digest,
            format!("the file has the digest {}, which is not the one pinned", inspection.digest_text()),
            "restore the pinned file, or change `digest` once you trust the new one",
        )
        .about(&format!("plugins.{}.digest", order.binding.plugin))),
        _ => Ok(()),
    }
}

/// Refuses a component that uses a draft version of the border, unless its plugin is declared to do so.
fn check_drafts(inspection: &Inspection, order: &BindingRequest<'_>) -> Result<(), Refusal> {
    let drafts = inspection.drafts();
    if drafts.is_empty() || order.plugin.unstable {
        return Ok(());
    }
    let plugin = &order.binding.plugin;
    Err(Refusal::new(
        Reason::Contract,
        format!("it uses a version of the contracts that is a draft and may change: {}", drafts.join(", ")),
        format!("to load it all the same, add to [plugins.{plugin}]: unstable = true"),
    )
    .about(&format!("plugins.{plugin}.unstable")))
}

fn check_grants(inspection: &Inspection, order: &BindingRequest<'_>) -> Result<(), Refusal> {
    let grants = &order.binding.grants;
    let needs = [
        (inspection.needs_fetch() && grants.fetch.is_none(), "fetch", "[\"UPSTREAM\"]"),
        (inspection.needs_store() && grants.store.is_none(), "store", "[\"SPACE\"]"),
        (inspection.needs_data() && grants.data.is_none(), "data", "[\"FILE\"]"),
        (inspection.needs_notes() && grants.notes.is_none(), "notes", "{ read = [\"NAME\"], write = [] }"),
    ];
    let missing: Vec<Problem> = needs
        .into_iter()
        .filter(|(missing, ..)| *missing)
        .map(|(_, import, example)| {
            let name = order.name;
            problem(
                format!("the plugin imports `{import}`, but the binding does not say what it may use"),
                format!(
                    "add to [bindings.{name}]: grants.{import} = {example}, or {} to deny every use",
                    if import == "notes" { "{}" } else { "[]" }
                ),
            )
        })
        .collect();
    let key = format!("bindings.{}.grants", order.name);
    Refusal::of(Reason::Grant, missing).map_err(|refusal| refusal.about(&key))
}

/// Refuses a plugin that declares to look at credentials which the binding does not grant.
fn check_credentials(
    interest: &Interest,
    credentials: &Credentials,
    order: &BindingRequest<'_>,
) -> Result<(), Refusal> {
    let declared = interest.request_headers.iter().chain(&interest.response_headers);
    let mut hidden: Vec<&str> =
        declared.filter(|name| credentials.hide(name)).map(HeaderName::as_str).collect();
    hidden.sort_unstable();
    hidden.dedup();
    if hidden.is_empty() {
        return Ok(());
    }
    let granted = order.binding.grants.credentials.iter().flatten().map(String::as_str);
    let all: Vec<String> = granted.chain(hidden.iter().copied()).map(|name| format!("{name:?}")).collect();
    let name = order.name;
    Err(Refusal::new(
        Reason::Grant,
        format!("the plugin looks at credentials that the binding does not grant: `{}`", hidden.join("`, `")),
        format!("to let it see them, write in [bindings.{name}]: grants.credentials = [{}]", all.join(", ")),
    )
    .about(&format!("bindings.{name}.grants")))
}

/// `waits`: what the guests of the binding may wait for.
fn template(runtime: &Runtime, component: &Component, waits: Waits) -> Result<Template, Refusal> {
    let waits = Waits {
        fetch: waits.fetch && component.inspection.needs_fetch(),
        store: waits.store && component.inspection.needs_store(),
        password: waits.password && component.inspection.verifies_passwords(),
    };
    let linker = runtime.linker(waits);
    Template::new(runtime.engine(), linker, &component.code, component.contracts(), waits.any()).map_err(
        |error| {
            Refusal::new(
                Reason::Contract,
                format!("an import or export does not have the type in its contract: {}", text(&error)),
                "build the plugin against witgate:plugin as this gateway serves it: version 0.1.0, and the draft 0.2.0",
            )
        },
    )
}

fn instantiate(template: &Template, rights: &Arc<Rights>) -> Result<Instance, Refusal> {
    template
        .instantiate(rights, SETUP)
        .map_err(|error| failed("it cannot be instantiated", &error, &rights.budget))
}

fn schema(template: &Template, instance: &mut Instance) -> Result<Value, Refusal> {
    let budget = instance.store.data().rights.budget;
    let text = template
        .settings_schema(instance, SETUP)
        .map_err(|error| failed("`settings-schema` failed", &error, &budget))?;
    if text.len() > SCHEMA {
        return Err(Refusal::new(
            Reason::Failed,
            format!("`settings-schema` returned {} bytes; at most 1 MiB is read", text.len()),
            "return a smaller JSON Schema, or `true` for any settings",
        ));
    }
    serde_json::from_str(&text).map_err(|error| {
        Refusal::new(
            Reason::Failed,
            format!("`settings-schema` returned invalid JSON: {error}"),
            "return a JSON Schema, or `true` for any settings",
        )
    })
}

fn check_schema(template: &Template, instance: &mut Instance, settings: &Settings) -> Result<(), Refusal> {
    let schema = schema(template, instance)?;
    Refusal::of(Reason::Settings, check_settings(settings, &schema))
}

fn configure(
    template: &Template,
    instance: &mut Instance,
    settings: &str,
    order: &BindingRequest<'_>,
) -> Result<Interest, Refusal> {
    let answer = template
        .configure(instance, settings, SETUP)
        .map_err(|error| failed("`configure` failed", &error, &order.binding.budget))?;
    instance.store.data_mut().flush_output();
    match answer {
        Ok(declared) => interest(declared),
        Err(problems) => {
            let written = &order.binding.settings;
            let more = problems.len().saturating_sub(PROBLEMS.0);
            let mut list: Vec<Problem> = problems
                .into_iter()
                .take(PROBLEMS.0)
                .map(|found| {
                    // A JSON pointer that matches no setting is reported for the table of settings as a whole.
                    let pointer = if found.pointer.len() > PROBLEMS.1 { "" } else { &found.pointer };
                    written.problem(pointer, beginning(&found.message), None)
                })
                .collect();
            if more > 0 {
                list.push(written.problem("", format!("{more} more problems are not shown"), None));
            }
            if list.is_empty() {
                list.push(problem("the plugin refuses its settings without saying why", "ask its author"));
            }
            Err(Refusal { reason: Reason::Settings, problems: list })
        }
    }
}

/// The beginning of a plugin's message, with control characters escaped.
fn beginning(message: &str) -> String {
    let mut shown: String = message.chars().take(PROBLEMS.1).flat_map(escaped).collect();
    if message.chars().nth(PROBLEMS.1).is_some() {
        shown.push('…');
    }
    shown
}

fn escaped(letter: char) -> impl Iterator<Item = char> {
    let control = letter.is_control().then(|| letter.escape_default());
    control.into_iter().flatten().chain((!letter.is_control()).then_some(letter))
}

fn interest(declared: lifecycle::Interest) -> Result<Interest, Refusal> {
    Ok(Interest {
        request_headers: header_names(declared.request_headers, "request")?,
        response_headers: header_names(declared.response_headers, "response")?,
        request_body: body_access(declared.request_body),
        response_body: body_access(declared.response_body),
        response: declared.response,
        authenticates_by: declared
            .authenticates_by
            .map(|inputs| named_inputs(&inputs, "authenticate"))
            .transpose()?,
        pure: pure_functions(declared.pure)?,
        ..Interest::NOTHING
    })
}

fn pure_functions(
    declared: Vec<lifecycle::PureFunction>,
) -> Result<[Option<Box<[Input]>>; Function::ALL.len()], Refusal> {
    let mut pure = [const { None }; Function::ALL.len()];
    for lifecycle::PureFunction { function, inputs } in declared {
        let function = match function {
            lifecycle::Function::Draw => Function::Draw,
            lifecycle::Function::Route => Function::Route,
            lifecycle::Function::OnRequest => Function::OnRequest,
            lifecycle::Function::OnResponse => Function::OnResponse,
        };
        let name = function.as_str();
        if pure[function as usize].replace(named_inputs(&inputs, name)?).is_some() {
            return misdeclared(format!("it declares `{name}` to be pure more than once"));
        }
    }
    Ok(pure)
}

fn named_inputs(inputs: &[types::Input], function: &str) -> Result<Box<[Input]>, Refusal> {
    if inputs.len() > INPUTS {
        return misdeclared(format!(
            "it names {} inputs of `{function}`, at most {INPUTS} are allowed",
            inputs.len()
        ));
    }
    inputs.iter().map(|input| named(input, function)).collect()
}

fn named(input: &types::Input, function: &str) -> Result<Input, Refusal> {
    match (call::input(input), input) {
        (Some(input), _) => Ok(input),
        (None, types::Input::Header(name)) => misdeclared(format!(
            "it names the header `{}` as an input of `{function}`, which is not a header name",
            name.escape_default()
        )),
        (None, _) => misdeclared(format!("it names an input of `{function}` that no request has")),
    }
}

fn misdeclared<T>(message: String) -> Result<T, Refusal> {
    Err(Refusal::new(Reason::Interest, message, "correct what `configure` returns in the plugin"))
}

fn header_names(names: Vec<String>, direction: &str) -> Result<Vec<HeaderName>, Refusal> {
    if names.len() > DECLARED {
        return misdeclared(format!(
            "it declares {} {direction} headers, at most {DECLARED} are allowed",
            names.len()
        ));
    }
    let mut parsed = Vec::with_capacity(names.len());
    for name in names {
        match HeaderName::from_lowercase(name.as_bytes()) {
            Ok(name) => parsed.push(name),
            Err(_) => {
                return misdeclared(format!(
                    "it declares the {direction} header `{}`, which is not a lower-case header name",
                    name.escape_default()
                ));
            }
        }
    }
    Ok(parsed)
}

fn body_access(access: lifecycle::BodyAccess) -> BodyAccess {
    match access {
        lifecycle::BodyAccess::None => BodyAccess::None,
        lifecycle::BodyAccess::Buffered => BodyAccess::Buffered,
        lifecycle::BodyAccess::Streamed => BodyAccess::Streamed,
    }
}

/// Only the contract `transformation` gets responses and bodies.
fn check_interest(interest: &Interest, contracts: Contracts) -> Result<(), Refusal> {
    let bodies = [interest.request_body, interest.response_body];
    let wants_more = interest.response
        || !interest.response_headers.is_empty()
        || bodies.iter().any(|access| *access != BodyAccess::None);
    if wants_more && !contracts.transformation {
        return Err(Refusal::new(
            Reason::Interest,
            "it declares interest in responses or bodies, which only the contract `transformation` gets",
            "export `transformation` as well, or declare request headers only",
        ));
    }
    Ok(())
}

fn failed(what: &str, error: &wasmtime::Error, budget: &Budget) -> Refusal {
    let hint = match error.downcast_ref::<Killed>() {
        Some(killed) => format!(
            "it exceeded the budget `{}` of the binding (cpu {:?}, wall {:?}, memory {} bytes)",
            killed.0.as_str(),
            budget.cpu,
            budget.wall,
            budget.memory
        ),
        None => "the plugin's own log lines may say more".to_owned(),
    };
    Refusal::new(Reason::Failed, format!("{what}: {}", text(error)), hint)
}

/// How often a function must be among the innermost frames for its trap to count as one of endless recursion.
const RECURSIVE: usize = 6;

/// The message of an error, without its backtrace. An error whose own message would mislead has another one.
pub(crate) fn text(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => return "it recurses too deeply: its stack is used up".to_owned(),
        // A guest keeps a stack of its own in its memory. Past its end it leaves the memory.
        Some(Trap::MemoryOutOfBounds) if is_recursive(error) => {
            return "it recurses too deeply: the stack in its memory is used up".to_owned();
        }
        _ => {}
    }
    if error.chain().any(|cause| cause.to_string().contains("fuel allocated for hostcalls")) {
        return "what it returned or passed to the gateway is larger than the gateway takes at once \
                (`budget.output`, or `budget.body_limit` for bodies)"
            .to_owned();
    }
    let causes: Vec<String> =
        error.chain().map(ToString::to_string).filter(|cause| !cause.contains("wasm backtrace")).collect();
    causes.join(": ").replace('\n', " ")
}

/// Whether one function is again and again among the innermost frames of a trap.
fn is_recursive(error: &wasmtime::Error) -> bool {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return false };
    let frames: Vec<u32> = backtrace.frames().iter().map(|frame| frame.func_index()).collect();
    frames.iter().any(|function| frames.iter().filter(|other| *other == function).count() >= RECURSIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_would_mislead_has_other_words() {
        let stack = wasmtime::Error::new(Trap::StackOverflow);
        assert!(text(&stack).contains("recurses too deeply"), "{}", text(&stack));
        let memory = wasmtime::Error::new(Trap::MemoryOutOfBounds);
        assert!(text(&memory).contains("out of bounds"), "without a backtrace it is a memory fault");
        let fuel = "too much data is being copied between the host and the guest: fuel allocated for hostcalls has \
                    been exhausted";
        let fuel = wasmtime::Error::msg(fuel).context("lifting failed");
        assert!(text(&fuel).contains("larger than the gateway takes at once"), "{}", text(&fuel));
    }

    #[test]
    fn messages_of_configure_are_short_and_printable() {
        assert_eq!(beginning("a\nb\u{1b}[1m"), "a\\nb\\u{1b}[1m");
        let long = beginning(&"ä".repeat(100_000));
        assert_eq!(long.chars().count(), PROBLEMS.1 + 1);
        assert!(long.ends_with('…'));
    }
}
