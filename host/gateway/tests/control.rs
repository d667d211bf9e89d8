//! A running gateway and those who change it: files, signals, the admin listener, the commands.

use std::net::SocketAddr;
use std::process::{Command, Output};

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use rustix::process::Signal;
use witgate_tests::{Client, Gateway, Origin, Reply, Scratch, eventually};

fn saying(words: &str) -> String {
    format!("[[routes]]\npath = \"/*\"\nrespond = {{ body = \"{words}\" }}\n")
}

/// What [`Gateway::start`] puts in front.
const PREAMBLE: &str = "[admin]\naddress = \"off\"\nsocket = \"admin.sock\"\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n";

async fn words(gateway: &Gateway) -> String {
    gateway.client().await.get("/", &[]).await.text().to_owned()
}

async fn reply(address: SocketAddr, method: Method, target: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Client::http1(address).await.send(request.body(Full::default()).expect("a request")).await
}

fn command(gateway: &Gateway, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_witgate"))
        .args(arguments)
        .args(["--config", "witgate.toml"])
        .current_dir(gateway.scratch.path())
        .output()
        .expect("the binary can be run")
}

#[tokio::test]
async fn a_changed_file_takes_effect_by_itself() {
    let gateway = Gateway::start(Scratch::new(), &saying("one")).await;
    assert_eq!(words(&gateway).await, "one");
    gateway.reconfigure(&format!("{PREAMBLE}{}", saying("two"))).await;
    assert_eq!(words(&gateway).await, "two");
}

#[tokio::test]
async fn a_file_written_in_two_halves_takes_effect_when_it_is_whole() {
    let gateway = Gateway::start(Scratch::new(), &saying("one")).await;
    let whole = format!("{PREAMBLE}{}", saying("two"));
    std::fs::write(gateway.scratch.config(), &whole[..whole.len() - 8]).expect("written");
    eventually("the half to be refused", async || !last_change(&gateway).await["applied"].as_bool().unwrap())
        .await;
    assert_eq!(words(&gateway).await, "one", "the last good version serves");
    std::fs::write(gateway.scratch.config(), &whole).expect("written");
    eventually("the whole to be taken", async || words(&gateway).await == "two").await;
}

async fn last_change(gateway: &Gateway) -> serde_json::Value {
    gateway.admin_get("/status").await.json()["last_change"].clone()
}

#[tokio::test]
async fn a_bad_configuration_keeps_the_last_good_one_and_every_way_of_asking_says_why() {
    let gateway = Gateway::start(Scratch::new(), &saying("one")).await;
    let version = gateway.version().await;
    gateway.scratch.write("witgate.toml", format!("{PREAMBLE}{}nonsense = 1\n", saying("two")));
    eventually("the refusal", async || !last_change(&gateway).await["applied"].as_bool().unwrap()).await;

    let change = last_change(&gateway).await;
    assert!(change["problems"][0].as_str().unwrap().contains("witgate.toml:10:1"), "{change}");
    assert!(gateway.metric("witgate_reloads_total", &["result=\"failed\""]).await >= 1.0);
    // The log is written by a thread of its own.
    eventually("the log to say why", async || gateway.output().contains("nonsense")).await;
    let reloaded = command(&gateway, &["reload"]);
    assert_eq!(reloaded.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&reloaded.stderr).contains("nonsense"));
    let status = command(&gateway, &["status"]);
    assert_eq!(status.status.code(), Some(0), "although the configuration on disk is bad");
    assert!(String::from_utf8_lossy(&status.stdout).contains("REFUSED"));

    assert_eq!(words(&gateway).await, "one");
    assert_eq!(gateway.version().await, version);
}

#[tokio::test]
async fn a_signal_reloads_and_a_reload_that_finds_nothing_new_leaves_everything_in_service() {
    let gateway = Gateway::start(Scratch::new(), &saying("one")).await;
    let version = gateway.version().await;
    gateway.signal(Signal::HUP);
    eventually("the reload", async || last_change(&gateway).await["reason"] == "SIGHUP").await;
    assert!(last_change(&gateway).await["applied"].as_bool().unwrap());
    assert_eq!(gateway.version().await, version);
    let reloaded = gateway.admin_post("/reload").await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    assert_eq!(reloaded.json()["applied"], true);
    assert_eq!(gateway.version().await, version);
}

#[tokio::test]
async fn a_reload_that_cannot_bind_its_listener_is_refused_as_a_whole() {
    let gateway = Gateway::start(Scratch::new(), &saying("one")).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let another = format!("[[listeners]]\nname = \"more\"\naddress = \"{}\"\n", taken.local_addr().unwrap());
    gateway.scratch.write("witgate.toml", format!("{PREAMBLE}{another}{}", saying("two")));
    eventually("the refusal", async || !last_change(&gateway).await["applied"].as_bool().unwrap()).await;
    assert_eq!(words(&gateway).await, "one");
}

#[tokio::test]
async fn the_configuration_may_be_a_folder_and_a_new_file_in_it_counts() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("witgate.toml");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("10.toml"), PREAMBLE.replace("admin.sock", "../admin.sock")).expect("written");
    std::fs::write(folder.join("20.toml"), saying("one")).expect("written");
    let gateway = Gateway::attend(scratch).await;
    let more = "[[routes]]\npath = \"/more\"\nrespond = { body = \"more\" }\n";
    std::fs::write(folder.join("30.toml"), more).expect("written");
    eventually("the new file", async || gateway.client().await.get("/more", &[]).await.text() == "more")
        .await;
}

#[tokio::test]
async fn status_tells_what_is_in_service_and_what_lies_about() {
    let scratch = Scratch::new();
    scratch.write("plugins/stray.wasm", "whatever");
    let bound = "[gateway]\nstart = \"degraded\"\n[plugins.gone]\n[bindings.door]\nplugin = \"gone\"\n";
    let gateway = Gateway::start(scratch, &format!("{bound}{}", saying("one"))).await;
    let status = gateway.admin_get("/status").await.json();
    assert_eq!(status["phase"], "running");
    assert_eq!(status["undeclared"], serde_json::json!(["stray.wasm"]));
    assert_eq!(status["listeners"][0]["address"], gateway.address().to_string());
    let door = &status["bindings"][0];
    assert_eq!((door["binding"].as_str(), door["plugin"].as_str()), (Some("door"), Some("gone")));
    assert_eq!(door["state"], "unavailable");
    assert!(door["problem"].as_str().unwrap().contains("gone.wasm"), "{door}");

    let text = String::from_utf8(command(&gateway, &["status"]).stdout).expect("text");
    for part in ["stray.wasm", "unavailable", "gone.wasm", "web"] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}

#[tokio::test]
async fn a_binding_without_its_plugin_fails_closed_until_the_plugin_comes() {
    let bound = "[gateway]\nstart = \"degraded\"\nplugins = [\"door\"]\n[plugins.door]\n[bindings.door]\n";
    let gateway = Gateway::start(Scratch::new(), &format!("{bound}{}", saying("one"))).await;
    let reply = gateway.client().await.get("/", &[]).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    let bound = bound.replace("[bindings.door]\n", "[bindings.door]\non_failure = \"skip\"\n");
    gateway.reconfigure(&format!("{PREAMBLE}{bound}{}", saying("one"))).await;
    let reply = gateway.client().await.get("/", &[]).await;
    assert_eq!(reply.status, 401, "nobody is known: {}", reply.text());
}

#[tokio::test]
async fn a_socket_is_private_and_changes_by_it_need_no_token() {
    use std::os::unix::fs::PermissionsExt;
    let mut gateway = Gateway::start(Scratch::new(), &saying("one")).await;
    let socket = gateway.scratch.path().join("admin.sock");
    assert_eq!(std::fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777, 0o600);
    assert_eq!(gateway.admin_get("/reload").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(gateway.admin_post("/plugins/none/rollback").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(gateway.admin_get("/nothing").await.status, StatusCode::NOT_FOUND);
    assert_eq!(gateway.admin_post("/drain").await.status, StatusCode::ACCEPTED);
    assert_eq!(gateway.exit().await.code(), Some(0), "{}", gateway.output());
    assert!(!socket.exists(), "it tidies up behind itself");
}

#[tokio::test]
async fn over_tcp_strangers_read_little_and_change_nothing() {
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"admin.sock\"\ntoken = \"0123456789abcdef\"\nhosts = [\"gw.internal\"]\n";
    let rest = PREAMBLE.split_once("[[").expect("listeners follow").1;
    let toml = format!("{admin}[[{rest}{}", saying("one"));
    let gateway = Gateway::start_exactly(Scratch::new(), &toml).await;
    let status = gateway.admin_get("/status").await.json();
    let address: SocketAddr =
        status["admin"].as_str().and_then(|text| text.parse().ok()).expect("an address");
    let host = address.to_string();
    let post = async |headers: &[(&str, &str)]| reply(address, Method::POST, "/reload", headers).await.status;
    let token = "Bearer 0123456789abcdef";

    assert_eq!(post(&[("host", &host)]).await, StatusCode::UNAUTHORIZED);
    assert_eq!(
        post(&[("host", &host), ("authorization", "Bearer 0123456789abcdee")]).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        post(&[("host", "evil.example"), ("authorization", token)]).await,
        StatusCode::MISDIRECTED_REQUEST
    );
    assert_eq!(post(&[("host", &host), ("authorization", token)]).await, StatusCode::OK);
    assert_eq!(post(&[("host", "gw.internal:9900"), ("authorization", token)]).await, StatusCode::OK);

    let get = reply(address, Method::GET, "/reload", &[("host", &host), ("authorization", token)]).await;
    assert_eq!(get.status, StatusCode::METHOD_NOT_ALLOWED);
    let preflight =
        reply(address, Method::OPTIONS, "/reload", &[("host", &host), ("origin", "http://evil.example")])
            .await;
    assert!(!preflight.headers.contains_key("access-control-allow-origin"));
    let rebound = reply(address, Method::GET, "/status", &[("host", "evil.example")]).await;
    assert_eq!(rebound.status, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(reply(address, Method::GET, "/healthz", &[("host", &host)]).await.status, StatusCode::OK);

    let gone =
        Gateway::start_exactly(Scratch::new(), &toml.replace("token = \"0123456789abcdef\"\n", "")).await;
    let status = gone.admin_get("/status").await.json();
    let address: SocketAddr =
        status["admin"].as_str().and_then(|text| text.parse().ok()).expect("an address");
    let refused =
        reply(address, Method::POST, "/reload", &[("host", "localhost"), ("authorization", "Bearer ")]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "without a token, changes go by the socket only");
}

#[tokio::test]
async fn the_admin_listener_follows_the_configuration() {
    let gateway = Gateway::start(Scratch::new(), &saying("one")).await;
    let moved = PREAMBLE.replace("address = \"off\"", "address = \"127.0.0.1:0\"");
    gateway.reconfigure(&format!("{moved}{}", saying("one"))).await;
    let status = gateway.admin_get("/status").await.json();
    let address: SocketAddr =
        status["admin"].as_str().and_then(|text| text.parse().ok()).expect("an address");
    assert_eq!(reply(address, Method::GET, "/readyz", &[("host", "localhost")]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_service_manager_is_told() {
    let scratch = Scratch::new();
    let socket = std::os::unix::net::UnixDatagram::bind(scratch.path().join("notify")).expect("a socket");
    socket.set_read_timeout(Some(witgate_tests::DEADLINE)).expect("a deadline");
    scratch.write("witgate.toml", format!("{PREAMBLE}{}", saying("one")));
    let mut process = Command::new(env!("CARGO_BIN_EXE_witgate"))
        .args(["run"])
        .current_dir(scratch.path())
        .env("NOTIFY_SOCKET", scratch.path().join("notify"))
        .spawn()
        .expect("the binary can be run");
    let told = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("a notice");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let send = |signal| {
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, signal).expect("the process is ours");
    };
    assert_eq!(told(), "READY=1\n");
    send(Signal::HUP);
    let reloading = told();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(told(), "READY=1\n");
    send(Signal::TERM);
    assert_eq!(told(), "STOPPING=1\n");
    assert!(process.wait().expect("it ends").success());
}

#[tokio::test]
async fn an_endpoint_is_drained_and_weighed_without_a_reload() {
    let (first, second) = (Origin::named("first").await, Origin::named("second").await);
    let upstream = |weight: u32| {
        format!(
            "[[routes]]\nupstream = \"users\"\n[upstreams.users]\nendpoints = [\n  {{ address = \"{}\", weight = {weight} }},\n  \"{}\",\n]\n",
            first.address(),
            second.address()
        )
    };
    let gateway = Gateway::start(Scratch::new(), &upstream(1)).await;
    let address = first.address().to_string();
    let set = |arguments: &[&str]| {
        command(&gateway, &[&["upstreams", "set", "users", address.as_str()][..], arguments].concat())
    };
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();

    let drained = set(&["--drain", "--weight", "5"]);
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    assert_eq!(text(&drained), format!("users {address}: weight 5, drained, 0 in flight\n"));
    for _ in 0..4 {
        assert!(words(&gateway).await.starts_with("second"));
    }
    // A reload that says nothing else about it leaves it so; one that does is believed.
    gateway.reconfigure(&format!("{PREAMBLE}{}connect_timeout = \"3s\"\n", upstream(1))).await;
    assert!(text(&set(&["--undrain"])).contains("weight 5, available"));
    gateway.reconfigure(&format!("{PREAMBLE}{}", upstream(2))).await;
    assert!(text(&set(&["--drain"])).contains("weight 2, drained"));
    assert!(text(&set(&["--reset"])).contains("weight 2, available"));

    assert_eq!(set(&[]).status.code(), Some(2), "something must change");
    let unknown = command(&gateway, &["upstreams", "set", "users", "nowhere:1", "--drain"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no endpoint `nowhere:1`"));
    let target = format!("/upstreams/users/endpoints/{address}");
    assert_eq!(
        gateway.admin_get(&format!("{target}?drain=true")).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(gateway.admin_post(&format!("{target}?drain=maybe")).await.status, StatusCode::BAD_REQUEST);
    let json = gateway.admin_post(&format!("{target}?weight=0")).await.json();
    assert_eq!((&json["weight"], &json["written_weight"]), (&0.into(), &2.into()));
}

#[tokio::test]
async fn upstreams_are_shown_as_they_stand() {
    let origin = Origin::named("one").await;
    // Bound and not listening: it refuses connections, and nobody else can be given its port.
    let refusing = tokio::net::TcpSocket::new_v4().expect("a socket");
    refusing.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let (address, dead) = (origin.address(), refusing.local_addr().expect("it is bound"));
    let upstream = format!(
        "[[routes]]\npath = \"/*\"\nupstream = \"api\"\n[upstreams.api]\nendpoints = [\"{address}\", \"{dead}\"]\n\
         health = {{ interval = \"50ms\", tcp = {{}} }}\n"
    );
    let gateway = Gateway::start(Scratch::new(), &upstream).await;
    let shown = |arguments: &[&str]| {
        let output = command(&gateway, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    eventually("the checks", async || {
        let text = shown(&["upstreams"]);
        text.contains("healthy  ") && text.contains("unhealthy (")
    })
    .await;
    assert_eq!(words(&gateway).await, "one GET /");
    let text = shown(&["upstreams"]);
    assert!(text.contains(&format!("ago  {dead} unhealthy: ")), "{text}");
    let json: serde_json::Value = serde_json::from_str(&shown(&["upstreams", "-o", "json"])).expect("JSON");
    let endpoint = &json[0]["endpoints"][0];
    assert_eq!(
        (&endpoint["health"], &endpoint["requests_succeeded"]),
        (&"healthy".into(), &1.into()),
        "{json}"
    );
    assert_eq!(gateway.admin_get("/upstreams").await.json()[0]["name"], "api");
}

/// Problems that are found after the configuration was read know only their key.
#[tokio::test]
async fn a_problem_that_a_reload_finds_late_has_file_and_line() {
    let gateway = Gateway::start(Scratch::new(), &saying("one")).await;
    let preamble = PREAMBLE.replace("\"admin.sock\"", "\"missing/admin.sock\"");
    for (text, line) in [
        (format!("{preamble}{}", saying("two")), 3),
        (format!("{PREAMBLE}{}[telemetry]\naccess_log = \"missing/access.log\"\n", saying("two")), 11),
        (
            format!(
                "{PREAMBLE}tls = {{ certificate = \"witgate.toml\", key = \"witgate.toml\" }}\n{}",
                saying("two")
            ),
            7,
        ),
    ] {
        gateway.scratch.write("witgate.toml", text);
        let place = format!("witgate.toml:{line}\"");
        eventually(&place, async || {
            gateway.output().lines().any(|told| told.contains("\"at\":\"") && told.contains(&place))
        })
        .await;
        assert_eq!(words(&gateway).await, "one", "the last good version serves");
    }
}

#[tokio::test]
async fn a_refused_reload_shows_no_secret_in_status_and_log() {
    let scratch = Scratch::new();
    scratch.write("token", "swordfish-token\n");
    let gateway = Gateway::start(scratch, &saying("one")).await;
    let wrong = "[gateway]\ndrain_timeout = \"${file:token}\"\n\
                 [[routes]]\npath = \"/b\"\nrespond = { status = 200 }\n\
                 filters = [{ kind = \"headers\", request = { set = { authorization = \"Bearer hunter2\" } }, nothing = 1 }]\n";
    gateway.scratch.write("witgate.toml", format!("{PREAMBLE}{}{wrong}", saying("two")));
    eventually("the refusal", async || !last_change(&gateway).await["applied"].as_bool().unwrap()).await;
    let reloaded = command(&gateway, &["reload"]);
    let status = command(&gateway, &["status"]);
    eventually("the log to say why", async || gateway.output().contains("nothing")).await;
    for (what, shown) in [
        ("/status", gateway.admin_get("/status").await.text().to_owned()),
        ("/reload", gateway.admin_post("/reload").await.text().to_owned()),
        ("reload", String::from_utf8_lossy(&reloaded.stderr).into_owned()),
        ("status", String::from_utf8_lossy(&status.stdout).into_owned()),
        ("the log", gateway.output()),
    ] {
        for secret in ["swordfish", "hunter2"] {
            assert!(!shown.contains(secret), "{what}: {shown}");
        }
        assert!(shown.contains("witgate.toml:"), "{what}: {shown}");
    }
    let validated = command(&gateway, &["validate"]);
    let shown = String::from_utf8_lossy(&validated.stderr).into_owned();
    assert!(!shown.contains("swordfish") && shown.contains("${file:token}"), "{shown}");
}
