//! Lines of networks and countries, e.g. `192.0.2.0/24,DE`.

use std::net::IpAddr;

use witgate_sdk::Network;

use crate::{Country, country};

/// Ranges of addresses that do not overlap, in ascending order.
#[derive(Debug)]
pub(crate) struct Ranges {
    v4: Vec<Range>,
    v6: Vec<Range>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    first: u128,
    last: u128,
    country: Country,
}

impl Ranges {
    /// Reads a table. Of two networks, one of which contains the other, the smaller one counts. Empty lines and lines that begin with
    /// `#` are comments; fields after the second one are ignored.
    ///
    /// # Errors
    /// The first line that is neither.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut fields = line.split(',').map(str::trim);
            let network = fields.next().and_then(Network::parse);
            let (Some(network), Some(country)) = (network, fields.next().and_then(country)) else {
                let shown: String = line.chars().take(60).collect();
                return Err(format!("line {} is not `NETWORK,COUNTRY`: {shown}", index + 1));
            };
            let (first, last, bits) = network.range();
            let list = if bits == 32 { &mut v4 } else { &mut v6 };
            list.push(Range { first, last, country });
        }
        if v4.is_empty() && v6.is_empty() {
            return Err("the table has no networks".to_owned());
        }
        Ok(Self { v4: disjoint(v4), v6: disjoint(v6) })
    }

    /// The country of an address.
    pub(crate) fn country(&self, address: IpAddr) -> Option<Country> {
        let (list, number) = match address.to_canonical() {
            IpAddr::V4(address) => (&self.v4, u128::from(u32::from(address))),
            IpAddr::V6(address) => (&self.v6, u128::from(address)),
        };
        let index = list.partition_point(|range| range.first <= number).checked_sub(1)?;
        list.get(index).filter(|range| number <= range.last).map(|range| range.country)
    }
}

/// Cuts networks where smaller ones lie in them. Two networks are disjoint, or one contains the other.
fn disjoint(mut ranges: Vec<Range>) -> Vec<Range> {
    // A network comes before those in it; of equal ones, the later line counts.
    ranges.sort_by(|one, other| one.first.cmp(&other.first).then(other.last.cmp(&one.last)));
    let mut parts = Vec::with_capacity(ranges.len());
    let mut open: Vec<Range> = Vec::new();
    // The first address that belongs to no part yet.
    let mut at = 0;
    for range in ranges {
        close(&mut open, &mut parts, &mut at, Some(range.first));
        if let Some(outer) = open.last()
            && at < range.first
        {
            parts.push(Range { first: at, last: range.first - 1, country: outer.country });
        }
        at = range.first;
        open.push(range);
    }
    close(&mut open, &mut parts, &mut at, None);
    parts
}

/// Ends the networks that end before an address; without one, all.
fn close(open: &mut Vec<Range>, parts: &mut Vec<Range>, at: &mut u128, before: Option<u128>) {
    while let Some(range) = open.pop_if(|range| before.is_none_or(|before| range.last < before)) {
        if *at <= range.last {
            parts.push(Range { first: *at, last: range.last, country: range.country });
            // The last of all addresses has none after it, and then nothing else is open but networks that end there, too.
            match range.last.checked_add(1) {
                Some(next) => *at = next,
                None => open.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ranges: &Ranges, address: &str) -> Option<String> {
        let country = ranges.country(address.parse().expect("an address"))?;
        Some(String::from_utf8(country.to_vec()).expect("letters"))
    }

    #[test]
    fn the_smallest_network_around_an_address_counts() {
        let text = "# networks\n\n10.0.0.0/8, us ,x\n10.1.0.0/16,DE\n10.1.2.0/24,FR\n10.1.2.3,IT\n192.0.2.0/24,GB\n192.0.2.0/24,IE\n\
                    ::/0,ZZ\n2001:db8::/32,SE\nffff::/16,NO\n";
        let ranges = Ranges::read(text).expect("a table");
        for (address, expected) in [
            ("9.255.255.255", None),
            ("10.0.0.0", Some("US")),
            ("10.0.255.255", Some("US")),
            ("10.1.0.0", Some("DE")),
            ("10.1.1.255", Some("DE")),
            ("10.1.2.0", Some("FR")),
            ("10.1.2.2", Some("FR")),
            ("10.1.2.3", Some("IT")),
            ("10.1.2.4", Some("FR")),
            ("10.1.3.0", Some("DE")),
            ("10.2.0.0", Some("US")),
            ("10.255.255.255", Some("US")),
            ("11.0.0.0", None),
            ("192.0.2.9", Some("IE")),
            ("::ffff:10.1.2.3", Some("IT")),
            ("2001:db7::", Some("ZZ")),
            ("2001:db8::1", Some("SE")),
            ("2001:db9::", Some("ZZ")),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some("NO")),
        ] {
            assert_eq!(at(&ranges, address).as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn a_line_that_is_none_refuses_the_table() {
        for (text, told) in [
            ("", "no networks"),
            ("# nothing\n", "no networks"),
            ("10.0.0.0/8,US\n10.0.0.0/8\n", "line 2"),
            ("10.0.0.0/33,US", "line 1"),
            ("10.0.0.0/8,USA", "line 1"),
            ("10.0.0.0/8 US", "line 1"),
        ] {
            let problem = Ranges::read(text).expect_err(text);
            assert!(problem.contains(told), "{text:?}: {problem}");
        }
    }
}
