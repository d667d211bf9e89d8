//! `witgate run`

use clap::Args;

use super::place::ConfigPlace;
use super::validate;
use crate::control;
use crate::control::source::Source;
use crate::exit::ExitResult;
use crate::process;

/// Run the gateway until it is told to end.
///
/// SIGHUP reloads; so does a change of any file the configuration depends on. SIGTERM, SIGINT and SIGQUIT drain:
/// requests in flight are finished within `drain_timeout`, and idle connections are closed after `drain_idle`. A
/// second one ends the process at once.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigPlace,
    /// Only validate the configuration, as `witgate validate`
    #[arg(short = 't', long)]
    test: bool,
    /// End with this process, which runs the gateway for a command
    #[arg(long, value_name = "ID", hide = true)]
    parent: Option<u32>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let path = arguments.config.path();
    if let Some(parent) = arguments.parent {
        process::end_with(parent).map_err(anyhow::Error::from)?;
    }
    if arguments.test { validate::validate(path) } else { control::run(Source::Path(path)) }
}
