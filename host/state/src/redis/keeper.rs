//! The thread that connects to the servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::cluster::ClusterClientBuilder;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult,
    TlsMode,
};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::link::{Connection, Link};
use super::script::{Script, ScriptCall};
use super::settings::{Mode, Options, is_loopback};

/// The most time for making a connection, including the resolution of the name and the handshakes.
const CONNECT: Duration = Duration::from_secs(2);

/// The pause after the first failure; it doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often an idle connection is checked.
const CHECK: Duration = Duration::from_secs(1);

/// How long a check may take before the connection counts as dead. It is longer than the budget of a decision: one
/// slow reply is not a failure, and several in a row are counted by the link.
const CHECK_TIME: Duration = Duration::from_millis(500);

/// Starts the thread. It ends when the sender of `stop` is dropped.
///
/// # Errors
/// The system cannot start a thread.
pub(super) fn start(
    name: &str,
    options: Arc<Options>,
    link: Arc<Link>,
    trial: Trial,
    stop: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("state-{name}")).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                // The sender is dropped with the last user of the state; nothing is ever sent.
                _ = stop => {}
                () = keep(&options, &link, &trial) => {}
            }
        });
        // The thread does not wait for the resolution of a name.
        runtime.shutdown_background();
    })?;
    Ok(())
}

/// A call that shows that the servers can be used. It writes, so that a replica refuses it, and its name has the
/// form of all others, so that an access control list that refuses those refuses this one too.
pub(super) struct Trial {
    pub(super) script: Arc<Script>,
    pub(super) call: ScriptCall,
}

/// Keeps the link connected. Never returns.
async fn keep(options: &Options, link: &Link, trial: &Trial) {
    let mut pause = PAUSE;
    loop {
        match attempt(options, trial).await {
            Ok(connection) => {
                link.put(connection);
                pause = PAUSE;
                watch(link, trial).await;
            }
            Err(problem) => link.set_problem(Some(problem)),
        }
        // A random part spreads the attempts of gateways that lost their connections at the same time.
        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

/// Makes a connection and tests it with the trial.
async fn attempt(options: &Options, trial: &Trial) -> Result<Connection, String> {
    let connection = match timeout(CONNECT, connect(options)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(problem)) => return Err(problem),
        Err(_) => return Err(format!("no connection was made within {CONNECT:?}")),
    };
    // The first call may have to send the text of the script.
    match timeout(CHECK_TIME, connection.run(&trial.script, &trial.call)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("it did not answer within {CHECK_TIME:?}")),
    }
    let begun = Instant::now();
    match connection.run(&trial.script, &trial.call).await {
        Ok(_) if begun.elapsed() <= options.budget => Ok(connection),
        Ok(_) => Err(format!(
            "its answer took {:?}, which is longer than the budget of {:?}",
            begun.elapsed(),
            options.budget
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// Checks the connection until it is withdrawn.
async fn watch(link: &Link, trial: &Trial) {
    loop {
        tokio::select! {
            // The notification may be about the previous connection, so the link is checked below.
            () = link.lost() => {}
            () = sleep(CHECK) => {}
        }
        let Some(connection) = link.connection() else { return };
        let problem = match timeout(CHECK_TIME, connection.run(&trial.script, &trial.call)).await {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it did not answer within {CHECK_TIME:?}"),
        };
        link.withdraw(&connection, problem);
    }
}

/// Makes a connection. Each attempt uses a new client, because clients remember servers that may be gone.
async fn connect(options: &Options) -> Result<Connection, String> {
    let connection = match options.mode {
        Mode::Single => open(&told(single(options))?).await,
        Mode::Sentinel => {
            let master = told(told(sentinel(options))?.async_get_client().await)?;
            check_master(options, master.get_connection_info().addr())?;
            open(&master).await
        }
        Mode::Cluster => cluster(options).await,
    };
    told(connection)
}

fn told<T>(result: RedisResult<T>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// Checks the address of the master, because a sentinel must not redirect the gateway to an unencrypted connection
/// over a network.
fn check_master(options: &Options, address: &ConnectionAddr) -> Result<(), String> {
    match address {
        ConnectionAddr::Tcp(host, _) if !options.allow_plaintext && !is_loopback(host) => Err(format!(
            "the sentinels say that the master is {host}, and that connection would not be encrypted"
        )),
        _ => Ok(()),
    }
}

async fn open(client: &Client) -> RedisResult<Connection> {
    // Each use of the connection has its own time limit.
    let config =
        AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(Some(CONNECT));
    client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Server)
}

fn single(options: &Options) -> RedisResult<Client> {
    let server = options.servers.first().expect("the schema asks for at least one server").clone();
    let server = server.into_connection_info()?.set_redis_settings(options.login.clone());
    match &options.tls {
        Some(certificates) => Client::build_with_tls(server, certificates.clone()),
        None => Client::open(server),
    }
}

fn sentinel(options: &Options) -> RedisResult<SentinelClient> {
    let servers = options.servers.clone();
    let mut builder = SentinelClientBuilder::new(servers, &options.master, SentinelServerType::Master)?
        .set_client_to_redis_db(options.login.db());
    if let Some((username, password)) = credentials(&options.login) {
        builder = builder.set_client_to_redis_password(password);
        if let Some(username) = username {
            builder = builder.set_client_to_redis_username(username);
        }
    }
    if let Some((username, password)) = credentials(&options.sentinel_login) {
        builder = builder.set_client_to_sentinel_password(password);
        if let Some(username) = username {
            builder = builder.set_client_to_sentinel_username(username);
        }
    }
    if let Some(certificates) = &options.tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates.clone());
    }
    builder.build()
}

async fn cluster(options: &Options) -> RedisResult<Connection> {
    let mut builder = ClusterClientBuilder::new(options.servers.clone()).connection_timeout(CONNECT);
    if let Some((username, password)) = credentials(&options.login) {
        builder = builder.password(password);
        if let Some(username) = username {
            builder = builder.username(username);
        }
    }
    if let Some(certificates) = &options.tls {
        builder = builder.tls(TlsMode::Secure).certs(certificates.clone());
    }
    builder.build()?.get_async_connection().await.map(Connection::Cluster)
}

fn credentials(login: &RedisConnectionInfo) -> Option<(Option<&str>, &str)> {
    login.password().map(|password| (login.username(), password))
}
