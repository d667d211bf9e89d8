//! The reference file uses every key of the published schema, and every key means something.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use witgate_config::model::{self, Action, ListenerProtocol, PathMatch, Piece, Rewrite, ValueMatch};
use witgate_config::{Config, load, parse_str, schema};

const REFERENCE: &str = include_str!("reference.toml");

/// The reference in a folder of its own, with the files it names.
fn loaded() -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in ["a.pem", "a.key", "b.pem", "b.key", "ca.pem", "orders.pb", "orders.proto"] {
        std::fs::write(folder.path().join(file), "").expect("written");
    }
    std::fs::write(folder.path().join("witgate.toml"), REFERENCE).expect("written");
    let loaded = load(&folder.path().join("witgate.toml"));
    let config = loaded.unwrap_or_else(|failure| panic!("{}", failure.render(false))).config;
    (folder, config)
}

#[test]
fn every_key_is_in_the_reference() {
    let written: Value = toml::from_str(REFERENCE).expect("TOML");
    let schema = schema();
    let mut missing = Vec::new();
    collect_missing(&schema, &schema, &[&written], "", &mut missing);
    assert!(missing.is_empty(), "not in reference.toml: {missing:#?}");
}

/// The keys of a schema that none of the values has.
fn collect_missing(root: &Value, schema: &Value, values: &[&Value], path: &str, missing: &mut Vec<String>) {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(target.trim_start_matches('#')).expect("a local reference");
        collect_missing(root, target, values, path, missing);
    }
    for branch in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        collect_missing(root, branch, values, path, missing);
    }
    for (key, part) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{path}.{key}");
        let inner: Vec<&Value> = values.iter().filter_map(|value| value.get(key)).collect();
        if inner.is_empty() {
            missing.push(path);
        } else {
            collect_missing(root, part, &inner, &path, missing);
        }
    }
    if let Some(items) = schema.get("items") {
        let inner: Vec<&Value> = values.iter().filter_map(|value| value.as_array()).flatten().collect();
        collect_missing(root, items, &inner, &format!("{path}[]"), missing);
    }
    if let Some(part) = schema.get("additionalProperties").filter(|part| part.is_object()) {
        let inner: Vec<&Value> =
            values.iter().filter_map(|value| value.as_object()).flat_map(|table| table.values()).collect();
        collect_missing(root, part, &inner, &format!("{path}.*"), missing);
    }
}

#[test]
fn the_gateway_means_what_it_says() {
    let (folder, config) = loaded();
    let gateway = config.gateway;
    assert_eq!(gateway.workers, 2);
    assert!(model::contains(&gateway.trusted_proxies, "10.1.2.3".parse().expect("an address")));
    assert_eq!(
        (gateway.drain_delay, gateway.drain_timeout, gateway.drain_idle),
        (Duration::from_secs(5), Duration::from_secs(60), Duration::from_secs(10))
    );
    assert_eq!(gateway.plugin_folder, folder.path().join("plugins"));
    assert_eq!(gateway.cache_folder, None);
    let compile = gateway.compile;
    assert_eq!((compile.cpu.as_secs(), compile.wall.as_secs(), compile.memory), (60, 90, 2 << 30));
    assert!(gateway.allow_empty);
    assert_eq!(gateway.identity_headers["x-auth-role"], model::IdentitySource::Claim("role".to_owned()));
    assert_eq!(gateway.counter.as_deref(), Some("here"));
    assert_eq!(gateway.secrets.len(), 2);
    assert_eq!(gateway.secrets[0].bytes(), b"0123456789abcdef0123456789abcdef");
    assert!(!format!("{gateway:?}").contains("0123456789abcdef"), "secrets stay out of logs");
    assert_eq!(gateway.encoded_slashes, model::EncodedSlashes::Opaque);
    assert_eq!(gateway.limits.max_connection_age, None);
    assert_eq!(gateway.body_memory, 128 << 20);
    assert_eq!(config.admin.socket, Some(folder.path().join("admin.sock")));
    let log = model::LogTarget::File(folder.path().join("access.log"));
    assert_eq!(config.telemetry.access_log, Some(log));
}

#[test]
fn listeners_take_the_limits_of_the_gateway_where_they_set_none() {
    let (_folder, config) = loaded();
    let [web, secure, databases] = config.listeners.as_slice() else { panic!("three listeners") };
    assert_eq!((web.protocol, databases.protocol), (ListenerProtocol::Http, ListenerProtocol::Tcp));
    let proxy = secure.proxy_protocol.as_ref().expect("the PROXY protocol");
    assert_eq!((proxy.trusted.len(), proxy.others), (1, model::OtherSources::Direct));
    assert_eq!((web.limits.body_bytes, web.limits.headers), (0, 50), "its own");
    assert_eq!(web.limits.header_bytes, 16 << 10, "the gateway's");
    assert_eq!((web.half_close, web.drain), (true, model::DrainOrder::Last));
    assert_eq!((secure.half_close, secure.drain), (false, model::DrainOrder::First));
    assert_eq!(secure.limits.body_bytes, 1 << 20, "the gateway's");
    let tls = secure.tls.as_ref().expect("TLS");
    assert_eq!(tls.certificates.len(), 2);
    assert!(!tls.client_certificate_required && !tls.tls12);
    assert_eq!(tls.client_identity, Some(model::ClientIdentity::Spiffe("prod.example".to_owned())));
}

#[test]
fn routes_mean_what_they_say() {
    let (_folder, config) = loaded();
    let [users, api, calls, json, old, ping, database, orders] = config.routes.as_slice() else {
        panic!("eight routes")
    };
    let Action::Tcp(forward) = &database.action else { panic!("takes connections") };
    assert_eq!(forward.sni, ["db.example.com", "*.db.example.com"]);
    assert_eq!(
        (forward.alpn.as_slice(), database.timeout),
        (&["postgresql".to_owned()][..], Some(Duration::from_secs(12 * 3600)))
    );
    assert_eq!(database.listeners, ["databases", "secure"]);
    let upstream = &config.upstreams["database"];
    assert_eq!(
        (upstream.proxy_protocol, upstream.idle_timeout),
        (Some(model::ProxyVersion::V2), Some(Duration::from_secs(3600)))
    );
    assert_eq!(users.matches.path, Some(PathMatch::Pattern("/users/{id}".to_owned())));
    let conditions: Vec<_> =
        users.matches.headers.iter().map(|field| (field.name.as_str(), &field.value)).collect();
    let expected = [
        ("x-a", &ValueMatch::Exact("1".to_owned())),
        ("x-b", &ValueMatch::Regex("b+".to_owned())),
        ("x-debug", &ValueMatch::Absent),
        ("x-tenant", &ValueMatch::Prefix("eu-".to_owned())),
        ("x-version", &ValueMatch::Exact("2".to_owned())),
    ];
    assert_eq!(conditions, expected);
    let cache = users.cache.as_ref().expect("a cache");
    assert_eq!(cache.share, model::Share::Claim("plan".to_owned()));
    assert_eq!(cache.query.as_deref(), Some(&["page".to_owned(), "sort".to_owned()][..]));
    assert_eq!((cache.set_cookie, cache.heuristics), (model::SetCookie::Remove, false));
    assert_eq!(cache.lifetimes[&404], Duration::from_secs(10));
    assert_eq!(cache.stale_if_error, Duration::from_secs(3600));
    assert!(api.cache.is_none());
    assert_eq!(config.cache, model::Cache { memory: 128 << 20, object: 2 << 20 });
    let Action::Forward(forward) = &users.action else { panic!("forwards") };
    assert_eq!(forward.rewrite, Rewrite::Template("/v2/users/{id}".to_owned()));
    assert!(!forward.preserve_host);
    assert_eq!((forward.retry.attempts, forward.retry.per_try_timeout), (Some(2), Some(None)));
    let mirror = forward.mirror.as_ref().expect("a mirror");
    assert_eq!((mirror.upstream.as_str(), mirror.body_bytes), ("users-next", 16 << 10));
    assert_eq!(users.filters[1].settings.value["set"]["x-served-by"], "witgate");
    assert_eq!(users.filters[1].settings.key, "routes[0].filters[1]");
    assert!(!users.filters[1].settings.value.contains_key("kind"), "the kind is no setting");
    assert_eq!(users.body_bytes, Some(64_000));

    assert_eq!(api.name, "GET|POST a.example.com|*.b.example.com/api/*");
    let Action::Forward(forward) = &api.action else { panic!("forwards") };
    assert_eq!(forward.upstreams, [("users".to_owned(), 90), ("users-next".to_owned(), 10)]);
    assert_eq!(forward.rewrite, Rewrite::StripPrefix("/api".to_owned()));
    let grpc = calls.matches.grpc.as_ref().expect("a condition on methods");
    assert!(grpc.matches("/orders.v1.Orders/GetOne") && !grpc.matches("/orders.v1.Orders/Create"));
    assert_eq!(calls.matches.path, Some(PathMatch::Prefix("/orders.v1.Orders".to_owned())));
    let Action::Forward(forward) = &calls.action else { panic!("forwards") };
    assert_eq!(forward.bridge, model::GrpcBridge { web: true, connect: true });
    let Action::Forward(model::Forward { transcode: Some(transcode), .. }) = &json.action else {
        panic!("transcodes")
    };
    assert_eq!((transcode.streams, transcode.json.proto_names), (model::StreamForm::Sse, true));
    let location = "https://www.example.com{path}".to_owned();
    assert_eq!(old.action, Action::Redirect { status: 308, location });
    let headers = [("content-type", "text/plain"), ("x-a", "1"), ("x-a", "2")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let Action::Publish(publish) = &orders.action else { panic!("publishes") };
    let expected = [Piece::Literal("orders.".to_owned()), Piece::Claim("tenant".to_owned())];
    assert_eq!((publish.to.0.as_slice(), publish.allow.len()), (&expected[..], 2));
    let key = publish.key.as_ref().expect("a key");
    assert_eq!(key.0[0], Piece::Parameter("id".to_owned()));
    assert_eq!(key.0[2], Piece::Header("x-kind".to_owned()));
    assert_eq!((publish.ttl, publish.timeout), (Some(Duration::from_secs(3600)), Duration::from_secs(2)));
    assert_eq!(ping.action, Action::Respond { status: 200, headers, body: "pong\n".to_owned() });
}

#[test]
fn upstreams_and_bindings_mean_what_they_say() {
    let (folder, config) = loaded();
    let users = &config.upstreams["users"];
    let host = "127.0.0.1".to_owned();
    let second = model::Endpoint { host, port: 9002, weight: 2, priority: 1, zone: Some("a".to_owned()) };
    assert_eq!(users.endpoints[1], second);
    assert_eq!((&*users.balancer.kind, users.balancer.settings.value.len()), ("least-requests", 0));
    assert_eq!(users.sticky.as_ref().map(|sticky| sticky.same_site), Some(model::SameSite::Strict));
    assert!(!format!("{:?}", users.sticky).contains("0123"), "the key stays out of logs");
    let balancer = &config.upstreams["users-next"].balancer;
    assert_eq!((&*balancer.kind, &*balancer.settings.key), ("ring-hash", "upstreams.users-next.balancer"));
    assert_eq!(balancer.settings.value["keys"][0], "cookie:session");
    assert_eq!(users.idle_timeout, None);
    assert_eq!(users.retry.grpc_statuses, [14, 8], "by their numbers");
    assert_eq!(users.grpc_failures, [14, 13]);
    assert!(users.retry.safe_methods[1].matches("/orders.v1.Orders/ListAll"));
    assert_eq!(users.retry.per_try_timeout, Some(Duration::from_secs(1)));
    let on = model::RetryOn { connect: true, timeout: true, ..model::RetryOn::default() };
    assert_eq!((users.retry.on, users.retry.body_bytes), (on, 1 << 20));
    assert_eq!(users.retry.all_body_bytes, 16 << 20);
    let after = model::HedgeAfter::Percentile { share: 0.95, min_samples: 50 };
    assert_eq!(users.hedge, Some(model::Hedge { after, max_extra: 2 }));
    assert_eq!(users.breaker.max_open_for, Duration::from_secs(300));
    let breaker = users.upstream_breaker.expect("it is there");
    assert_eq!((breaker.consecutive_failures, breaker.failure_ratio), (0, 0.9));
    let failures = |statuses: model::Statuses| [502, 503, 504].map(|status| statuses.contains(status));
    assert_eq!(failures(users.breaker.statuses), [true, true, false]);
    assert_eq!(failures(breaker.statuses), [false, false, true]);
    assert_eq!(failures(users.ejection.statuses), [false, true, false]);
    let next = &config.upstreams["users-next"].breaker;
    assert_eq!(next.statuses, model::Statuses::default(), "no status is a failure by itself");
    assert_eq!(next.max_open_for, next.open_for, "it does not grow");
    let fallback = users.fallback.as_ref().expect("it is there");
    assert!(fallback.on_breaker_open && fallback.on_no_endpoint && !fallback.on_overload);
    assert_eq!(fallback.respond.as_ref().map(|answer| answer.status), Some(503));
    let tls = config.upstreams["users-next"].tls.as_ref().expect("https is TLS");
    assert_eq!(tls.ca, Some(folder.path().join("ca.pem")));
    assert_eq!(config.upstreams["users-next"].endpoints[0].port, 443);
    assert_eq!(config.plugins["jwt"].file, Path::new("jwt.wasm"));
    assert_eq!(config.plugins["jwt"].state, None);
    assert_eq!(config.plugins["rate-limit"].state.as_deref(), Some("here"));
    assert_eq!(config.state["here"].kind, "memory");
    let conditional =
        ["lists", "narrow", "subject-exact", "subject-prefix", "subject-regex", "wide"].map(str::to_owned);
    let others: Vec<&String> = config.bindings.keys().filter(|name| !conditional.contains(name)).collect();
    assert_eq!(others, ["jwt", "limit"], "jwt is bound by its own name");
    let lists = &config.bindings["lists"];
    assert_eq!((lists.when.len(), lists.unless.len()), (7, 7));
    assert!(lists.when[0].names_identity() && !lists.when[1].names_identity());
    assert_eq!(config.bindings["wide"].credentials, Some(model::Credentials::default()));
    let granted = config.bindings["limit"].grants.credentials.clone();
    assert_eq!(granted.unwrap_or_default(), ["authorization", "x-api-key"]);
    let limit = &config.bindings["limit"];
    assert_eq!(limit.plugin, "rate-limit");
    assert_eq!(limit.settings.key, "bindings.limit.settings");
    assert_eq!(limit.settings.value["limit"], 5);
    assert_eq!(limit.budget.cpu, Duration::from_millis(5));
    assert_eq!(limit.instances.reuse, model::Reuse::Fresh);
}

#[test]
fn many_endpoints_may_have_a_connection_each() {
    let connections = |endpoints: usize, more: &str| {
        let endpoints: Vec<_> = (0..endpoints).map(|endpoint| format!("e{endpoint}:1")).collect();
        let text = format!("[upstreams.u]\nendpoints = {endpoints:?}\n{more}");
        let loaded = parse_str(&text).unwrap_or_else(|failure| panic!("{}", failure.render(false)));
        loaded.config.upstreams["u"].max_connections
    };
    assert_eq!((connections(1, ""), connections(256, ""), connections(300, "")), (1024, 1024, 1200));
    assert_eq!((connections(300, "max_connections = 7"), connections(1, "max_connections = 0")), (7, 0));
}

#[test]
fn health_means_what_it_says() {
    let (_folder, config) = loaded();
    let users = config.upstreams["users"].health.as_ref().expect("checks");
    assert_eq!(
        (users.interval, users.recheck_interval),
        (Duration::from_secs(2), Duration::from_millis(500))
    );
    let model::Check::Http(http) = &users.check else { panic!("an HTTP check") };
    assert_eq!(http.statuses, [(200, 200), (204, 206)]);
    assert_eq!(http.body, Some(model::BodyCheck::Contains("ok".to_owned())));
    assert_eq!(users.on_unhealthy, model::OnUnhealthy::Reset);
    let check = |name: &str| config.upstreams[name].health.as_ref().map(|health| health.check.clone());
    let grpc = model::Check::Grpc { service: "users.v1.Users".to_owned() };
    assert_eq!(check("users-next"), Some(grpc));
    let tcp = model::Check::Tcp { send: b"PING\r\n".to_vec(), expect: b"PONG".to_vec() };
    assert_eq!(check("collector"), Some(tcp));
    let probed = config.upstreams["probed"].health.as_ref().expect("checks");
    assert_eq!(probed.recheck_interval, probed.interval, "never slower than the interval by default");
    let ejection = config.upstreams["users"].ejection;
    assert_eq!((ejection.consecutive_faults, ejection.max_ejected), (3, 34));
    assert_eq!(ejection.success_rate.map(|rate| rate.minimum_endpoints), Some(4));
    assert_eq!(config.upstreams["probed"].ejection.success_rate, None);
}

#[test]
fn an_equal_file_is_an_equal_configuration() {
    let (_folder, first) = loaded();
    let again = REFERENCE.replace("limit = 5, window", "limit =    5, window");
    assert_ne!(again, REFERENCE);
    let folder = _folder.path();
    std::fs::write(folder.join("witgate.toml"), again).expect("written");
    let second = load(&folder.join("witgate.toml")).expect("still right").config;
    assert_eq!(first, second, "places and spaces do not matter to a reload");
}

#[test]
fn consumers_mean_what_they_say() {
    let (_folder, config) = loaded();
    let billing = &config.consumers["billing"];
    assert_eq!(
        (billing.broker.as_str(), billing.from.as_str(), billing.listener.as_str()),
        ("queues", "orders", "web")
    );
    assert_eq!((billing.method.as_str(), billing.host.as_str()), ("PUT", "billing.internal"));
    assert_eq!((billing.concurrency, billing.prefetch, billing.attempts), (4, 32, 5));
    assert_eq!(billing.ordering, model::Ordering::Key);
    assert_eq!(billing.backoff.max, Duration::from_secs(300));
    let dead_letter = billing.dead_letter.as_ref().expect("a table");
    assert_eq!((dead_letter.to.as_str(), dead_letter.key.as_deref()), ("dead", Some("orders")));
    assert_eq!(
        billing.source.value["declare"]["durable"], true,
        "the settings of a kind are its own to read"
    );
    assert_eq!((billing.drop.as_slice(), billing.retry_statuses.as_slice()), (&[410][..], &[404][..]));
    let kind = billing.filter.iter().find(|field| field.name == "x-kind").expect("a condition");
    assert_eq!(kind.value, ValueMatch::Exact("order".to_owned()));
    assert_eq!(config.brokers["queues"].kind, "memory");
}
