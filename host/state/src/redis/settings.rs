//! The settings of a state of kind `redis`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use redis::{ClientTlsConfig, ConnectionAddr, RedisConnectionInfo, TlsCertificates};
use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::scalar::{self, Text};
use witgate_config::{Problem, Problems, Settings as Written, file};
use witgate_exchange::contracts::state::BuildContext;

/// The most bytes of a file with certificates or a key.
const PEM: u64 = 1 << 20;

/// Settings of a state of kind `redis`. It needs `[gateway] secret`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Addresses, each a host name or address with its port, e.g. `"redis.internal:6379"`. With `mode = "single"` there is
    /// one, with `"sentinel"` these are the sentinels, with `"cluster"` some of the cluster's servers.
    #[schemars(length(min = 1, max = 32))]
    servers: Vec<String>,
    /// How the servers are organised.
    #[serde(default)]
    mode: Mode,
    /// The name under which the sentinels know the master. Required with `mode = "sentinel"`.
    master: Option<String>,
    /// The user of Redis' access control list. Without it, the default user.
    username: Option<String>,
    /// The password of the user, best written as `"${file:/run/secrets/redis}"`.
    password: Option<String>,
    /// The user at the sentinels, which have an access control list of their own.
    sentinel_username: Option<String>,
    /// The password at the sentinels.
    sentinel_password: Option<String>,
    /// The number of the database. A cluster has only 0.
    #[serde(default)]
    database: u16,
    /// Encrypts the connections to all servers and verifies their certificates. `{}` trusts the system's authorities.
    tls: Option<Tls>,
    /// Whether connections without TLS to servers that are not on a loopback address are allowed. Everything that is
    /// stored can then be read and changed on the way.
    #[serde(default)]
    allow_plaintext: bool,
    /// How long a request waits for its draws to be counted before `on_unavailable` applies; from 1ms to 1s.
    #[serde(default = "budget")]
    budget: Text<scalar::Duration>,
    /// How long an operation of a plugin's store may take; from 1ms to 10s. The time budget of the plugin applies too.
    #[serde(default = "store_budget")]
    store_budget: Text<scalar::Duration>,
    /// What happens to draws that cannot be counted.
    #[serde(default)]
    on_unavailable: OnUnavailable,
    /// The number of gateways that count together; each admits that part of every limit while `on_unavailable = "local"`
    /// applies.
    #[serde(default = "gateways")]
    #[schemars(range(min = 1, max = 10_000))]
    gateways: u32,
    /// The longest life of a value in a plugin's store. It also applies to values without an end, each time they are
    /// written.
    #[serde(default = "longest_life")]
    longest_life: Text<scalar::Duration>,
}

/// How the servers are organised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// One server.
    #[default]
    Single,
    /// A master and replicas, with sentinels that know which one is the master.
    Sentinel,
    /// A cluster, in which each key belongs to one of several masters.
    Cluster,
}

/// What happens to draws that cannot be counted, because the servers do not respond in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnUnavailable {
    /// Each gateway counts by itself, and admits its part of every limit (see `gateways`).
    #[default]
    Local,
    /// Everything is admitted.
    Allow,
    /// The call of the rate-limiting binding counts as failed: with `on_failure = "deny"` the request is refused with 503.
    Deny,
}

/// Encryption of connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tls {
    /// A PEM file with the authorities that may have signed the servers' certificates, by its absolute path. Without it,
    /// those of the system.
    ca: Option<PathBuf>,
    /// A PEM file with the certificate of the gateway, for servers that ask for one, by its absolute path.
    certificate: Option<PathBuf>,
    /// A PEM file with its key, by its absolute path.
    key: Option<PathBuf>,
}

fn budget() -> Text<scalar::Duration> {
    Text::of("5ms")
}

fn store_budget() -> Text<scalar::Duration> {
    Text::of("100ms")
}

fn longest_life() -> Text<scalar::Duration> {
    Text::of("30d")
}

fn gateways() -> u32 {
    1
}

/// The checked settings.
pub(super) struct Options {
    pub(super) mode: Mode,
    pub(super) servers: Vec<ConnectionAddr>,
    pub(super) master: String,
    pub(super) login: RedisConnectionInfo,
    pub(super) sentinel_login: RedisConnectionInfo,
    pub(super) tls: Option<TlsCertificates>,
    pub(super) allow_plaintext: bool,
    pub(super) budget: Duration,
    pub(super) store_budget: Duration,
    pub(super) on_unavailable: OnUnavailable,
    pub(super) gateways: u32,
    pub(super) longest_life: Duration,
}

impl Options {
    /// Checks the settings.
    ///
    /// # Errors
    /// All problems of the settings.
    pub(super) fn read(written: &Written, context: BuildContext<'_>) -> Result<Options, Problems> {
        let settings: Settings = written.parse()?;
        let mut problems = Problems::new();
        let tls = settings.tls.as_ref().and_then(|tls| read_tls(tls, written, &mut problems));
        let servers = servers(&settings, written, &mut problems);
        check(&settings, written, &mut problems);
        if context.secrets.is_empty() {
            let hint =
                "set `[gateway] secret` to the same secret on all gateways: `openssl rand -hex 32` makes one";
            problems.push(written.problem(
                "",
                "a state that gateways share needs a secret that they share",
                Some(hint.to_owned()),
            ));
        }
        let mut within = |pointer: &str, value: &Text<scalar::Duration>, least: Duration, most: Duration| {
            let value = value.value.0;
            if value < least || value > most {
                problems.push(written.problem(
                    pointer,
                    format!("expected a duration from {least:?} to {most:?}"),
                    None,
                ));
            }
            value
        };
        let millisecond = Duration::from_millis(1);
        let second = Duration::from_secs(1);
        let budget = within("/budget", &settings.budget, millisecond, second);
        let store_budget = within("/store_budget", &settings.store_budget, millisecond, 10 * second);
        let longest_life = within("/longest_life", &settings.longest_life, second, 3650 * 86_400 * second);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Options {
            mode: settings.mode,
            servers,
            master: settings.master.unwrap_or_default(),
            login: login(settings.username, settings.password).set_db(settings.database.into()),
            sentinel_login: login(settings.sentinel_username, settings.sentinel_password),
            tls,
            allow_plaintext: settings.allow_plaintext,
            budget,
            store_budget,
            on_unavailable: settings.on_unavailable,
            gateways: settings.gateways,
            longest_life,
        })
    }
}

fn login(username: Option<String>, password: Option<String>) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default();
    if let Some(username) = username {
        login = login.set_username(username);
    }
    if let Some(password) = password {
        login = login.set_password(password);
    }
    login
}

/// Checks the rules that involve several settings.
fn check(settings: &Settings, written: &Written, problems: &mut Problems) {
    let mut report = |pointer: &str, message: &str, hint: &str| {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        problems.push(written.problem(pointer, message, hint));
    };
    let is_sentinel = settings.mode == Mode::Sentinel;
    if is_sentinel && settings.master.is_none() {
        report(
            "",
            "`master` is missing",
            "sentinels know several masters by name: `sentinel monitor NAME …`",
        );
    }
    let of_sentinels = [
        ("/master", settings.master.is_some()),
        ("/sentinel_username", settings.sentinel_username.is_some()),
        ("/sentinel_password", settings.sentinel_password.is_some()),
    ];
    for (pointer, _) in of_sentinels.iter().filter(|(_, is_set)| *is_set && !is_sentinel) {
        report(pointer, "only sentinels have this", "set `mode = \"sentinel\"`, or remove the key");
    }
    if settings.mode == Mode::Single && settings.servers.len() > 1 {
        report(
            "/servers",
            "a single server has one address",
            "set `mode` to `sentinel` or `cluster`, or name one server",
        );
    }
    if settings.mode == Mode::Cluster && settings.database != 0 {
        report("/database", "a cluster has only the database 0", "");
    }
    if settings.username.is_some() && settings.password.is_none() {
        report("/username", "a user needs a password", "set `password`");
    }
    if settings.mode == Mode::Cluster && settings.tls.is_none() && !settings.allow_plaintext {
        let hint = "set `tls = {}`, or `allow_plaintext = true` if nobody else can reach that network";
        report(
            "",
            "the servers of a cluster tell each other's addresses, and connections to them would not be encrypted",
            hint,
        );
    }
}

/// The addresses, with or without TLS.
fn servers(settings: &Settings, written: &Written, problems: &mut Problems) -> Vec<ConnectionAddr> {
    let mut servers = Vec::new();
    for (index, text) in settings.servers.iter().enumerate() {
        let pointer = format!("/servers/{index}");
        let Some((host, port)) = split(text) else {
            let hint = "write a host and a port, e.g. \"redis.internal:6379\" or \"[2001:db8::1]:6379\"";
            problems.push(written.problem(
                &pointer,
                format!("{text:?} is no address"),
                Some(hint.to_owned()),
            ));
            continue;
        };
        if settings.tls.is_none() && !settings.allow_plaintext && !is_loopback(&host) {
            problems.push(plaintext(written, &pointer, &host));
        }
        servers.push(address(host, port, settings.tls.is_some()));
    }
    servers
}

/// One address, with or without TLS.
pub(super) fn address(host: String, port: u16, tls: bool) -> ConnectionAddr {
    if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

fn plaintext(written: &Written, pointer: &str, host: &str) -> Problem {
    let hint = "set `tls = {}`, or `allow_plaintext = true` if nobody else can reach that network";
    written.problem(
        pointer,
        format!("the connection to {host} would not be encrypted"),
        Some(hint.to_owned()),
    )
}

/// Whether a connection to this host stays on this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Host and port of an address. An IPv6 address is in brackets.
fn split(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let bracketed = text.starts_with('[');
    (!host.is_empty() && host.bytes().all(plain) && (bracketed || !host.contains(':')))
        .then(|| (host.to_owned(), port))
}

fn read_tls(tls: &Tls, written: &Written, problems: &mut Problems) -> Option<TlsCertificates> {
    let mut read = |key: &str, path: &Option<PathBuf>| -> Option<Vec<u8>> {
        let path = path.as_ref()?;
        let pointer = format!("/tls/{key}");
        if path.is_relative() {
            let hint = Some("write the whole path, from `/`".to_owned());
            problems.push(written.problem(&pointer, "the path is not absolute", hint));
            return None;
        }
        match file::read(path, PEM) {
            Ok(pem) => Some(pem),
            Err(error) => {
                problems.push(written.problem(&pointer, format!("{}: {error}", path.display()), None));
                None
            }
        }
    };
    let (root_cert, certificate, key) =
        (read("ca", &tls.ca), read("certificate", &tls.certificate), read("key", &tls.key));
    if tls.certificate.is_some() != tls.key.is_some() {
        problems.push(written.problem(
            "/tls",
            "`certificate` and `key` belong together",
            Some("set both, or none".to_owned()),
        ));
    }
    let client_tls =
        certificate.zip(key).map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    Some(TlsCertificates { client_tls, root_cert })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use witgate_config::model::Secret;

    use super::*;

    fn read(value: &Value, secrets: &[Secret]) -> Result<Options, String> {
        let written = Written::unwritten("state.s", value.as_object().cloned().expect("a table"));
        Options::read(
            &written,
            BuildContext { secrets, serving: false, memory: || unreachable!("nothing is built") },
        )
        .map_err(|problems| {
            problems.iter().map(|problem| format!("{}: {}\n", problem.key, problem.message)).collect()
        })
    }

    fn told(value: Value) -> String {
        read(&value, &[Secret::new([7; 32])]).err().unwrap_or_default()
    }

    #[test]
    fn a_connection_that_others_could_read_is_refused_unless_it_is_allowed() {
        for server in ["10.0.0.1:6379", "redis.internal:6379", "[2001:db8::1]:6379", "localhost.example:6379"]
        {
            assert!(told(json!({ "servers": [server] })).contains("would not be encrypted"), "{server}");
            assert_eq!(told(json!({ "servers": [server], "allow_plaintext": true })), "");
            assert_eq!(told(json!({ "servers": [server], "tls": {} })), "");
        }
        for server in
            ["127.0.0.1:6379", "127.8.0.1:1", "[::1]:6379", "localhost:6379", "[::ffff:127.0.0.1]:6379"]
        {
            assert_eq!(told(json!({ "servers": [server] })), "", "{server}");
        }
        let cluster = json!({ "servers": ["127.0.0.1:6379"], "mode": "cluster" });
        assert!(told(cluster).contains("would not be encrypted"));
    }

    #[test]
    fn a_shared_state_needs_a_shared_secret() {
        let told = read(&json!({ "servers": ["127.0.0.1:6379"] }), &[]).err().unwrap_or_default();
        assert!(told.contains("needs a secret"), "{told}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key_and_all_at_once() {
        let told = told(json!({
            "servers": ["127.0.0.1", "[::1:6379", "::1:6379", "a b:1", "h:0", ":1"],
            "budget": "2s", "store_budget": "1us", "master": "m", "username": "u",
            "tls": { "ca": "ca.pem", "certificate": "/nowhere/at/all.pem" }
        }));
        for part in [
            "servers[0]",
            "servers[1]",
            "servers[2]",
            "servers[3]",
            "servers[4]",
            "servers[5]",
            "state.s.budget",
            "store_budget",
            "master",
            "username",
            "tls.ca: the path is not absolute",
            "/nowhere/at/all.pem",
            "belong together",
            "one address",
        ] {
            assert!(told.contains(part), "{part} is missing in:\n{told}");
        }
        let told = self::told(json!({ "servers": [], "gateways": 0, "no_such_key": 1, "mode": "ring" }));
        for part in ["servers", "gateways", "no_such_key", "mode"] {
            assert!(told.contains(part), "{part} is missing in:\n{told}");
        }
        assert!(
            self::told(json!({ "servers": ["127.0.0.1:1"], "mode": "sentinel" }))
                .contains("`master` is missing")
        );
    }
}
