//! Admits or refuses clients by address.
//!
//! Choose it for internal routes and known partners. It checks the client's address: behind trusted proxies the
//! one that they report, otherwise the peer's. It does not replace authentication.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::scalar::{Net, Text};
use witgate_config::{Problems, Settings as Written, model};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};

use super::{Filter, FilterKind, Stage, Step, schema_of};

pub(super) const ROW: FilterKind = FilterKind {
    kind: "ip",
    summary: "admits or refuses clients by address",
    place: Stage::Edge,
    build,
    schema: schema_of::<Settings>,
};

/// Settings of `ip`. A net is an address (`192.0.2.1`) or a prefix (`10.0.0.0/8`, `2001:db8::/32`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Networks that may call. If the list is empty, all may that `deny` does not refuse.
    #[serde(default)]
    allow: Vec<Text<Net>>,
    /// Networks that may not call, whatever `allow` says.
    #[serde(default)]
    deny: Vec<Text<Net>>,
}

fn build(settings: &Written) -> Result<Box<dyn Filter>, Problems> {
    let Settings { allow, deny } = settings.parse()?;
    if allow.is_empty() && deny.is_empty() {
        let hint = Some("set `allow` or `deny`".to_owned());
        return Err(vec![settings.problem("", "this filter admits every client", hint)]);
    }
    let nets = |written: Vec<Text<Net>>| written.into_iter().map(|net| net.value.0).collect();
    Ok(Box::new(Ip { allow: nets(allow), deny: nets(deny) }))
}

struct Ip {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

impl Ip {
    fn admits(&self, address: IpAddr) -> bool {
        // An IPv6 socket that also accepts IPv4 reports the client 192.0.2.1 as `::ffff:192.0.2.1`.
        let address = address.to_canonical();
        !model::contains(&self.deny, address)
            && (self.allow.is_empty() || model::contains(&self.allow, address))
    }
}

impl Filter for Ip {
    fn request<'a>(&'a self, facts: &'a mut Facts, body: Body) -> MaybeReady<'a, Result<Step, Fault>> {
        let address = facts.head.client.address;
        MaybeReady::over(match self.admits(address) {
            true => Ok(Step::Proceed(body)),
            false => {
                let cause = format!("the filter `ip` of this route does not admit {address}");
                Err(Fault::new(FaultKind::Forbidden).cause(cause))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;
    use witgate_exchange::body::Body;
    use witgate_exchange::fault::FaultKind;

    use super::super::tests::{build, request};
    use crate::testing;

    fn admits(settings: serde_json::Value, address: &str) -> bool {
        let filter = build("ip", settings).expect("good settings");
        let mut head = testing::head(Method::GET, "/", &[]);
        head.client.address = address.parse().expect("an address");
        match request(&*filter, &mut testing::facts(head), Body::Empty) {
            Ok(_) => true,
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::Forbidden);
                false
            }
        }
    }

    #[test]
    fn deny_wins_over_allow() {
        let settings = json!({ "allow": ["10.0.0.0/8", "2001:db8::/32"], "deny": ["10.0.0.1"] });
        assert!(admits(settings.clone(), "10.0.0.2"));
        assert!(admits(settings.clone(), "2001:db8::1"));
        assert!(!admits(settings.clone(), "10.0.0.1"));
        assert!(!admits(settings.clone(), "::ffff:10.0.0.1"));
        assert!(!admits(settings, "192.0.2.1"));
        assert!(admits(json!({ "deny": ["10.0.0.1"] }), "192.0.2.1"));
    }

    #[test]
    fn every_bad_net_is_a_problem_with_its_place() {
        let problems = build("ip", json!({ "allow": ["10.0.0.0/8", "10.0.0.0/33"], "deny": ["x"] }))
            .err()
            .expect("problems");
        assert_eq!(problems.len(), 2);
        assert!(build("ip", json!({})).is_err());
    }
}
