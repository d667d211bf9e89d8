//! Contract `tick`.

use witgate_exchange::contracts::{CallFailure, Phase};

use super::Running;
use crate::plugin::Loaded;

/// Calls `tick`.
pub(crate) async fn tick(binding: &Loaded) -> Result<(), CallFailure> {
    let upstreams = binding.background.upstreams();
    let mut running = Running::begin_in_background(binding, Phase::Tick, &*upstreams).await?;
    let exported = running.instance()?.exports.tick.clone().ok_or(CallFailure::Unavailable)?;
    let answer = running.invoke(exported.func_tick(), ()).await;
    running.end(&answer, |()| 0)
}
