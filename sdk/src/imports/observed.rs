//! More of the exchanges that [`observe`](crate::Observe::observe) was given, by their position in the batch. Of version 0.2.0.
//!
//! ```
//! use witgate_sdk::{Exchange, Observe, log, observe, observed};
//!
//! #[observe]
//! impl Observe for Slow {
//!     fn observe(&self, batch: &[Exchange]) {
//!         for (index, exchange) in batch.iter().enumerate().filter(|(_, exchange)| exchange.status == 200) {
//!             let server = observed::response_header(index, "server").unwrap_or("unknown".to_owned());
//!             log::info(format!("{} by {server}, {:?}", exchange.path, observed::note(index, "device")));
//!         }
//!     }
//! }
//!
//! #[witgate_sdk::settings]
//! struct Slow {}
//! # fn main() {
//! # let gateway = witgate_sdk::test::Gateway::new();
//! # gateway.observed_header(0, "server", "nginx");
//! # assert_eq!(observed::response_header(0, "server").as_deref(), Some("nginx"));
//! # assert_eq!(observed::response_header(1, "server"), None);
//! # }
//! ```

use super::backend;

/// The value of a note that was left in the exchange at this position; `None` if nobody has left it, or if `grants.notes.read` does
/// not name it.
#[must_use]
pub fn note(exchange: usize, name: &str) -> Option<Vec<u8>> {
    backend::observed::note(u32::try_from(exchange).ok()?, name)
}

/// The first value of a header of the response at this position, if it is UTF-8. `None` also if `grants.response_headers` does not
/// name it.
#[must_use]
pub fn response_header(exchange: usize, name: &str) -> Option<String> {
    String::from_utf8(response_headers(exchange, name).into_iter().next()?).ok()
}

/// All values of a header of the response at this position.
#[must_use]
pub fn response_headers(exchange: usize, name: &str) -> Vec<Vec<u8>> {
    u32::try_from(exchange)
        .map(|exchange| backend::observed::response_header(exchange, name))
        .unwrap_or_default()
}
