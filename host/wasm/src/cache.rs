//! placeholder
use crate::journal::Journal;
use std::path::Path;
use wasmtime::component::Component;
pub(crate) struct Cache {}
impl Cache {
    pub(crate) fn open(_folder: &Path, _journal: &dyn Journal) -> Option<Self> {
        None
    }
    pub(crate) fn load(&self, _engine: &wasmtime::Engine, _digest: &[u8; 32]) -> Option<Component> {
        None
    }
    pub(crate) fn store(&self, _digest: &[u8; 32], _component: &Component) {}
}
