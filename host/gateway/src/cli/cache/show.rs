//! `witgate cache show`

use std::fmt::Write as _;

use clap::Args;
use http::Method;

use super::Selection;
use crate::admin::cache::CacheStatus;
use crate::admin::client::ask;
use crate::cli::output::{Format, print, table};
use crate::cli::place::AdminPlace;
use crate::cli::status::read;
use crate::exit::ExitResult;

/// Show how much the cache holds and how often it was used, and the stored responses that are selected, 1,000 at most.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    admin: AdminPlace,
    #[command(flatten)]
    format: Format,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> ExitResult {
    let query = arguments.selection.query().map_or_else(String::new, |query| format!("?{query}"));
    let place = arguments.admin.place();
    let answer = ask(&place, Method::GET, &format!("/cache{query}"))?;
    let status: CacheStatus = read(&place, &answer)?;
    print(arguments.format, &status, || describe(&status))
}

fn describe(status: &CacheStatus) -> String {
    let mut text = String::new();
    let results: Vec<_> = status.results.iter().map(|(name, count)| format!("{name} {count}")).collect();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{} of {} bytes in {} resources, {} bytes being stored\nrequests: {}",
        status.bytes,
        status.memory,
        status.resources,
        status.filling_bytes,
        results.join(", ")
    );
    if !status.responses.is_empty() {
        let rows: Vec<_> = status
            .responses
            .iter()
            .map(|stored| {
                [
                    stored.url.clone(),
                    stored.status.to_string(),
                    stored.bytes.to_string(),
                    format!("{} s", stored.age),
                    if stored.fresh == 0 { "stale".to_owned() } else { format!("{} s", stored.fresh) },
                    stored.tags.join(" "),
                ]
            })
            .collect();
        text.push_str(&table(["URL", "STATUS", "BYTES", "AGE", "FRESH", "TAGS"], &rows));
    }
    text
}
