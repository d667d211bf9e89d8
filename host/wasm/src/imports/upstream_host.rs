//! Interface `upstream-host`: the `Host` that the upstream is to see.

use http::uri::Authority;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::bindings::draft::witgate::plugin0_2_0::upstream_host::Error;
use crate::bindings::name;
use crate::input_tracker::Mark;
use crate::state::HostState;

/// The longest host, in bytes: a name of DNS, or an address in brackets, and a port.
const LONGEST: usize = 261;

/// Defines the interface.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.instance(name::UPSTREAM_HOST)?.func_wrap(
        "set",
        |mut store: StoreContextMut<'_, HostState>, (host,): (String,)| {
            let state = store.data_mut();
            state.marked(Mark::Notes)?;
            Ok((state.set_host(&host),))
        },
    )
}

impl HostState {
    /// Has the upstream see a host, once the call has ended well.
    fn set_host(&mut self, host: &str) -> Result<(), Error> {
        let host = host.to_ascii_lowercase();
        let authority =
            Authority::try_from(&*host).ok().filter(|_| host.len() <= LONGEST && !host.contains('@'));
        let Some(authority) = authority.filter(|authority| !authority.host().is_empty()) else {
            return Err(Error::Invalid);
        };
        let granted = &self.rights.grants.upstream_hosts;
        if !granted.iter().any(|pattern| matches(pattern, authority.host())) {
            self.rights.meter.grant_refused();
            return Err(Error::Denied);
        }
        let Some(notes) = self.head().and_then(|head| head.notes.clone()) else { return Err(Error::Denied) };
        let left = self.left.get_or_insert_default();
        left.notes.get_or_insert_with(|| (notes, Vec::new()));
        left.host = Some(host.into());
        Ok(())
    }
}

/// Whether a host fits a pattern: the same name, or one label more than what follows `*.`.
fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => pattern == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(matches("a.example", "a.example") && matches("*.example", "b.example"));
        assert!(!matches("*.example", "example") && !matches("*.example", "a.b.example"));
        assert!(!matches("*.example", ".example") && !matches("a.example", "b.example"));
    }
}
