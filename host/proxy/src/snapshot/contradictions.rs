//! Warns of pairs of times in a configuration of which one prevents the other from ever having an effect. The
//! defaults contain no such pair.

use witgate_config::Config;
use witgate_config::model::{Action, Route, Upstream};

/// One sentence for each contradiction: what contradicts what, and what to do.
pub(super) fn find(config: &Config) -> Vec<String> {
    let of_upstreams = config.upstreams.iter().flat_map(|(name, upstream)| of_upstream(name, upstream));
    let of_routes = config.routes.iter().flat_map(|route| of_route(config, route));
    of_upstreams.chain(of_routes).collect()
}

fn of_upstream(name: &str, upstream: &Upstream) -> Vec<String> {
    let mut found = Vec::new();
    let first_byte = upstream.first_byte_timeout;
    if upstream.retry.per_try_timeout.is_some_and(|per_try| per_try > first_byte) {
        found.push(format!(
            "`retry.per_try_timeout` of upstream `{name}` never runs out: its `first_byte_timeout` ({first_byte:?}) is \
             shorter; raise the one or leave out the other"
        ));
    }
    if let Some(health) = &upstream.health
        && health.timeout > health.interval
    {
        let (timeout, interval) = (health.timeout, health.interval);
        found.push(format!(
            "a check of upstream `{name}` may take longer (`health.timeout`, {timeout:?}) than the time to the next \
             (`health.interval`, {interval:?}): slow endpoints are checked less often than configured"
        ));
    }
    found
}

fn of_route(config: &Config, route: &Route) -> Vec<String> {
    let (Action::Forward(forward), Some(timeout)) = (&route.action, route.timeout) else { return Vec::new() };
    let upstreams =
        forward.upstreams.iter().filter_map(|(name, _)| Some((name, config.upstreams.get(name)?)));
    let contradicting = upstreams.filter(|(_, upstream)| {
        let per_try = forward.retry.per_try_timeout.unwrap_or(upstream.retry.per_try_timeout);
        per_try.is_some_and(|per_try| per_try >= timeout)
    });
    let told = contradicting.map(|(name, _)| {
        format!(
            "no attempt of route `{}` at upstream `{name}` is given up in favour of a retry: `retry.per_try_timeout` is not shorter \
             than the route's `timeout` ({timeout:?}); make it a part of that",
            route.name
        )
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let listener = "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n";
        let loaded = witgate_config::parse_str(&format!("{listener}{text}"));
        find(&loaded.unwrap_or_else(|failure| panic!("{}", failure.render(false))).config)
    }

    #[test]
    fn times_that_keep_each_other_from_an_effect_are_told() {
        let route = "[[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"u\"\n";
        let upstream = "[upstreams.u]\nendpoints = [\"127.0.0.1:1\"]\n";
        let check = "health = { http = { path = \"/\" } }\n";
        assert!(told(&format!("{route}timeout = \"10s\"\n{upstream}{check}")).is_empty(), "the defaults");
        for (text, word) in [
            (format!("{route}{upstream}retry = {{ per_try_timeout = \"40s\" }}"), "never runs out"),
            (
                format!("{route}timeout = \"1s\"\n{upstream}retry = {{ per_try_timeout = \"1s\" }}"),
                "given up",
            ),
            (
                format!("{route}timeout = \"1s\"\nretry = {{ per_try_timeout = \"2s\" }}\n{upstream}"),
                "given up",
            ),
            (
                format!("{route}{upstream}health = {{ timeout = \"2s\", http = {{ path = \"/\" }} }}"),
                "less often",
            ),
        ] {
            let told = told(&text);
            assert!(told.len() == 1 && told[0].contains(word), "{text}: {told:?}");
        }
        let enough = "retry = { per_try_timeout = \"300ms\" }";
        assert!(told(&format!("{route}timeout = \"1s\"\n{upstream}{enough}")).is_empty());
    }
}
