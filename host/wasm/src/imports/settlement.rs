//! Interface `settlement`: what a request has cost.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::bindings::name;
use crate::input_tracker::Mark;
use crate::state::HostState;

/// The most costs that one call may say.
const MOST: usize = 64;

/// Defines the interface.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.instance(name::SETTLEMENT)?.func_wrap(
        "cost",
        |mut store: StoreContextMut<'_, HostState>, (policy, cost): (String, u32)| {
            let state = store.data_mut();
            state.marked(Mark::Notes)?;
            Ok((state.say_cost(&policy, cost),))
        },
    )
}

impl HostState {
    /// Collects a cost; it is said when the call has ended well.
    fn say_cost(&mut self, policy: &str, cost: u32) -> bool {
        let Some(settling) = self.head().and_then(|head| head.settling.clone()) else { return false };
        if !settling.has_drawn(&self.rights.binding, policy) {
            return false;
        }
        let (_, costs) =
            self.left.get_or_insert_default().costs.get_or_insert_with(|| (settling, Vec::new()));
        match costs.iter().position(|(known, _)| **known == *policy) {
            Some(index) => costs[index].1 = cost,
            None if costs.len() < MOST => costs.push((policy.into(), cost)),
            None => return false,
        }
        true
    }
}
