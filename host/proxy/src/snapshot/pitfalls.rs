//! Warns of settings that are valid but probably do not mean what their author expects: routes that take requests
//! away from a guarded route, and syntax of other servers that has no meaning here.

use std::collections::HashMap;

use serde_json::Value;
use witgate_config::Config;
use witgate_config::model::{Action, PathMatch, Rewrite, Route};

/// The most warnings of each kind; a configuration may have ten thousand routes.
const MOST: usize = 20;

/// The most routes with which one guarded route is compared.
const COMPARED: usize = 1000;

type FilterSettings = serde_json::Map<String, Value>;

/// Variables of nginx that people write in redirects and headers. One that ends in `_` stands for all that begin so.
const VARIABLES: &[&str] = &[
    "ancient_browser",
    "arg_",
    "args",
    "binary_remote_addr",
    "body_bytes_sent",
    "bytes_received",
    "bytes_sent",
    "connection",
    "connection_requests",
    "connection_time",
    "connections_active",
    "connections_reading",
    "connections_waiting",
    "connections_writing",
    "content_length",
    "content_type",
    "cookie_",
    "date_gmt",
    "date_local",
    "document_root",
    "document_uri",
    "fastcgi_path_info",
    "fastcgi_script_name",
    "geoip_",
    "gzip_ratio",
    "host",
    "hostname",
    "http2",
    "http3",
    "http_",
    "https",
    "invalid_referer",
    "is_args",
    "is_request_port",
    "jwt_claim_",
    "jwt_header_",
    "jwt_payload",
    "limit_conn_status",
    "limit_rate",
    "limit_req_status",
    "memcached_key",
    "modern_browser",
    "msec",
    "msie",
    "nginx_version",
    "pid",
    "pipe",
    "proxy_add_x_forwarded_for",
    "proxy_host",
    "proxy_port",
    "proxy_protocol_",
    "query_string",
    "quic",
    "realip_remote_addr",
    "realip_remote_port",
    "realpath_root",
    "remote_addr",
    "remote_port",
    "remote_user",
    "request",
    "request_body",
    "request_body_file",
    "request_completion",
    "request_filename",
    "request_id",
    "request_length",
    "request_method",
    "request_port",
    "request_time",
    "request_uri",
    "scheme",
    "secure_link",
    "secure_link_expires",
    "sent_http_",
    "sent_trailer_",
    "server_addr",
    "server_name",
    "server_port",
    "server_protocol",
    "session_time",
    "slice_range",
    "spdy",
    "ssl_",
    "status",
    "tcpinfo_",
    "time_iso8601",
    "time_local",
    "uid_got",
    "uid_reset",
    "uid_set",
    "upstream_",
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
    let mut named: HashMap<String, Vec<&Route>> = HashMap::new();
    for route in config.routes.iter().filter(|route| !route.matches.hosts.is_empty()) {
        named.entry(Covered::of(route).beginning()).or_default().push(route);
    }
    let guarded = config.routes.iter().filter(|route| !named.is_empty() && guards(route).next().is_some());
    let found = guarded.filter_map(|route| {
        let beginning = Covered::of(route).beginning();
        let around = prefixes(&beginning).filter_map(|prefix| named.get(prefix)).flatten();
        let other = around.take(COMPARED).find(|other| takes_from(other, route))?;
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

/// The paths that a route takes.
struct Covered<'r> {
    /// Its segments; `None` stands for any text.
    segments: Vec<Option<&'r str>>,
    /// Whether any further segments may follow.
    open: bool,
}

impl<'r> Covered<'r> {
    fn of(route: &'r Route) -> Self {
        let (text, mut open) = match &route.matches.path {
            None => ("", true),
            Some(PathMatch::Prefix(prefix)) => (prefix.trim_end_matches('/'), true),
            Some(PathMatch::Pattern(pattern)) => (pattern.as_str(), false),
        };
        let mut segments = Vec::new();
        for segment in text.split('/').skip(1) {
            let parameter = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            match parameter {
                Some(name) if name.starts_with('*') => open = true,
                Some(_) => segments.push(None),
                None => segments.push(Some(segment)),
            }
        }
        Covered { segments, open }
    }

    /// The segments before the first that may be any text, each after a slash, without a slash at the end.
    fn beginning(&self) -> String {
        let literal = self.segments.iter().map_while(|segment| *segment);
        let text: String = literal.flat_map(|segment| ["/", segment]).collect();
        text.trim_end_matches('/').to_owned()
    }

    /// Whether it has all paths of another route.
    fn covers(&self, other: &Covered<'_>) -> bool {
        let is_long_enough = match self.open {
            true => self.segments.len() <= other.segments.len(),
            false => self.segments.len() == other.segments.len() && !other.open,
        };
        let mut pairs = self.segments.iter().zip(&other.segments);
        is_long_enough && pairs.all(|(own, other)| own.is_none() || own == other)
    }
}

/// A guard of a route, which may refuse requests.
#[derive(Clone, Copy)]
enum Guard<'r> {
    /// The filter `ip`, with these settings.
    Addresses(&'r FilterSettings),
    /// A plugin.
    Binding(&'r str),
}

impl Guard<'_> {
    fn told(self) -> String {
        match self {
            Guard::Addresses(_) => "the filter `ip`".to_owned(),
            Guard::Binding(name) => format!("the plugin `{name}`"),
        }
    }
}

fn guards(route: &Route) -> impl Iterator<Item = Guard<'_>> {
    addresses(route).map(Guard::Addresses).chain(route.plugins.iter().map(|name| Guard::Binding(name)))
}

/// The settings of each filter `ip` of a route.
fn addresses(route: &Route) -> impl Iterator<Item = &FilterSettings> {
    route.filters.iter().filter(|filter| filter.kind == "ip").map(|filter| &filter.settings.value)
}

/// Whether a route has the same guard. A filter `ip` with another list is another guard.
fn has(route: &Route, guard: &Guard<'_>) -> bool {
    match guard {
        Guard::Addresses(settings) => addresses(route).any(|own| own == *settings),
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
        && Covered::of(other).covers(&Covered::of(route))
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
        Action::Respond { .. } | Action::Tcp(_) | Action::Publish(_) => None,
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
            shop("host = \"a.test\"\npath = \"/{*x}\""),
            shop("host = \"a.test\"\npath = \"/{any}/{*x}\""),
            shop("host = \"a.test\"\npath = \"/admin/{*x}\""),
            shop("host = \"*.test\""),
            shop("host = \"a.test\"\nfilters = [{ kind = \"ip\", deny = [\"192.0.2.1\"] }]"),
            shop("host = \"a.test\"\nfilters = [{ kind = \"ip\", allow = [\"0.0.0.0/0\"] }]"),
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
            (admin(""), shop("host = \"a.test\"\npath = \"/{any}/x/{*y}\"")),
            (admin(""), shop("host = \"a.test\"\npath = \"/{any}\"")),
            (admin("host = \"a.test\""), shop("host = \"a.test\"\npath = \"/*\"")),
            (admin("listeners = [\"inner\"]"), shop("host = \"a.test\"\nlisteners = [\"web\"]")),
            (admin("methods = [\"POST\"]"), shop("host = \"a.test\"\nmethods = [\"GET\"]")),
        ] {
            assert_eq!(told(&format!("{admin}{other}")), [] as [&str; 0], "{admin}{other}");
        }
        let wildcard = format!("{}{}", admin("host = \"*.test\""), shop("host = \"a.test\""));
        assert_eq!(told(&wildcard).len(), 1, "an exact host comes before a wildcard");
        let exact = |host: &str| route("one", &format!("path = \"/admin/{{id}}\"\n{host}"));
        let both = format!(
            "{}{}",
            route("admin", &format!("path = \"/admin/me\"\n{allow}")),
            exact("host = \"a.test\"")
        );
        assert_eq!(told(&both).len(), 1, "a parameter takes any segment");
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
            ("https://a.test/$upstream_addr", "`$upstream_addr`"),
            ("/$document_uri", "`$document_uri`"),
            ("/at/$time_iso8601", "`$time_iso8601`"),
            ("/$proxy_protocol_addr", "`$proxy_protocol_addr`"),
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
