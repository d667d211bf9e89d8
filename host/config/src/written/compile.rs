//! `[gateway.compile]`: limits on compiling one plugin.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Scope, Section};
use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, Size, Text};

/// Limits on compiling one plugin. A child process compiles, one plugin at a time; a plugin that exceeds a limit
/// is refused, and the previous version stays in service. A program of 15 MiB takes about 20 s of CPU time.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Compile {
    /// CPU time, in whole seconds, from `"1s"` to `"1h"`.
    cpu: Text<Duration>,
    /// Wall time, in whole seconds, from `"1s"` to `"24h"`. On a busy machine it passes faster than CPU time.
    wall: Text<Duration>,
    /// Memory, counted as address space: from `"2GiB"` to `"1024GiB"`. The process takes 1 GiB of it at its start.
    memory: Text<Size>,
}

impl Default for Compile {
    fn default() -> Self {
        Self { cpu: Text::of("120s"), wall: Text::of("300s"), memory: Text::of("4GiB") }
    }
}

impl Section for Compile {
    type Meant = model::CompileLimits;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::CompileLimits> {
        let (cpu, wall, memory) = (self.cpu.value.0, self.wall.value.0, self.memory.value.0);
        let hours = |hours: u64| std::time::Duration::from_secs(hours * 3600);
        for (key, time, most) in [("cpu", cpu, 1), ("wall", wall, 24)] {
            if time.subsec_nanos() != 0 || time.is_zero() || time > hours(most) {
                let hint = "the kernel counts the CPU time of a process in whole seconds";
                scope.report(
                    &child(at, key),
                    format!("`{key}` must be from 1s to {most}h, in whole seconds"),
                    (key == "cpu").then(|| hint.to_owned()),
                );
            }
        }
        scope.check_size(at, "memory", memory, (2 << 30, 1 << 40));
        Some(model::CompileLimits { cpu, wall, memory })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_as_written_is_the_default_as_meant() {
        let loaded = crate::parse_str("").unwrap_or_else(|failure| panic!("{}", failure.render(false)));
        assert_eq!(loaded.config.gateway.compile, crate::model::CompileLimits::default());
    }
}
