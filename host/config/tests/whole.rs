//! A realistic file, from text to model.

use witgate_config::parse_str;

#[test]
fn a_realistic_file_loads() {
    let text = r#"
[gateway]
workers = 2
trusted_proxies = ["10.0.0.0/8"]
identity_headers = { "x-auth-subject" = "subject", "x-auth-role" = "claim:role" }
plugins = ["jwt"]
filters = ["request-id", { kind = "cors", origins = ["https://a.example"] }]

[gateway.limits]
headers = 50

[[listeners]]
name = "main"
address = "127.0.0.1:0"
limits = { body_bytes = "1MiB" }

[[routes]]
host = "api.example.com"
path = "/users/{id}"
methods = ["GET", "POST"]
upstreams = { users = 90, users-next = 10 }
rewrite = "/v2/users/{id}"
headers = { x-version = { prefix = "2" }, x-debug = { present = false } }
plugins = ["limit"]

[[routes]]
path = "/old/*"
redirect = "https://www.example.com{path}"

[upstreams.users]
endpoints = ["127.0.0.1:9001", { address = "127.0.0.1:9002", weight = 2 }]

[upstreams.users-next]
endpoints = ["https://users.internal"]

[plugins.jwt]
[plugins.rate-limit]

[bindings.limit]
plugin = "rate-limit"
settings = { requests = 5 }
budget.cpu = "2ms"
"#;
    let loaded = parse_str(text).unwrap_or_else(|failure| panic!("{}", failure.render(false)));
    let config = loaded.config;
    assert_eq!(config.listeners[0].limits.headers, 50);
    assert_eq!(config.listeners[0].limits.body_bytes, 1 << 20);
    assert_eq!(config.bindings.keys().collect::<Vec<_>>(), ["jwt", "limit"]);
    assert_eq!(config.bindings["jwt"].plugin, "jwt");
    assert!(config.upstreams["users-next"].tls.is_some());
    assert_eq!(config.routes[0].name, "GET|POST api.example.com/users/{id}");
}

#[test]
fn every_mistake_is_reported() {
    let text = r#"
[gateway]
wokers = 2
drain_timeout = 5
[[listeners]]
address = "here"
[[routes]]
path = "users"
upstream = "usres"
[[routes]]
upstream = "usres"
redirect = "/x"
timeout = "5"
[[routes]]
path = "/x"
[upstreams.users]
endpoint = ["a:1"]
"#;
    let failure = parse_str(text).expect_err("there are mistakes");
    println!("{}", failure.render(false));
    assert_eq!(failure.problems.len(), 8);
}
