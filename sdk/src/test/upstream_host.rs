//! Mock of the interface `upstream-host`: every host is granted.

use super::gateway::with_state;
use crate::bindings::additions::witgate::plugin0_2_0::upstream_host::Error;

pub(crate) fn set(host: &str) -> Result<(), Error> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(letter) {
        return Err(Error::Invalid);
    }
    with_state(|state| state.upstream_host = Some(host.to_ascii_lowercase()));
    Ok(())
}
