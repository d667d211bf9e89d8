//! `bindings.NAME.quarantine`: when a binding is put in quarantine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::model;
use crate::scalar::{Duration, Text};

/// When the binding is put in quarantine, or `"off"`: never.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Quarantine {
    Switch(Switch),
    Rules(Rules),
}

/// No quarantine.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(super) enum Switch {
    Off,
}

/// When the binding is put in quarantine: `on_failure` applies without a call, except for one probe at a time; the
/// first probe that returns a result ends the quarantine. Remembered results are used all the same. It begins when
/// failed calls use a `share` of a core, or when nine in ten of at least `min_calls` calls fail, for whatever
/// reason. Failures that are cheap and are not nearly all calls do not begin it, since refusing every call would
/// lose more.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-removed" = {
    "kills": "a quarantine is now controlled by `share` (CPU time of failed calls, as a share of one core) and `min_calls` (of which nine in ten failed), within `window`; to switch it off, as `kills = 0` did, write `quarantine = \"off\"`",
}))]
pub(super) struct Rules {
    /// CPU time that failed calls may use within the window, as a share of one core, summed over all cores. A loop
    /// that is stopped has used 10 to 25 ms with the default `budget.cpu`, so half a core is 20 to 50 of them per
    /// second. Below that, other requests wait a few milliseconds longer at times, which does less harm than an
    /// outage of the plugin. Above it, most of the time of a core goes into calls that return nothing.
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1024.0))]
    share: f64,
    /// The window in which CPU time and calls are counted. Its contents still count after a successful probe.
    window: Text<Duration>,
    /// The fewest calls within the window, of which nine in ten must have failed. A request in which several
    /// functions of the plugin are called counts as one call.
    #[schemars(range(min = 1))]
    min_calls: u32,
    /// How long the quarantine lasts before a probe.
    rest: Text<Duration>,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self::Rules(Rules::default())
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self { share: 0.5, window: Text::of("10s"), min_calls: 20, rest: Text::of("5s") }
    }
}

impl Quarantine {
    /// Converts it to the model. `at` is its JSON Pointer. `None`: it is switched off.
    pub(super) fn meant(&self, at: &str, scope: &mut Scope) -> Option<model::Quarantine> {
        let Self::Rules(rules) = self else { return None };
        Some(model::Quarantine {
            share: rules.share,
            window: scope.check_positive(at, "window", rules.window.value.0),
            min_calls: rules.min_calls,
            rest: scope.check_positive(at, "rest", rules.rest.value.0),
        })
    }
}
