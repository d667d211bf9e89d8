//! `witgate cache`: the shared cache of a running gateway.

mod purge;
mod show;

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::exit::ExitResult;

/// Show what the shared cache of a running gateway holds, or remove something from it.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Show(show::Arguments),
    Purge(purge::Arguments),
}

/// Which stored responses are meant.
#[derive(Args)]
#[group(multiple = false)]
struct Selection {
    /// The responses of this URL, as clients ask for it
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The responses of all URLs that begin with this one
    #[arg(long, value_name = "URL")]
    prefix: Option<String>,
    /// The responses with this tag in `Surrogate-Key` or `Cache-Tag`
    #[arg(long)]
    tag: Option<String>,
    /// All responses
    #[arg(long)]
    all: bool,
}

impl Selection {
    /// The query of the admin request; `None` if nothing is selected.
    fn query(&self) -> Option<String> {
        let of = |name: &str, value: &Option<String>| {
            let value = value.as_ref()?;
            Some(format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        };
        let all = self.all.then(|| "all=true".to_owned());
        of("url", &self.url).or_else(|| of("prefix", &self.prefix)).or_else(|| of("tag", &self.tag)).or(all)
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    match &arguments.command {
        Command::Show(arguments) => show::run(arguments),
        Command::Purge(arguments) => purge::run(arguments),
    }
}
