//! The lists of native filters and balancing policies, generated from their tables.

use witgate_proxy::filters::{FILTERS, Stage};
use witgate_upstream::balancer::BALANCERS;

use super::configuration::settings;
use super::markdown::{code, table};
use super::{head, hold};

const FILTERS_ABOUT: &str = "\
A filter is named in `filters` of the gateway, of a listener or of a route: by its kind alone, `filters = [\"cors\"]`, or as
a table with its settings, `filters = [{ kind = \"ip\", allow = [\"10.0.0.0/8\"] }]`. Filters at the edge run before every
plugin, filters at the origin after every plugin, next to the upstream; responses pass them in the reverse order. At each
place, filters run in the order of this table, and filters of one kind in the order in which they are listed.

";

const POLICIES_ABOUT: &str = "\
A policy picks among the endpoints of an upstream that take requests. It is named in the `balancer` of the upstream: by its
kind alone, `balancer = \"peak-ewma\"`, or as a table with its settings. `ring-hash` and `maglev` take `keys`, the
parts of a request that determine its endpoint, e.g. `balancer = { kind = \"maglev\", keys = [\"header:x-customer\", \"client\"] }`.

";

#[test]
fn the_list_of_filters_and_policies_is_current() {
    let mut text =
        head("Filters and balancing policies", "the tables `FILTERS` and `BALANCERS` of `host/proxy`");
    text += "## Filters\n\n";
    text += FILTERS_ABOUT;
    let rows = FILTERS.iter().map(|row| {
        let place = match row.place {
            Stage::Edge => "edge",
            Stage::Origin => "origin",
        };
        [code(row.kind), place.to_owned(), row.summary.to_owned()]
    });
    text += &table(["kind", "place", "what it does"], rows);
    for row in FILTERS {
        let schema = (row.schema)();
        let about = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
        let settings = settings(&schema);
        let settings = if settings.is_empty() { "It has no settings.\n\n".to_owned() } else { settings };
        text += &format!("### `{}`\n\n{about}\n\n{settings}", row.kind);
    }
    text += "## Balancing policies\n\n";
    text += POLICIES_ABOUT;
    let rows = BALANCERS.iter().map(|row| [code(row.kind), row.summary.to_owned()]);
    text += &table(["kind", "when to choose it"], rows);
    hold("filters-and-policies.md", &(text.trim_end().to_owned() + "\n"));
}
