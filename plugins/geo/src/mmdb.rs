//! Databases of MaxMind's format, version 2.0, searched in place: <https://maxmind.github.io/MaxMind-DB/>.
//!
//! A file is a binary search tree over the bits of addresses, 16 zero bytes, the data, a marker, and metadata. A record of the tree is
//! the number of a node, or the number of nodes (there is nothing), or beyond that the place of data.

mod values;

use std::net::IpAddr;

use values::{Position, Values};
use witgate_sdk::data;

use crate::{Country, country};

/// What comes before the metadata.
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// The metadata lie in this many bytes at the end of a file.
const METADATA: u64 = 128 * 1024;

/// Zero bytes between the tree and the data.
const SEPARATOR: u64 = 16;

/// How many nodes are read at once when a file is checked.
const NODES: u64 = 64 * 1024;

/// A database that was checked.
#[derive(Debug)]
pub(crate) struct Mmdb {
    name: String,
    nodes: u32,
    /// Bytes of a node: two records.
    node: u32,
    /// The node below which the addresses of IPv4 are.
    v4: u32,
    is_v6: bool,
    /// Where the data begin and end.
    data: (u64, u64),
}

/// What is wrong with a file.
type Damage = &'static str;

impl Mmdb {
    /// Opens a file; `None` if it is no database of this kind.
    ///
    /// # Errors
    /// It is one, and is damaged or of a version that is not known here; or it cannot be read.
    pub(crate) fn open(name: &str) -> Result<Option<Self>, String> {
        let file = data::file(name);
        let size = file.size().map_err(|error| error.to_string())?;
        let begin = size.saturating_sub(METADATA);
        let end = file
            .read(begin, usize::try_from(METADATA).unwrap_or(usize::MAX))
            .map_err(|error| error.to_string())?;
        let Some(at) = end.windows(MARKER.len()).rposition(|bytes| bytes == MARKER) else { return Ok(None) };
        let database = Self::described(name, &end[at + MARKER.len()..], begin + at as u64);
        database
            .and_then(Self::checked)
            .map(Some)
            .map_err(|damage| format!("the database is damaged: {damage}"))
    }

    /// The database that metadata describe; `end` is where they begin.
    fn described(name: &str, metadata: &[u8], end: u64) -> Result<Self, Damage> {
        let mut values = Values::new(|place, length| Ok(at_most(metadata, place, length).to_vec()));
        let mut number = |key: &str| {
            let place = values.member(Position(0), key)?.ok_or("a number is missing in its metadata")?;
            values.number(place)?.ok_or("a number is missing in its metadata")
        };
        if number("binary_format_major_version")? != 2 {
            return Err("it is not of version 2 of the format");
        }
        let nodes = u32::try_from(number("node_count")?).map_err(|_| "it has too many nodes")?;
        let node = match number("record_size")? {
            24 => 6,
            28 => 7,
            32 => 8,
            _ => return Err("its records have neither 24 nor 28 nor 32 bits"),
        };
        let is_v6 = match number("ip_version")? {
            4 => false,
            6 => true,
            _ => return Err("it is neither for IPv4 nor for IPv6"),
        };
        let tree = u64::from(nodes) * u64::from(node);
        if nodes == 0 || tree + SEPARATOR >= end {
            return Err("its tree is cut off");
        }
        Ok(Self { name: name.to_owned(), nodes, node, v4: 0, is_v6, data: (tree + SEPARATOR, end) })
    }

    /// Checks that every record of the tree leads to a place that exists, and finds the part for IPv4.
    fn checked(mut self) -> Result<Self, Damage> {
        let tree = u64::from(self.nodes) * u64::from(self.node);
        if self.read(tree, 16)?.iter().any(|byte| *byte != 0) {
            return Err("there are no zero bytes behind its tree");
        }
        let most = u64::from(self.nodes) + SEPARATOR + (self.data.1 - self.data.0);
        let mut first = 0;
        while first < u64::from(self.nodes) {
            let count = NODES.min(u64::from(self.nodes) - first);
            let size = usize::try_from(count).unwrap_or(usize::MAX) * self.node as usize;
            let bytes = self.read(first * u64::from(self.node), size)?;
            for node in bytes.chunks(self.node as usize) {
                for record in [record(node, false), record(node, true)] {
                    let is_gap = record > self.nodes && u64::from(record) < u64::from(self.nodes) + SEPARATOR;
                    if is_gap || u64::from(record) >= most {
                        return Err("a record of its tree leads nowhere");
                    }
                }
            }
            first += count;
        }
        if self.is_v6 {
            let mut node = 0;
            for _ in 0..96 {
                if node >= self.nodes {
                    break;
                }
                node = self.next(node, false)?;
            }
            self.v4 = node;
        }
        Ok(self)
    }

    /// The country of an address, or that of the registration of its network.
    pub(crate) fn country(&self, address: IpAddr) -> Result<Option<Country>, Damage> {
        let (mut node, bits, count) = match address.to_canonical() {
            IpAddr::V4(address) => (self.v4, u128::from(u32::from(address)), 32),
            IpAddr::V6(_) if !self.is_v6 => return Ok(None),
            IpAddr::V6(address) => (0, u128::from(address), 128),
        };
        for index in (0..count).rev() {
            if node >= self.nodes {
                break;
            }
            node = self.next(node, bits >> index & 1 == 1)?;
        }
        if node <= self.nodes {
            return Ok(None);
        }
        let place = u64::from(node - self.nodes) - SEPARATOR;
        let mut values = Values::new(|place, length| self.value(place, length));
        for key in ["country", "registered_country"] {
            let Some(of_country) = values.member(Position(place), key)? else { continue };
            let Some(code) = values.member(of_country, "iso_code")? else { continue };
            return Ok(values.text(code)?.as_deref().and_then(country));
        }
        Ok(None)
    }

    /// The record of a node for the next bit.
    fn next(&self, node: u32, bit: bool) -> Result<u32, Damage> {
        let bytes = self.read(u64::from(node) * u64::from(self.node), self.node as usize)?;
        Ok(record(&bytes, bit))
    }

    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Damage> {
        let bytes = data::file(&self.name).read(offset, length).map_err(|_| "it cannot be read")?;
        if bytes.len() == length { Ok(bytes) } else { Err("it is cut off") }
    }

    /// Bytes of the data from a place on: as many as asked for, or fewer at their end.
    fn value(&self, place: u64, length: usize) -> Result<Vec<u8>, Damage> {
        let begin = self.data.0.saturating_add(place).min(self.data.1);
        let left = usize::try_from(self.data.1 - begin).unwrap_or(usize::MAX);
        self.read(begin, left.min(length))
    }
}

/// Bytes of a text in memory from a place on.
fn at_most(bytes: &[u8], place: u64, length: usize) -> &[u8] {
    let begin = usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[begin..begin.saturating_add(length).min(bytes.len())]
}

/// The left or the right record of a node. With 28 bits, the middle byte has the upper four bits of both.
fn record(node: &[u8], right: bool) -> u32 {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    match (node.len(), right) {
        (7, false) => number(&node[..3]) | u32::from(node[3] >> 4) << 24,
        (7, true) => number(&node[4..]) | u32::from(node[3] & 15) << 24,
        (length, false) => number(&node[..length / 2]),
        (length, true) => number(&node[length / 2..]),
    }
}
