//! The contract `tick`: a call by the clock.

use crate::plugin::{Interest, Plugin};

/// Is called when the binding goes into service, and again each time its `tick` has passed since the last call ended: once a
/// gateway, for work that belongs to no request. What it finds out goes into the [`store`](crate::store), where all instances
/// read it.
///
/// ```
/// use witgate_sdk::{fetch, log, store, tick};
///
/// #[tick]
/// fn refresh() {
///     match fetch::get("idp", "/keys").send() {
///         Ok(response) => drop(store::space("keys").set("current", response.body, None)),
///         Err(error) => log::warn(&format!("the keys are not refreshed: {error:?}")),
///     }
/// }
/// # fn main() {}
/// ```
pub trait Tick: Plugin {
    /// What the plugin's other contracts read.
    fn interest(&self) -> Interest {
        Interest::none()
    }

    /// Does the work of one interval.
    fn tick(&self);
}
