//! Compares conditions with each other: whether one set follows from others, and whether two can hold for one request.
//! Used when a snapshot is built, to say which conditions of bindings can never hold.
//!
//! Both answers are cautious: if it cannot be told, conditions neither follow from each other nor exclude each other.

use witgate_config::model::{self, FieldMatch, RouteMatch, ValueMatch};

use super::pattern::{End, Pattern, Segment};

/// One route that a binding is bound to.
pub(crate) struct Binds<'c> {
    /// The conditions of the route.
    pub(crate) matches: &'c RouteMatch,
    /// Whether a plugin that authenticates applies there.
    pub(crate) authenticates: bool,
}

impl Binds<'_> {
    /// Whether a request of the route may meet the conditions of the binding.
    pub(crate) fn may_hold(&self, binding: &model::Binding) -> bool {
        let of_route = model::Conditions { request: self.matches.clone(), ..model::Conditions::default() };
        let all = [model::Conditions::default()];
        let when = if binding.when.is_empty() { &all[..] } else { &binding.when };
        when.iter().any(|when| {
            (self.authenticates || !needs_identity(when))
                && !excludes(&of_route.request, &when.request)
                && !binding.unless.iter().any(|unless| implies(&[&of_route, when], unless))
        })
    }
}

/// Whether the conditions hold only for a caller who was recognised.
fn needs_identity(conditions: &model::Conditions) -> bool {
    let claims = conditions.claims.iter().map(|claim| &claim.value);
    conditions.subject.iter().chain(claims).any(|value| *value != ValueMatch::Absent)
}

/// Whether every request that meets all of `known` also meets `wanted`.
pub(super) fn implies(known: &[&model::Conditions], wanted: &model::Conditions) -> bool {
    let known_request = |holds: &dyn Fn(&RouteMatch) -> bool| known.iter().any(|one| holds(&one.request));
    let RouteMatch { hosts, path, methods, headers, query, grpc } = &wanted.request;
    let host = hosts.is_empty()
        || known_request(&|one| {
            let within = |host: &String| hosts.iter().any(|wanted| covers_host(wanted, host));
            !one.hosts.is_empty() && one.hosts.iter().all(within)
        });
    let method = methods.is_empty()
        || known_request(&|one| {
            !one.methods.is_empty() && one.methods.iter().all(|method| methods.contains(method))
        });
    let client = wanted.clients.is_empty()
        || known.iter().any(|one| {
            let within = |net: &ipnet::IpNet| wanted.clients.iter().any(|wanted| wanted.contains(net));
            !one.clients.is_empty() && one.clients.iter().all(within)
        });
    let subject = wanted.subject.as_ref().is_none_or(|wanted| {
        known.iter().any(|one| one.subject.as_ref().is_some_and(|known| implies_value(known, wanted)))
    });
    let fields = |wanted: &[FieldMatch], of: fn(&model::Conditions) -> &[FieldMatch]| {
        wanted.iter().all(|field| known.iter().any(|one| implies_field(of(one), field)))
    };
    host && grpc.is_none()
        && (path.is_none() || known_request(&|one| covers_path(wanted, one)))
        && method
        && client
        && subject
        && fields(headers, |one| &one.request.headers)
        && fields(query, |one| &one.request.query)
        && fields(&wanted.claims, |one| &one.claims)
}

fn implies_field(known: &[FieldMatch], wanted: &FieldMatch) -> bool {
    known.iter().any(|field| field.name == wanted.name && implies_value(&field.value, &wanted.value))
}

fn implies_value(known: &ValueMatch, wanted: &ValueMatch) -> bool {
    match (known, wanted) {
        (ValueMatch::Absent, ValueMatch::Present) => false,
        (_, ValueMatch::Present) => true,
        (ValueMatch::Exact(known) | ValueMatch::Prefix(known), ValueMatch::Prefix(wanted)) => {
            known.starts_with(wanted)
        }
        _ => known == wanted,
    }
}

fn covers_host(wanted: &str, host: &str) -> bool {
    let parent = || host.split_once('.').map(|(_, parent)| parent);
    wanted == host || wanted.strip_prefix("*.").is_some_and(|wanted| Some(wanted) == parent())
}

/// Whether every path of `known` is one of `wanted`.
fn covers_path(wanted: &model::Conditions, known: &RouteMatch) -> bool {
    let parsed = |path: &Option<model::PathMatch>| Pattern::parse(path.as_ref()).ok();
    let (Some(wanted), Some(known)) = (parsed(&wanted.request.path), parsed(&known.path)) else {
        return false;
    };
    let length = wanted.segments.len();
    let begins = known.segments.len() >= length
        && wanted.segments.iter().zip(&known.segments).all(|pair| match pair {
            (Segment::Literal(wanted), Segment::Literal(known)) => wanted == known,
            (Segment::Literal(_), Segment::Parameter(_)) => false,
            (Segment::Parameter(_), Segment::Literal(known)) => !known.is_empty(),
            (Segment::Parameter(_), Segment::Parameter(_)) => true,
        });
    let longer = known.segments.len() > length;
    begins
        && match wanted.end {
            End::Exact => !longer && known.end == End::Exact,
            End::Tail(_) => longer || matches!(known.end, End::Tail(_)),
            End::Prefix => true,
        }
}

/// Whether no request meets both.
fn excludes(one: &RouteMatch, other: &RouteMatch) -> bool {
    let apart = |one: &[String], other: &[String], meet: &dyn Fn(&str, &str) -> bool| {
        !one.is_empty()
            && !other.is_empty()
            && !one.iter().any(|one| other.iter().any(|other| meet(one, other)))
    };
    apart(&one.hosts, &other.hosts, &|one, other| covers_host(one, other) || covers_host(other, one))
        || apart(&one.methods, &other.methods, &methods_meet)
        || paths_exclude(one, other)
        || fields_exclude(&one.headers, &other.headers)
        || fields_exclude(&one.query, &other.query)
}

/// Whether a request may be one of both methods: `HEAD` is also taken for `GET`, and a preflight for the method that it
/// announces.
fn methods_meet(one: &str, other: &str) -> bool {
    one == other
        || [one, other].contains(&"OPTIONS")
        || [(one, other), (other, one)].contains(&("GET", "HEAD"))
}

fn paths_exclude(one: &RouteMatch, other: &RouteMatch) -> bool {
    let (Some(one), Some(other)) = (&one.path, &other.path) else { return false };
    let (Ok(one), Ok(other)) = (Pattern::parse(Some(one)), Pattern::parse(Some(other))) else { return false };
    let differ = one.segments.iter().zip(&other.segments).any(|pair| match pair {
        (Segment::Literal(one), Segment::Literal(other)) => one != other,
        (Segment::Literal(text), Segment::Parameter(_)) | (Segment::Parameter(_), Segment::Literal(text)) => {
            text.is_empty()
        }
        (Segment::Parameter(_), Segment::Parameter(_)) => false,
    });
    let (short, long) = if one.segments.len() <= other.segments.len() { (one, other) } else { (other, one) };
    let same_length = short.segments.len() == long.segments.len();
    let ends_exclude = match (&short.end, &long.end) {
        (End::Exact, End::Tail(_)) | (End::Tail(_), End::Exact) if same_length => true,
        (End::Exact, _) => !same_length,
        _ => false,
    };
    differ || ends_exclude
}

fn fields_exclude(one: &[FieldMatch], other: &[FieldMatch]) -> bool {
    one.iter().any(|one| {
        let opposite = |other: &&FieldMatch| {
            other.name == one.name && (other.value == ValueMatch::Absent) != (one.value == ValueMatch::Absent)
        };
        other.iter().any(|other| opposite(&other))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(text: &str) -> model::Conditions {
        let text = format!("[plugins.p]\n[bindings.p]\nwhen = {{ {text} }}\n");
        let loaded = witgate_config::parse_str(&(text + "[[routes]]\nrespond = { status = 200 }\n"));
        let mut config = loaded.unwrap_or_else(|failure| panic!("{}", failure.render(false))).config;
        config.bindings.remove("p").expect("declared").when.remove(0)
    }

    #[test]
    fn a_condition_follows_from_a_narrower_one_only() {
        let cases = [
            ("path = \"/a/b\"", "path = \"/a/*\"", true),
            ("path = \"/a/*\"", "path = \"/a/b\"", false),
            ("path = \"/a/{id}/c\"", "path = \"/a/{*rest}\"", true),
            ("path = \"/a\"", "path = \"/a/{*rest}\"", false),
            ("path = \"/a/{id}\"", "path = \"/a/{other}\"", true),
            ("path = \"/ab\"", "prefix = \"/a\"", false),
            ("host = \"a.test\"", "host = \"*.test\"", true),
            ("host = \"a.b.test\"", "host = \"*.test\"", false),
            ("methods = [\"PUT\", \"POST\"]", "methods = [\"POST\", \"PUT\", \"GET\"]", true),
            ("methods = [\"PUT\", \"POST\"]", "method = \"PUT\"", false),
            ("headers = { x = \"ab\" }", "headers = { x = { prefix = \"a\" } }", true),
            ("headers = { x = \"ab\" }", "headers = { x = { present = true } }", true),
            ("headers = { x = { present = false } }", "headers = { x = { present = true } }", false),
            ("query = { x = \"1\" }", "headers = { x = \"1\" }", false),
            ("client = \"10.1.0.0/16\"", "client = [\"10.0.0.0/8\", \"::1\"]", true),
            ("client = \"10.0.0.0/8\"", "client = \"10.1.0.0/16\"", false),
            ("claims = { role = \"admin\" }", "claims = { role = { present = true } }", true),
            ("subject = \"ann\", path = \"/a\"", "subject = { regex = \"a.*\" }", false),
        ];
        for (known, wanted, expected) in cases {
            let found = implies(&[&conditions(known)], &conditions(wanted));
            assert_eq!(found, expected, "{known} => {wanted}");
        }
    }

    #[test]
    fn conditions_exclude_each_other_only_if_no_request_meets_both() {
        let cases = [
            ("path = \"/a\"", "path = \"/b/*\"", true),
            ("path = \"/a/*\"", "path = \"/a\"", false),
            ("path = \"/a/{*rest}\"", "path = \"/a\"", true),
            ("path = \"/a/{id}\"", "path = \"/a/b\"", false),
            ("path = \"/a/{id}\"", "path = \"/a/b/c\"", true),
            ("path = \"/a/*\"", "path = \"/a/b/c\"", false),
            ("host = \"a.test\"", "host = \"*.test\"", false),
            ("host = \"a.test\"", "host = \"b.test\"", true),
            ("method = \"GET\"", "method = \"HEAD\"", false),
            ("method = \"GET\"", "method = \"POST\"", true),
            ("method = \"OPTIONS\"", "method = \"POST\"", false),
            ("headers = { x = { present = false } }", "headers = { x = \"1\" }", true),
            ("headers = { x = \"2\" }", "headers = { x = \"1\" }", false),
        ];
        for (one, other, expected) in cases {
            let (one_meant, other_meant) = (conditions(one).request, conditions(other).request);
            assert_eq!(excludes(&one_meant, &other_meant), expected, "{one} and {other}");
            assert_eq!(excludes(&other_meant, &one_meant), expected, "{other} and {one}");
        }
    }
}
