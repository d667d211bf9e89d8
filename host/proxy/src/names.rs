//! Tables by names of the configuration.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Values by names of the configuration. Nobody else chooses the names that are kept, so hashing them need not withstand
/// an attacker.
pub type Named<Name, V> = HashMap<Name, V, BuildHasherDefault<NameHasher>>;

/// FNV-1a with 64 bits.
pub struct NameHasher(u64);

impl Default for NameHasher {
    fn default() -> Self {
        NameHasher(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
