//! Hash tables keyed by names of the configuration, and by numbers of the gateway's own.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Values by names of the configuration. Only the configuration adds keys, so the hash need not resist attackers.
pub type Named<Name, V> = HashMap<Name, V, BuildHasherDefault<NameHasher>>;

/// FNV-1a, 64 bits.
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

/// Values by numbers that are counted up. Nobody can choose them to collide, so mixing them is enough.
pub type Numbered<V> = HashMap<u64, V, BuildHasherDefault<NumberHasher>>;

/// Fibonacci hashing.
#[derive(Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The table uses the highest and the lowest bits, so both must be mixed.
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
