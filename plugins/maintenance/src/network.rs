//! Networks in the notation of RFC 4632 section 3.1 and RFC 4291 section 2.3.

use std::net::IpAddr;

/// A network, or one address.
pub(crate) struct Network {
    address: IpAddr,
    /// Number of leading bits that an address of the network shares.
    prefix: u32,
}

impl Network {
    /// The network that a text stands for; `None` if it stands for none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
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
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let (own, most) = bits(self.address);
        let (other, of_other) = bits(address.to_canonical());
        let differing = (own ^ other).checked_shr(most - self.prefix).unwrap_or(0);
        most == of_other && differing == 0
    }
}

/// The bits of an address as a number, and how many there are.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u32::from(address).into(), 32),
        IpAddr::V6(address) => (address.into(), 128),
    }
}
