//! `witgate proxy`

use std::sync::Arc;

use clap::Args;
use witgate_config::SourceMap;

use crate::control;
use crate::control::source::{Refusal, Source};
use crate::exit::{Exit, ExitResult};

/// Forward everything that arrives at one address to another; no configuration file is needed.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Address to listen on, e.g. `127.0.0.1:8080` or `:8080`
    #[arg(long)]
    from: String,
    /// Where to forward to, e.g. `127.0.0.1:3000` or `http://localhost:3000`
    #[arg(long)]
    to: String,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let config = witgate_config::proxy_config(&arguments.from, &arguments.to)
        .map_err(|problems| Refusal::without_files(Exit::Usage, problems, SourceMap::default()))?;
    control::run(Source::Made(Arc::new(config)))
}
