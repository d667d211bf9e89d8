//! Warns of settings that are valid but probably do not mean what their author expects: routes that take requests
//! away from a guarded route, and syntax of other servers that has no meaning here.

use std::collections::HashMap;

use serde_json::Value;
use witgate_config::Config;
use witgate_config::model::{Action, PathMatch, Rewrite, Route};

/// The most warnings of each kind; a configuration may have ten thousand routes.
const MOST: usize = 20;

/// Variables of nginx that people write in redirects and headers.
const VARIABLES: &[&str] = &[
    "args",
    "arg_",
    "cookie_",
    "host",
    "http_",
    "https",
    "is_args",
    "proxy_add_x_forwarded_for",
    "query_string",
    "realip_remote_addr",
    "remote_addr",
    "remote_port",
    "remote_user",
    "request",
    "request_id",
    "request_method",
    "request_uri",
    "scheme",
    "server_name",
    "server_port",
    "ssl_",
    "uri",
];

/// One sentence for each finding: what is probably not meant, and what to do.
pub(super) fn find(config: &Config) -> Vec<String> {
    let variables = config.routes.iter().filter_map(variables).take(MOST);
    let patterns = config.routes.iter().filter_map(pattern).take(MOST);
    shadowed(config).into_iter().chain(variables).chain(patterns).collect()
}

/// Guarded routes some of whose requests are taken by a route without the guard, because that route names their
/// host: a route with a host comes before one with a wildcard, and that one before a route without a host.
fn shadowed(config: &Config) -> Vec<String> {
    let mut broad: HashMap<&str, Vec<&Route>> = HashMap::new();
    for route in config.routes.iter().filter(|route| !route.matches.hosts.is_empty()) {
        match &route.matches.path {
            None => broad.entry("").or_default().push(route),
            Some(PathMatch::Prefix(prefix)) => {
                broad.entry(prefix.trim_end_matches('/')).or_default().push(route);
            }
            Some(PathMatch::Pattern(_)) => {}
        }
    }
    let guarded = config.routes.iter().filter(|route| !broad.is_empty() && guards(route).next().is_some());
    let found = guarded.filter_map(|route| {
        let path = route.matches.path.as_ref().map_or("", PathMatch::text);
        let around = prefixes(path).filter_map(|prefix| broad.get(prefix)).flatten();
        let other = around.take(MOST).find(|other| takes_from(other, route))?;
        let missing: Vec<String> = guards(route).filter(|guard| !has(other, guard)).map(Guard::told).collect();
        Some(format!(
            "{} of route `{}` {} not apply to requests for `{}`, which take the route `{}`, because it names their \
             host; name the hosts in `{}` too, or repeat it there",
            missing.join(" and "),
            route.name,
            if missing.len() == 1 { "does" } else { "do" },
            other.matches.hosts.join("`, `"),
            other.name,
            route.name,
        ))
    });
    found.take(MOST).collect()
}

/// A guard of a route, which may refuse requests.
#[derive(Clone, Copy)]
enum Guard<'r> {
    /// The filter `ip`, with a list of addresses.
    Addresses,
    /// A plugin.
    Binding(&'r str),
}

impl Guard<'_> {
    fn told(self) -> String {
        match self {
            Guard::Addresses => "the filter `ip`".to_owned(),
            Guard::Binding(name) => format!("the plugin `{name}`"),
        }
    }
}

fn guards(route: &Route) -> impl Iterator<Item = Guard<'_>> {
    let addresses = route.filters.iter().filter(|filter| filter.kind == "ip").map(|_| Guard::Addresses);
    addresses.chain(route.plugins.iter().map(|name| Guard::Binding(name)))
}

fn has(route: &Route, guard: &Guard<'_>) -> bool {
    match guard {
        Guard::Addresses => route.filters.iter().any(|filter| filter.kind == "ip"),
        Guard::Binding(name) => route.plugins.iter().any(|known| known == name),
    }
}

/// Whether `other` takes requests that would otherwise be those of `route`, because its path covers that of
/// `route`, and lacks a guard of `route`.
fn takes_from(other: &Route, route: &Route) -> bool {
    let every = |names: &[String]| names.is_empty();
    let same_listener = every(&other.listeners)
        || every(&route.listeners)
        || other.listeners.iter().any(|name| route.listeners.contains(name));
    let same_method = every(&other.matches.methods)
        || every(&route.matches.methods)
        || other.matches.methods.iter().any(|name| route.matches.methods.contains(name));
    let named_first = |host: &String| {
        every(&route.matches.hosts)
            || (!host.starts_with("*.")
                && !route.matches.hosts.contains(host)
                && host.split_once('.').is_some_and(|(_, parent)| {
                    route.matches.hosts.iter().any(|known| known.strip_prefix("*.") == Some(parent))
                }))
    };
    same_listener
        && same_method
        && other.matches.hosts.iter().any(named_first)
        && guards(route).any(|guard| !has(other, &guard))
}

/// A path and every prefix of it that ends before a slash, the longest first; the last one is empty.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let path = path.trim_end_matches('/');
    std::iter::successors(Some(path), |path| path.rfind('/').map(|slash| &path[..slash]))
}

/// A variable of another server in a redirect, in a rewritten path or in the settings of a filter.
fn variables(route: &Route) -> Option<String> {
    let told = |variable: &str, place: &str, hint: &str| {
        let name = &route.name;
        format!("`${variable}` in {place} of route `{name}` is not replaced, but sent as it is; {hint}")
    };
    let names = "write `{host}`, `{path}`, `{query}` or a parameter of the path, `{name}`";
    let of_action = match &route.action {
        Action::Redirect { location, .. } => {
            variable(location).map(|variable| told(variable, "the redirect", names))
        }
        Action::Forward(forward) => match &forward.rewrite {
            Rewrite::Template(template) => variable(template)
                .map(|variable| told(variable, "`rewrite`", "write a parameter of the path, `{name}`")),
            _ => None,
        },
        Action::Respond { .. } | Action::Publish(_) => None,
    };
    of_action.or_else(|| {
        route.filters.iter().find_map(|filter| {
            let found = filter.settings.value.values().find_map(text_with_variable)?;
            let place = format!("the filter `{}`", filter.kind);
            Some(told(found, &place, "values are templates with names in braces, e.g. `{client_address}`"))
        })
    })
}

fn text_with_variable(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => variable(text),
        Value::Array(items) => items.iter().find_map(text_with_variable),
        Value::Object(members) => members.values().find_map(text_with_variable),
        _ => None,
    }
}

/// The first variable of nginx in a text, without its `$`.
fn variable(text: &str) -> Option<&str> {
    text.split('$').skip(1).find_map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let name = &rest[..end.unwrap_or(rest.len())];
        let known = VARIABLES.iter().any(|known| match known.strip_suffix('_') {
            Some(_) => name.len() > known.len() && name.starts_with(known),
            None => name == *known,
        });
        known.then_some(name)
    })
}

/// A path that looks like a regular expression. Paths are in normal form, in which brackets are percent-encoded.
fn pattern(route: &Route) -> Option<String> {
    let path = route.matches.path.as_ref()?.text();
    let is_class = path.contains("%5B") && path.contains("%5D");
    let looks = is_class
        || path.ends_with('$')
        || path.contains("%7C")
        || path.contains("%5E")
        || path.contains("(.");
    looks.then(|| {
        format!(
            "the path of route `{}` looks like a regular expression, but its characters stand for themselves; write \
             `{{name}}` for a segment, and `{{*rest}}` or `*` at the end",
            route.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let listeners = "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
                         [[listeners]]\nname = \"inner\"\naddress = \"127.0.0.1:1\"\n";
        let bindings = "[plugins.door]\n[bindings.door]\n";
        let loaded = witgate_config::parse_str(&format!("{listeners}{bindings}{text}"));
        find(&loaded.unwrap_or_else(|failure| panic!("{}", failure.render(false))).config)
    }

    fn route(name: &str, more: &str) -> String {
        format!("[[routes]]\nname = \"{name}\"\nrespond = {{ status = 200 }}\n{more}\n")
    }

    #[test]
    fn a_guard_that_a_route_with_a_host_goes_around_is_told() {
        let allow = "filters = [{ kind = \"ip\", allow = [\"10.0.0.0/8\"] }]";
        let admin = |more: &str| route("admin", &format!("path = \"/admin/*\"\n{allow}\n{more}"));
        let shop = |more: &str| route("shop", more);
        for other in [
            shop("host = \"a.test\"\npath = \"/*\""),
            shop("host = \"a.test\""),
            shop("hosts = [\"*.test\", \"b.test\"]\npath = \"/admin/*\""),
            shop("host = \"a.test\"\nmethods = [\"GET\"]"),
        ] {
            let told = told(&format!("{}{other}", admin("")));
            assert!(
                told.len() == 1 && told[0].starts_with("the filter `ip` of route `admin` does not"),
                "{other}: {told:?}"
            );
        }
        for (admin, other) in [
            (admin(""), shop(&format!("host = \"a.test\"\n{allow}"))),
            (admin(""), shop("path = \"/*\"")),
            (admin(""), shop("host = \"a.test\"\npath = \"/adm/*\"")),
            (admin(""), shop("host = \"a.test\"\npath = \"/administration/*\"")),
            (admin("host = \"a.test\""), shop("host = \"a.test\"\npath = \"/*\"")),
            (admin("listeners = [\"inner\"]"), shop("host = \"a.test\"\nlisteners = [\"web\"]")),
            (admin("methods = [\"POST\"]"), shop("host = \"a.test\"\nmethods = [\"GET\"]")),
        ] {
            assert_eq!(told(&format!("{admin}{other}")), [] as [&str; 0], "{admin}{other}");
        }
        let wildcard = format!("{}{}", admin("host = \"*.test\""), shop("host = \"a.test\""));
        assert_eq!(told(&wildcard).len(), 1, "an exact host comes before a wildcard");
        let plugin = route("admin", "path = \"/admin/{*rest}\"\nplugins = [\"door\"]");
        let told = told(&format!("{plugin}{}", shop("host = \"a.test\"")));
        assert!(told.len() == 1 && told[0].contains("the plugin `door`"), "{told:?}");
    }

    #[test]
    fn variables_of_other_servers_are_told() {
        let redirect = |location: &str| {
            format!("[[routes]]\nname = \"all\"\nredirect = {{ location = \"{location}\" }}\n")
        };
        for (location, variable) in [
            ("https://$host$request_uri", "`$host`"),
            ("https://a.test$request_uri", "`$request_uri`"),
            ("/x?$args", "`$args`"),
            ("https://a.test/$http_user", "`$http_user`"),
        ] {
            let told = told(&redirect(location));
            assert!(told.len() == 1 && told[0].contains(variable), "{location}: {told:?}");
        }
        for location in ["https://{host}{path}{query}", "/price/$5", "/$hostile", "/$http_", "/a$"] {
            assert_eq!(told(&redirect(location)), [] as [&str; 0], "{location}");
        }
        let header = "filters = [{ kind = \"headers\", request = { set = { x-real = \"$remote_addr\" } } }]";
        let told = told(&route("all", header));
        assert!(told.len() == 1 && told[0].contains("`$remote_addr` in the filter `headers`"), "{told:?}");
    }

    #[test]
    fn paths_that_look_like_regular_expressions_are_told() {
        let path = |path: &str| told(&route("all", &format!("path = '{path}'")));
        for regex in ["/users/[0-9]+", "/(a|b)/x", "/index.html$", "/a/(.+)/b", "/x^y"] {
            assert!(path(regex).len() == 1, "{regex}");
        }
        for plain in ["/users/{id}", "/Users(1)", "/a+b", "/a.b/*", "/$metadata"] {
            assert_eq!(path(plain), [] as [&str; 0], "{plain}");
        }
    }
}
