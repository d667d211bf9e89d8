//! Networks in settings and tables.

use std::borrow::Cow;
use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A network in the notation of RFC 4632 section 3.1 and RFC 4291 section 2.3, or one address.
///
/// ```
/// use witgate_sdk::Network;
///
/// let network: Network = "192.0.2.0/24".to_owned().try_into().unwrap();
/// assert!(network.contains("192.0.2.7".parse().unwrap()) && network.contains("::ffff:192.0.2.7".parse().unwrap()));
/// assert!(!network.contains("192.0.3.7".parse().unwrap()));
/// ```
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Network {
    address: IpAddr,
    /// Number of leading bits that an address of the network shares.
    prefix: u32,
}

impl Network {
    /// The network that a text stands for; `None` if it stands for none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = bits(address).1;
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => most,
        };
        (prefix <= most).then_some(Self { address, prefix })
    }

    /// Whether an address is in the network. An IPv4 address that is written as an IPv6 one counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, most) = bits(self.address);
        let (other, of_other) = bits(address.to_canonical());
        let differing = (own ^ other).checked_shr(most - self.prefix).unwrap_or(0);
        most == of_other && differing == 0
    }

    /// The first and the last address as numbers, and the bits of an address: 32 or 128.
    #[must_use]
    pub fn range(&self) -> (u128, u128, u32) {
        let (own, most) = bits(self.address);
        let free = most - self.prefix;
        let mask = 1_u128.checked_shl(free).map_or(u128::MAX, |one| one - 1);
        (own & !mask, own | mask, most)
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a network: write an address, or e.g. 192.0.2.0/24");
        Self::parse(&text).ok_or_else(wrong)
    }
}

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An address, or a network, e.g. `192.0.2.0/24`, `2001:db8::/32`.",
            "pattern": "^[0-9A-Fa-f:.]+(/[0-9]+)?$",
        })
    }
}

/// The bits of an address as a number, and how many there are.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u32::from(address).into(), 32),
        IpAddr::V6(address) => (address.into(), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_all_its_addresses_and_no_others() {
        for (text, first, last) in [
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("192.0.2.77/24", "192.0.2.0", "192.0.2.255"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::/33", "2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            let network = Network::parse(text).expect(text);
            let (low, high, _) = network.range();
            for (address, number) in [(first, low), (last, high)] {
                let address: IpAddr = address.parse().expect("an address");
                assert!(network.contains(address), "{text} {address}");
                assert_eq!(bits(address).0, number, "{text}");
            }
        }
        let network = Network::parse("192.0.2.0/24").expect("a network");
        assert!(!network.contains("2001:db8::1".parse().expect("an address")));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "192.0.2.0/33",
            "::/129",
            "192.0.2.0/+1",
            "192.0.2/24",
            "192.0.2.0/",
            "example.com",
            "1.2.3.4/8/8",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
