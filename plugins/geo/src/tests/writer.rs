//! Writes small databases of MaxMind's format, for tests of the plugin and of the gateway.

use std::net::IpAddr;

/// A record of a node: nothing, another node, or data at a place.
#[derive(Clone, Copy)]
enum Record {
    Nothing,
    Node(usize),
    Data(usize),
}

/// A database with these networks (first address, length, country), which do not overlap. Records have 24, 28 or 32 bits.
pub(crate) fn database(bits: u32, networks: &[(&str, u32, &str)]) -> Vec<u8> {
    let (mut data, mut nodes) = (Vec::new(), vec![[Record::Nothing; 2]]);
    for (first, length, country) in networks {
        // In a tree for IPv6, addresses of IPv4 begin with 96 zero bits.
        let (first, length) = match first.parse().expect("an address") {
            IpAddr::V4(address) => (u128::from(u32::from(address)), length + 96),
            IpAddr::V6(address) => (u128::from(address), *length),
        };
        let place = data.len();
        data.extend(record(country));
        let mut node = 0;
        for index in 0..length {
            let bit = usize::from(first >> (127 - index) & 1 == 1);
            node = match nodes[node][bit] {
                _ if index + 1 == length => {
                    nodes[node][bit] = Record::Data(place);
                    node
                }
                Record::Node(next) => next,
                _ => {
                    nodes.push([Record::Nothing; 2]);
                    nodes[node][bit] = Record::Node(nodes.len() - 1);
                    nodes.len() - 1
                }
            };
        }
    }
    [tree(bits, &nodes), vec![0; 16], data, metadata(bits, nodes.len())].concat()
}

fn tree(bits: u32, nodes: &[[Record; 2]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for node in nodes {
        let [left, right] = node.map(|record| {
            let number = match record {
                Record::Nothing => nodes.len(),
                Record::Node(node) => node,
                Record::Data(place) => nodes.len() + 16 + place,
            };
            u32::try_from(number).expect("a small database").to_be_bytes()
        });
        match bits {
            24 => bytes.extend([&left[1..], &right[1..]].concat()),
            28 => bytes.extend([&left[1..], &[left[0] << 4 | right[0]], &right[1..]].concat()),
            _ => bytes.extend([left, right].concat()),
        }
    }
    bytes
}

/// The data of a network.
fn record(country: &str) -> Vec<u8> {
    let names = map(&[("en", text("a name that is skipped")), ("de", text("ein Name"))]);
    let of_country = map(&[("geoname_id", number(6, 7)), ("names", names), ("iso_code", text(country))]);
    map(&[("continent", map(&[("code", text("EU"))])), ("country", of_country)])
}

fn metadata(bits: u32, nodes: usize) -> Vec<u8> {
    let members = map(&[
        ("description", map(&[("en", text("made by a test"))])),
        ("languages", vec![0x01, 0x04, 0x42, b'e', b'n']),
        ("build_epoch", number(9, 1)),
        ("node_count", number(6, u32::try_from(nodes).expect("a small database"))),
        ("record_size", number(5, bits)),
        ("ip_version", number(5, 6)),
        ("binary_format_major_version", number(5, 2)),
    ]);
    [&b"\xab\xcd\xefMaxMind.com"[..], &members].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&[0x40 | u8::try_from(text.len()).expect("a short text")], text.as_bytes()].concat()
}

fn map(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0xe0 | u8::try_from(members.len()).expect("few members")];
    for (name, value) in members {
        bytes.extend(text(name));
        bytes.extend(value);
    }
    bytes
}

/// A number of a kind; kinds from 8 on are written in a second byte.
fn number(kind: u8, value: u32) -> Vec<u8> {
    let head = if kind < 8 { vec![kind << 5 | 4] } else { vec![4, kind - 7] };
    [&head[..], &value.to_be_bytes()].concat()
}
