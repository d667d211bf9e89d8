//! `witgate version`

use clap::Args;
use serde::Serialize;

use super::output::{Format, print};
use crate::exit::ExitResult;

/// Print the version, and the versions of the plugin border it serves.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Version {
    witgate: &'static str,
    plugin_packages: [&'static str; 2],
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let plugin_packages = ["witgate:plugin@0.1.0", "witgate:plugin@0.2.0 (draft)"];
    let version = Version { witgate: env!("CARGO_PKG_VERSION"), plugin_packages };
    print(arguments.format, &version, || {
        format!("witgate {}\nplugins  {}\n", version.witgate, version.plugin_packages.join(", "))
    })
}
