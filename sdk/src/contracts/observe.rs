//! The contract `observe`: what became of finished exchanges.

use crate::plugin::{Interest, Plugin};

pub use crate::bindings::observe::exports::witgate::plugin0_2_0::observe::{End, Exchange, Step};

/// Sees finished exchanges in batches, after their responses. No request waits for it, so it may take its time and
/// [`fetch`](crate::fetch).
///
/// Best effort: exchanges are dropped and counted if it is too slow, and a batch whose call panics is lost.
///
/// ```
/// use witgate_sdk::{Exchange, fetch, observe};
///
/// #[observe]
/// fn ship(batch: &[Exchange]) {
///     let lines: String = batch.iter().map(|exchange| format!("{} {}\n", exchange.status, exchange.path)).collect();
///     let _best_effort = fetch::post("collector", "/lines", lines).send();
/// }
/// # fn main() {}
/// ```
pub trait Observe: Plugin {
    /// What the plugin's other contracts read. `observe` needs none: the grants of the binding say which headers it sees.
    fn interest(&self) -> Interest {
        Interest::none()
    }

    /// Sees 1 to 256 exchanges. One call at a time.
    fn observe(&self, batch: &[Exchange]);
}

impl Exchange {
    /// The first value of a request header, as text. `None` if the client sent none, it is not text, or `grants.headers` does not
    /// name it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }
}
