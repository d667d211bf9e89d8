//! `witgate plugin check`

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use witgate_config::{SourceMap, file};

use crate::cli::output::{Format, print};
use crate::control;
use crate::exit::{Exit, ExitResult, Failure};

/// Print what a component is: contracts, imports, the grants it will need, size, digest, settings.
///
/// Exit code 4 if no gateway of this version would accept it.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The component
    file: PathBuf,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    file: String,
    contracts: Vec<&'static str>,
    /// The interfaces that it uses of a draft version of the contracts.
    drafts: Vec<String>,
    imports: Vec<String>,
    grants: Vec<Grant>,
    bytes: usize,
    digest: String,
    settings: Option<Value>,
}

#[derive(Serialize)]
struct Grant {
    grant: &'static str,
    why: &'static str,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    check(&arguments.file, arguments.format)
}

/// Checks a component and prints what it is.
pub(super) fn check(file: &Path, format: Format) -> ExitResult {
    let report = report(file)?;
    print(format, &report, || describe(&report))
}

fn report(path: &Path) -> Result<Report, Failure> {
    let bytes = file::read(path, file::PLUGIN).map_err(|error| {
        Failure::new(Exit::Failure, format!("{} cannot be read: {error}", path.display()))
    })?;
    let inspection = control::inspect(&bytes)?.map_err(|refusal| {
        let problems = witgate_config::render(&refusal.problems, &SourceMap::default(), false);
        Failure::new(Exit::PluginRefused, format!("{problems}\n\n{} is refused.", path.display()))
    })?;
    let needs = [
        (inspection.needs_fetch(), "fetch", "names the upstreams it may send requests to"),
        (inspection.needs_store(), "store", "names the spaces of the store it may use"),
        (inspection.needs_data(), "data", "names the files of `[data]` it may read"),
        (inspection.needs_notes(), "notes", "names the notes it may read and leave"),
        (inspection.may_route(), "route_to", "names the upstreams it may choose"),
    ];
    Ok(Report {
        file: path.display().to_string(),
        contracts: inspection.contracts.names(),
        drafts: inspection.drafts().into_iter().map(str::to_owned).collect(),
        grants: needs
            .into_iter()
            .filter_map(|(needed, grant, why)| needed.then_some(Grant { grant, why }))
            .collect(),
        bytes: inspection.size,
        digest: format!("sha256:{}", inspection.digest_text()),
        imports: inspection.imports,
        settings: inspection.settings_schema,
    })
}

fn describe(report: &Report) -> String {
    let mut text = format!(
        "{}\ncontracts  {}\nsize       {} bytes\ndigest     {}\n",
        report.file,
        report.contracts.join(", "),
        report.bytes,
        report.digest
    );
    if !report.drafts.is_empty() {
        let drafts = listed(&report.drafts.iter().collect::<Vec<_>>());
        let _ = writeln!(text, "draft      needs `unstable = true` in [plugins.NAME]: {drafts}");
    }
    let (own, others): (Vec<_>, Vec<_>) =
        report.imports.iter().partition(|import| import.starts_with("witgate:plugin/"));
    let _ = writeln!(text, "imports    {}", listed(&own));
    let _ = writeln!(text, "standard   {}", listed(&others));
    for Grant { grant, why } in &report.grants {
        let _ = writeln!(text, "grant      {grant}: {why}");
    }
    text.push_str(&describe_settings(report.settings.as_ref()));
    text
}

fn listed(names: &[&String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// One line for each setting: name, type, whether it is required, meaning.
fn describe_settings(schema: Option<&Value>) -> String {
    let empty = Map::new();
    let properties = schema.and_then(|schema| schema["properties"].as_object()).unwrap_or(&empty);
    if properties.is_empty() {
        return "settings   none\n".to_owned();
    }
    let required = schema.and_then(|schema| schema["required"].as_array());
    let mut text = "settings\n".to_owned();
    for (name, setting) in properties {
        let must = required.is_some_and(|required| required.iter().any(|key| key == name));
        let kind = match &setting["type"] {
            Value::String(kind) => kind.clone(),
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
            _ => String::new(),
        };
        let kind = [kind.as_str(), if must { "required" } else { "" }].join(" ").trim().to_owned();
        let about = setting["description"].as_str().unwrap_or_default().replace('\n', " ");
        let _ = writeln!(text, "  {name}{}{}", parenthesised(&kind), prefixed(&about));
    }
    text
}

fn parenthesised(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

fn prefixed(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_listed_with_type_and_need() {
        let schema = serde_json::json!({
            "properties": { "key": { "type": "string", "description": "The\nkey." }, "leeway": { "type": ["integer", "null"] } },
            "required": ["key"],
        });
        let text = describe_settings(Some(&schema));
        assert_eq!(text, "settings\n  key (string required): The key.\n  leeway (integer or null)\n");
        assert_eq!(describe_settings(Some(&serde_json::json!({}))), "settings   none\n");
    }
}
