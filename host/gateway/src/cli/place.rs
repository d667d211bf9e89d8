//! The options that choose a configuration and a running gateway.

use std::path::PathBuf;

use clap::Args;

use crate::admin::client::{self, AdminAddress};

/// The default paths of the configuration: in the current folder, else for the whole machine.
const PLACES: [&str; 2] = ["witgate.toml", "/etc/witgate"];

/// The default address of the admin listener.
const ADMIN: &str = "127.0.0.1:9900";

/// The options that choose a configuration.
#[derive(Args, Debug, Clone)]
pub(crate) struct ConfigPlace {
    /// File, or folder whose `*.toml` files are read together [default: witgate.toml, else /etc/witgate]
    #[arg(short, long, env = "WITGATE_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
}

impl ConfigPlace {
    /// The path given, or the first default that exists.
    pub(crate) fn path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| {
            let found = PLACES.iter().map(PathBuf::from).find(|path| path.exists());
            found.unwrap_or_else(|| PathBuf::from(PLACES[0]))
        })
    }
}

/// The options that choose a running gateway.
#[derive(Args, Debug, Clone)]
pub(crate) struct AdminPlace {
    #[command(flatten)]
    config: ConfigPlace,
    /// Admin listener: `127.0.0.1:9900`, or `unix:PATH` [default: as the configuration says]
    #[arg(long, env = "WITGATE_ADMIN", value_name = "ADDRESS")]
    admin: Option<String>,
    /// Bearer token for changes over TCP [default: as the configuration says]
    #[arg(long, env = "WITGATE_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl AdminPlace {
    /// Whether an option names the address, so that it is not taken from the configuration.
    pub(crate) fn is_given(&self) -> bool {
        self.admin.is_some()
    }

    /// The path of the configuration.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.config.path()
    }

    /// The address of the admin listener.
    pub(crate) fn place(&self) -> AdminAddress {
        if let Some(text) = &self.admin {
            return AdminAddress::parse(text, self.token.clone());
        }
        match client::place(&self.config.path()) {
            Some(AdminAddress::Tcp(address, token)) => {
                AdminAddress::Tcp(address, self.token.clone().or(token))
            }
            Some(place) => place,
            None => AdminAddress::Tcp(ADMIN.to_owned(), self.token.clone()),
        }
    }
}
