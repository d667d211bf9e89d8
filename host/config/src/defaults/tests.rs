use std::time::Duration;

use crate::{Config, parse_str};

fn config(text: &str) -> Config {
    parse_str(text).unwrap_or_else(|failure| panic!("{}", failure.render(false))).config
}

fn problems(text: &str) -> String {
    let Err(failure) = parse_str(text) else { panic!("it is refused: {text}") };
    failure.render(false)
}

#[test]
fn tables_are_merged_key_by_key_and_the_nearer_value_wins() {
    let config = config(
        "[defaults.upstream]\nconnect_timeout = \"7s\"\ntls = { server_name = \"a.b\" }\nretry = { attempts = 5 }\n\
         [defaults.upstream.health]\ninterval = \"9s\"\nhttp = { path = \"/healthz\" }\n\
         [upstreams.u]\nendpoints = [\"a:1\"]\n\
         [upstreams.v]\nendpoints = [\"a:1\"]\nconnect_timeout = \"1s\"\ntls = false\nhealth = { interval = \"1s\" }\n",
    );
    let (u, v) = (&config.upstreams["u"], &config.upstreams["v"]);
    assert_eq!((u.connect_timeout.as_secs(), v.connect_timeout.as_secs()), (7, 1));
    assert_eq!(u.tls.as_ref().and_then(|tls| tls.server_name.as_deref()), Some("a.b"));
    assert!(v.tls.is_none(), "a value of another form is replaced as a whole");
    let interval = |upstream: &crate::model::Upstream| upstream.health.as_ref().map(|health| health.interval);
    assert_eq!(interval(u), Some(Duration::from_secs(9)));
    assert_eq!(interval(v), Some(Duration::from_secs(1)));
    assert!(v.health.as_ref().is_some_and(|health| format!("{:?}", health.check).contains("/healthz")));
}

#[test]
fn a_default_that_would_contradict_what_is_written_is_not_added() {
    let config = config(
        "[defaults.upstream]\ndiscover = { consul = { service = \"x\", servers = [\"127.0.0.1:1\"] }, min_endpoints = 2 }\n\
         balancer = { kind = \"maglev\", table_size = 251 }\n\
         [defaults.route]\ntimeout = \"9s\"\nretry = { attempts = 2 }\nupstream = \"fixed\"\n\
         [upstreams.fixed]\nendpoints = [\"a:1\"]\n\
         [upstreams.named]\ndiscover = { consul = { service = \"named\" } }\nbalancer = \"random\"\n\
         [upstreams.other]\ndiscover = { dns = \"a:1\" }\nbalancer = { kind = \"ring-hash\" }\n\
         [[routes]]\npath = \"/a\"\nrespond = { status = 200 }\n\
         [[routes]]\npath = \"/b\"\ntimeout = \"off\"\n",
    );
    assert!(config.upstreams["fixed"].discover.is_none());
    let discover = |name: &str| config.upstreams[name].discover.clone().expect("a source");
    let crate::model::DiscoverySource::Consul(consul) = discover("named").source else { panic!("Consul") };
    assert_eq!(
        (consul.service.as_str(), consul.servers.servers),
        ("named", vec![("127.0.0.1".to_owned(), 1)])
    );
    assert_eq!((discover("other").source.kind(), discover("other").min_endpoints), ("dns", 2));
    let kinds = ["fixed", "named", "other"].map(|name| config.upstreams[name].balancer.kind.as_str());
    assert_eq!(kinds, ["maglev", "random", "ring-hash"]);
    assert_eq!(config.routes[0].timeout, Some(Duration::from_secs(9)));
    assert_eq!(config.routes[1].timeout, None);
    assert!(matches!(config.routes[1].action, crate::model::Action::Forward(_)));
}

#[test]
fn lists_are_replaced_as_a_whole() {
    let config = config(
        "[defaults.route]\nhosts = [\"a.b\", \"c.d\"]\nrespond = {}\n\
         [[routes]]\npath = \"/a\"\n[[routes]]\npath = \"/b\"\nhosts = [\"e.f\"]\n",
    );
    let hosts = config.routes.iter().map(|route| route.matches.hosts.len()).collect::<Vec<_>>();
    assert_eq!(hosts, [2, 1]);
}

#[test]
fn what_decides_who_may_pass_has_no_default() {
    for (text, key) in [
        ("[defaults.route]\nplugins = [\"a\"]\n", "plugins"),
        ("[defaults.route]\nfilters = []\n", "filters"),
        ("[defaults.route]\nauth = \"optional\"\n", "auth"),
        ("[defaults.upstream]\ndiscover = { allow = [\"10.0.0.0/8\"] }\n", "allow"),
        ("[defaults]\nupstream.discover.allow = [\"127.0.0.1\"]\n", "allow"),
    ] {
        let told = problems(&format!("{text}[[routes]]\npath = \"/a\"\nrespond = {{}}\n"));
        assert!(told.contains(&format!("`{key}` has no default")), "{told}");
        assert!(told.contains("witgate.toml:2:") && told.contains("help: write it in each"), "{told}");
        assert_eq!(told.matches("error").count(), 1, "{told}");
    }
}

#[test]
fn a_mistake_in_the_defaults_is_told_once_and_at_its_place() {
    let upstreams = "[upstreams.u]\nendpoints = [\"a:1\"]\n[upstreams.v]\nendpoints = [\"a:1\"]\n";
    for (mistake, words) in [
        ("conect_timeout = \"1s\"", "connect_timeout"),
        ("connect_timeout = 5", "duration"),
        ("connect_timeout = \"0s\"", "longer than 0"),
        ("discover = { consul = { servers = [\"nowhere\"] } }", "port is missing"),
        ("health = { http = { path = 5 } }", "path"),
    ] {
        let told = problems(&format!("[defaults.upstream]\n{mistake}\n{upstreams}"));
        assert!(told.contains(words) && told.contains("witgate.toml:2:"), "{told}");
        assert_eq!(told.matches("error").count(), 1, "{told}");
    }
    let told = problems("[defaults]\nupstreams = {}\n");
    assert!(told.contains("`upstream`"), "{told}");
    let told = problems("[defaults]\nroute = 5\n");
    assert!(told.contains("table"), "{told}");
}

#[test]
fn variables_and_paths_are_those_of_the_file_that_has_the_defaults() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("x")).expect("a folder");
    let text = "[defaults.upstream]\nspill_below = \"${NO_SUCH_VARIABLE:-0.5}\"\n[upstreams.u]\nendpoints = [\"a:1\"]\n";
    assert!((config(text).upstreams["u"].spill_below - 0.5).abs() < f64::EPSILON);
    std::fs::write(folder.path().join("a.toml"), "[defaults.upstream]\ndiscover = { file = \"e.toml\" }\n")
        .expect("written");
    std::fs::write(folder.path().join("b.toml"), "[upstreams.u]\n").expect("written");
    let loaded = crate::load(folder.path()).unwrap_or_else(|failure| panic!("{}", failure.render(false)));
    let discover = loaded.config.upstreams["u"].discover.clone().expect("a source");
    assert_eq!(discover.source, crate::model::DiscoverySource::File(folder.path().join("e.toml")));
}
