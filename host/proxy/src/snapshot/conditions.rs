//! Warns of bindings whose `when` and `unless` can never hold for a request of the routes that they are bound to.

use std::collections::BTreeMap;
use std::sync::Arc;

use witgate_config::Config;
use witgate_config::model::{Binding as Settings, Listener, Route, ValueMatch};
use witgate_exchange::contracts::{Binding, Contracts};

use super::routes::belongs;
use crate::router::Binds;

/// The most routes that one warning names.
const NAMED: usize = 5;

/// One sentence for each finding.
pub(super) fn find(config: &Config, plugins: &BTreeMap<String, Arc<dyn Binding>>) -> Vec<String> {
    let conditional =
        config.bindings.iter().filter(|(_, binding)| !(binding.when.is_empty() && binding.unless.is_empty()));
    conditional
        .flat_map(|(name, binding)| {
            let nowhere = never_holds(config, plugins, name, binding);
            nowhere.into_iter().chain(removed_headers(config, name, binding))
        })
        .collect()
}

/// A binding that is left out of every request of the routes that it is bound to, or of a route that names it itself.
fn never_holds(
    config: &Config,
    plugins: &BTreeMap<String, Arc<dyn Binding>>,
    name: &str,
    binding: &Settings,
) -> Option<String> {
    let bound = config.listeners.iter().flat_map(|listener| {
        let routes = config.routes.iter().filter(|route| belongs(route, listener));
        routes.map(move |route| (listener, route))
    });
    let bound: Vec<_> = bound.filter(|way| names(config, *way).any(|known| known == name)).collect();
    let may_hold = |(listener, route): &(&Listener, &Route)| {
        let authenticates = names(config, (listener, route))
            .any(|name| plugins.get(name).is_some_and(|plugin| Contracts::of(plugin).authenticate()));
        Binds { matches: &route.matches, authenticates }.may_hold(binding)
    };
    let (holding, left_out): (Vec<_>, Vec<_>) = bound.into_iter().partition(may_hold);
    let mut told: Vec<String> = left_out
        .iter()
        .filter(|(_, route)| holding.is_empty() || route.plugins.iter().any(|known| known == name))
        .map(|(_, route)| format!("`{}`", route.name))
        .collect();
    told.sort();
    told.dedup();
    if told.is_empty() {
        return None;
    }
    let more = told.len().saturating_sub(NAMED);
    told.truncate(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(
        "binding `{name}` is never called on the routes {}{more}, because its `when` and `unless` hold for no request of \
         theirs; change the conditions, or do not bind it there",
        told.join(", ")
    ))
}

/// The bindings that apply to the requests of a route at a listener.
fn names<'c>(
    config: &'c Config,
    (listener, route): (&'c Listener, &'c Route),
) -> impl Iterator<Item = &'c str> {
    config.gateway.plugins.iter().chain(&listener.plugins).chain(&route.plugins).map(String::as_str)
}

/// Conditions on a header that the gateway removes from every request before anything is judged.
fn removed_headers(config: &Config, name: &str, binding: &Settings) -> Vec<String> {
    let removed = |header: &str| header == "host" || config.gateway.identity_headers.contains_key(header);
    let headers = binding.when.iter().flat_map(|conditions| &conditions.request.headers);
    let found = headers.filter(|field| field.value != ValueMatch::Absent && removed(&field.name));
    found
        .map(|field| {
            let instead = match field.name.as_str() {
                "host" => "write a condition on `host` beside `headers`",
                _ => "write a condition on `subject` or `claims`",
            };
            format!(
                "the condition of binding `{name}` on the header `{}` never holds, because the gateway removes this \
                 header from every request of a client; {instead}",
                field.name
            )
        })
        .collect()
}
