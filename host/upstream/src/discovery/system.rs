//! The resolver of builds without DNS: the system's.

use std::pin::Pin;
use std::time::Duration;

use witgate_exchange::contracts::discovery::{Resolved, Resolver};

/// The system does not tell how long addresses are valid.
const VALID_FOR: Duration = Duration::from_secs(30);

/// Has the system look up names. It does that on threads for blocking calls.
pub(crate) struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: String) -> Pin<Box<dyn Future<Output = Result<Resolved, String>> + Send>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| error.to_string())?;
            let addresses: Vec<_> = found.map(|address| address.ip()).collect();
            match addresses.is_empty() {
                true => Err("the name has no address".to_owned()),
                false => Ok(Resolved { addresses, valid_for: VALID_FOR }),
            }
        })
    }
}
