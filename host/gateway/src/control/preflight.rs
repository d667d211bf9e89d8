//! What a configuration needs of the machine besides free addresses: TLS files, a folder for the admin socket, an
//! access log that can be opened. `witgate validate`, a start and a reload check it by this code, so that none of them
//! accepts what another refuses. Addresses are not bound here, because a running gateway may hold them.

use std::io::{self, ErrorKind};

use witgate_config::model::{LogTarget, Telemetry};
use witgate_config::{Problem, Problems};
use witgate_proxy::listener::ListenerTls;
use witgate_telemetry::queue;

use super::source::{ConfigReading, Refusal};
use crate::admin::sockets;
use crate::exit::Exit;

/// Checks all of it, and returns the TLS files of the listeners.
///
/// # Errors
/// All problems at once.
pub(super) fn check(reading: &ConfigReading) -> Result<ListenerTls, Refusal> {
    let config = &reading.config;
    let mut problems = Problems::new();
    problems.extend(sockets::check(&config.admin).err());
    problems.extend(check_access_log(&config.telemetry).err());
    match ListenerTls::read(config) {
        Ok(tls) if problems.is_empty() => Ok(tls),
        outcome => {
            problems.extend(outcome.err().unwrap_or_default());
            Err(reading.refusal(Exit::Config, problems))
        }
    }
}

fn check_access_log(telemetry: &Telemetry) -> Result<(), Problem> {
    let Some(LogTarget::File(path)) = &telemetry.access_log else { return Ok(()) };
    queue::check(path).map_err(|error| {
        let message = format!("the access log `{}` cannot be opened: {error}", path.display());
        let problem = Problem::new(message).with_hint(access_log_hint(&error));
        Problem { key: "telemetry.access_log".to_owned(), ..problem }
    })
}

fn access_log_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            "create its folder; the file is made by the gateway"
        }
        ErrorKind::PermissionDenied => "let the gateway's user write to the file and its folder",
        ErrorKind::IsADirectory => "name a file in this folder",
        ErrorKind::ReadOnlyFilesystem => "name a file in a folder that can be written to",
        _ => "name a file that can be appended to, or write `\"stdout\"`, `\"stderr\"` or `\"off\"`",
    }
}
