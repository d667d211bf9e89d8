//! Networks: `"10.0.0.0/8"`, `"::1"`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Scalar;

/// A network in CIDR notation; a bare address is a network of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net(pub IpNet);

impl Scalar for Net {
    const FORMAT: &'static str = "witgate-network";
    const WHAT: &'static str = "an address or network such as \"10.0.0.0/8\" or \"::1\"";

    fn read(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address)));
        }
        let net: IpNet = text.parse().map_err(|_| format!("`{text}` is neither"))?;
        if net.trunc() == net {
            Ok(Self(net))
        } else {
            Err(format!("it has bits beyond its prefix; the network is `{}`", net.trunc()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_and_networks() {
        let cases = [
            ("10.0.0.0/8", Ok("10.0.0.0/8")),
            ("127.0.0.1", Ok("127.0.0.1/32")),
            ("::1", Ok("::1/128")),
            ("10.1.2.3/8", Err("it has bits beyond its prefix; the network is `10.0.0.0/8`")),
            ("10.0.0.0/33", Err("`10.0.0.0/33` is neither")),
        ];
        for (text, expected) in cases {
            let read = Net::read(text).map(|net| net.0.to_string());
            assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }
}
