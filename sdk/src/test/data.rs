//! The files that a test grants.

use super::gateway::with_state;
use crate::bindings::additions::witgate::plugin0_2_0::data::Error;

pub(crate) fn size(name: &str) -> Result<u64, Error> {
    with_state(|state| state.data.get(name).map(|bytes| bytes.len() as u64).ok_or(Error::Denied))
}

pub(crate) fn read(name: &str, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
    with_state(|state| {
        let bytes = state.data.get(name).ok_or(Error::Denied)?;
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = begin.saturating_add((length as usize).min(1 << 20)).min(bytes.len());
        Ok(bytes[begin..end].to_vec())
    })
}
