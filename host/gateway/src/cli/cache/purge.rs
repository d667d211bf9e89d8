//! `witgate cache purge`

use clap::Args;
use http::Method;

use super::Selection;
use crate::admin::cache::Purged;
use crate::admin::client::ask;
use crate::cli::output::{Format, print};
use crate::cli::place::AdminPlace;
use crate::cli::status::read;
use crate::exit::{Exit, ExitResult, Failure};

/// Remove responses from the cache, whoever they are for. What is on its way to the cache is not stored either.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Only make them stale: they are revalidated before they are used, and stay for when the upstream fails
    #[arg(long)]
    soft: bool,
    #[command(flatten)]
    admin: AdminPlace,
    #[command(flatten)]
    format: Format,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> ExitResult {
    let Some(query) = arguments.selection.query() else {
        return Err(Failure::new(Exit::Usage, "say what is removed: --url, --prefix, --tag or --all"));
    };
    let soft = if arguments.soft { "&soft=true" } else { "" };
    let place = arguments.admin.place();
    let answer = ask(&place, Method::POST, &format!("/cache/purge?{query}{soft}"))?;
    let Purged { purged } = read(&place, &answer)?;
    let did = if arguments.soft { "made stale" } else { "removed" };
    print(arguments.format, &Purged { purged }, || format!("{purged} responses {did}\n"))
}
