//! `witgate config show`

use clap::Args;
use serde::Serialize;
use witgate_config::{EffectiveValue, show};

use crate::cli::output::{Format, print};
use crate::cli::place::ConfigPlace;
use crate::control::source::Refusal;
use crate::exit::{Exit, ExitResult, Failure};

/// Print the effective configuration: each value, and the place from which it comes.
///
/// Values come from a file, from `[defaults]` in a file, or from the gateway itself. A value with references such as
/// `${NAME}` is shown as it is written. What looks like a secret is hidden: texts under keys with names such as `password`
/// or `token`, texts in the settings of plugins, and URLs with a user name.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Show this key and those below it only, e.g. `upstreams.users`
    key: Option<String>,
    /// Leave out what neither a file nor its `[defaults]` says
    #[arg(long)]
    written: bool,
    #[command(flatten)]
    config: ConfigPlace,
    #[command(flatten)]
    format: Format,
}

/// A value, for programs.
#[derive(Serialize)]
struct Row {
    key: String,
    value: String,
    /// `file:line:column`; absent for what the gateway itself has as default.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Whether it comes from `[defaults]`.
    inherited: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> ExitResult {
    let refused = |failure: witgate_config::Failure| {
        Failure::from(Refusal::without_files(Exit::Config, failure.problems, failure.sources))
    };
    let shown = show(&arguments.config.path()).map_err(refused)?;
    let rows: Vec<Row> = shown.into_iter().filter(|shown| wanted(arguments, shown)).map(Row::from).collect();
    if let Some(key) = arguments.key.as_ref().filter(|_| rows.is_empty()) {
        return Err(Failure::new(
            Exit::Failure,
            format!("the configuration has no value at or below `{key}`"),
        ));
    }
    print(arguments.format, &rows, || text(&rows))
}

fn wanted(arguments: &Arguments, shown: &EffectiveValue) -> bool {
    let key = arguments.key.as_deref().unwrap_or_default();
    let below = |rest: &str| rest.is_empty() || key.is_empty() || rest.starts_with(['.', '[']);
    (shown.from.is_some() || !arguments.written) && shown.key.strip_prefix(key).is_some_and(below)
}

impl From<EffectiveValue> for Row {
    fn from(EffectiveValue { key, value, from, inherited }: EffectiveValue) -> Row {
        Row { key, value, from, inherited }
    }
}

fn text(rows: &[Row]) -> String {
    let lines: Vec<String> = rows.iter().map(|row| format!("{} = {}", row.key, row.value)).collect();
    // Longer lines, e.g. of long lists, do not move all places to the right.
    let widest =
        lines.iter().map(|line| line.chars().count()).filter(|width| *width <= 72).max().unwrap_or(0);
    let with_place = lines.iter().zip(rows).map(|(line, row)| {
        let place = row.from.as_deref().unwrap_or("default");
        let inherited = if row.inherited { " [defaults]" } else { "" };
        format!("{line:<widest$}  # {place}{inherited}\n")
    });
    with_place.collect()
}
