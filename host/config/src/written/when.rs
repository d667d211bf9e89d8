//! `bindings.NAME.when` and `bindings.NAME.unless`: the requests that a binding is for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use super::condition::{Condition, header_conditions, named_conditions};
use super::one_or_many::{OneOrMany, either};
use crate::model;
use crate::pointer::child;
use crate::scalar::{HostPattern, Method, Net, PathPattern, PathPrefix, Text};

/// The most tables of conditions in one list.
const MOST: usize = 32;

/// Conditions on a request, all of which must hold. They mean the same as those of routes.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RequestConditions {
    /// The host: exact (`"api.example.com"`), or with `*` for its first label (`"*.example.com"`). Without it, any.
    host: Option<OneOrMany<Text<HostPattern>>>,
    /// Several hosts.
    hosts: Option<OneOrMany<Text<HostPattern>>>,
    /// The path: exact, with parameters, with a wildcard tail, or a prefix, as for routes. Without it, any.
    path: Option<Text<PathPattern>>,
    /// A path prefix that ends at a segment boundary.
    prefix: Option<Text<PathPrefix>>,
    /// The method. As for routes, `GET` also stands for `HEAD`, and a method also for the CORS preflights that announce
    /// it. Without it, any.
    method: Option<OneOrMany<Text<Method>>>,
    /// Several methods.
    methods: Option<OneOrMany<Text<Method>>>,
    /// Conditions on headers, by name: the exact value, or a table with one of `exact`, `prefix`, `regex`, `present`.
    headers: BTreeMap<String, Condition>,
    /// Conditions on query parameters, as for headers.
    query: BTreeMap<String, Condition>,
    /// The client's address: an address or a network, or several of them. Without it, any.
    client: Option<OneOrMany<Text<Net>>>,
    /// A condition on the subject of the caller's identity, as for headers. Not for plugins that authenticate.
    subject: Option<Condition>,
    /// Conditions on claims of the caller's identity, as for headers. Not for plugins that authenticate.
    claims: BTreeMap<String, Condition>,
}

/// One table of conditions, or a list of them. The list comes first, because a table can be read from a list, too.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum Tables {
    Many(Vec<RequestConditions>),
    One(Box<RequestConditions>),
}

/// The tables of `when` or of `unless` at this pointer.
pub(super) fn meant(written: Option<Tables>, at: &str, scope: &mut Scope) -> Vec<model::Conditions> {
    let tables = match written {
        None => return Vec::new(),
        Some(Tables::One(table)) => vec![(at.to_owned(), *table)],
        Some(Tables::Many(tables)) => {
            let at_index = |index: usize| child(at, &index.to_string());
            tables.into_iter().enumerate().map(|(index, table)| (at_index(index), table)).collect()
        }
    };
    if tables.is_empty() || tables.len() > MOST {
        scope.report(at, format!("this list has from 1 to {MOST} tables of conditions"), None);
    }
    tables.into_iter().map(|(at, table)| table.meant(&at, scope)).collect()
}

impl RequestConditions {
    fn meant(self, at: &str, scope: &mut Scope) -> model::Conditions {
        scope.exclude(at, &["path", "prefix"]);
        scope.exclude(at, &["host", "hosts"]);
        scope.exclude(at, &["method", "methods"]);
        if self.is_empty() {
            let hint = "name a host, path, method, header, query parameter, client, subject or claim";
            scope.report(at, "this table has no condition", Some(hint.to_owned()));
        }
        let prefix = self.prefix.map(|prefix| model::PathMatch::Prefix(prefix.value.0));
        let subject = self.subject.and_then(|condition| condition.value(&child(at, "subject"), scope));
        model::Conditions {
            request: model::RouteMatch {
                hosts: either(self.host, self.hosts).into_iter().map(|host| host.value.0).collect(),
                path: self.path.map(|path| path.value.matches).or(prefix),
                methods: either(self.method, self.methods).into_iter().map(|method| method.value.0).collect(),
                headers: header_conditions(self.headers, &child(at, "headers"), scope),
                query: named_conditions(self.query, &child(at, "query"), scope),
                grpc: None,
            },
            clients: either(self.client, None).into_iter().map(|net| net.value.0).collect(),
            subject,
            claims: named_conditions(self.claims, &child(at, "claims"), scope),
        }
    }

    /// Whether nothing is written in it.
    fn is_empty(&self) -> bool {
        let lists =
            [self.hosts.is_some(), self.host.is_some(), self.methods.is_some(), self.method.is_some()];
        let fields = [self.headers.is_empty(), self.query.is_empty(), self.claims.is_empty()];
        !lists.contains(&true)
            && !fields.contains(&false)
            && self.path.is_none()
            && self.prefix.is_none()
            && self.client.is_none()
            && self.subject.is_none()
    }
}
