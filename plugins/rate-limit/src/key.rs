//! The keys that distinguish buckets.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::{fmt, slice};

use witgate_sdk::schemars::JsonSchema;
use witgate_sdk::serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use witgate_sdk::serde::de::{Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use witgate_sdk::serde::{Deserialize, Deserializer};

use crate::Missing;
use witgate_sdk::{HeaderName, Identity, Input, Request, crypto, settings};

/// The longest key that the contract allows, in bytes.
const KEY_LIMIT: usize = 256;

/// One part of a key.
#[settings]
pub(crate) enum By {
    /// The address of the client; for IPv6, its prefix.
    Client,
    /// The subject of the authenticated caller.
    Subject,
    /// The name of the route.
    Route,
    /// All values of a request header.
    Header(HeaderName),
    /// A claim of the caller.
    Claim(String),
}

/// One part, or a list of parts.
#[derive(JsonSchema)]
#[schemars(crate = "witgate_sdk::schemars", untagged)]
pub(crate) enum Parts {
    One(By),
    Several(Vec<By>),
}

impl Parts {
    pub(crate) fn iter(&self) -> slice::Iter<'_, By> {
        match self {
            Self::One(part) => slice::from_ref(part).iter(),
            Self::Several(parts) => parts.iter(),
        }
    }
}

/// Written by hand, because `untagged` would not report which part is wrong.
impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PartsVisitor;

        impl<'de> Visitor<'de> for PartsVisitor {
            type Value = Parts;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(
                    "`client`, `subject`, `route`, { header = NAME }, { claim = NAME }, or a list of them",
                )
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Parts, E> {
                By::deserialize(name.into_deserializer()).map(Parts::One)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Parts, A::Error> {
                By::deserialize(MapAccessDeserializer::new(map)).map(Parts::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<Parts, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(parts)).map(Parts::Several)
            }
        }

        deserializer.deserialize_any(PartsVisitor)
    }
}

impl By {
    /// The input of the request that a part reads.
    pub(crate) fn input(&self) -> Input {
        match self {
            Self::Client => Input::ClientAddress,
            Self::Subject | Self::Claim(_) => Input::Identity,
            Self::Route => Input::Route,
            Self::Header(name) => Input::header(&**name),
        }
    }

    pub(crate) fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Header(name) => Some(name),
            _ => None,
        }
    }
}

/// The parts of one request. Each is read at most once, however many policies use it.
pub(crate) struct KeyParts<'a> {
    request: &'a Request<'a>,
    ipv6_prefix: u8,
    client: OnceCell<String>,
    route: OnceCell<String>,
    identity: OnceCell<Option<Identity>>,
}

impl<'a> KeyParts<'a> {
    pub(crate) fn new(request: &'a Request<'a>, ipv6_prefix: u8) -> Self {
        let (client, route, identity) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { request, ipv6_prefix, client, route, identity }
    }

    /// The key of a policy's bucket; `None` if a part is missing and the policy does not apply then.
    ///
    /// The length of each part is written before the part, so that different parts never give the same key.
    pub(crate) fn key(&self, by: &Parts, missing: Missing) -> Option<String> {
        let mut key = Vec::with_capacity(48);
        for part in by.iter() {
            match self.part(part) {
                Some(value) => {
                    write!(key, "{}:", value.len()).expect("writing to memory does not fail");
                    key.extend_from_slice(&value);
                }
                None if missing == Missing::Skip => return None,
                None => key.push(b'-'),
            }
        }
        match String::from_utf8(key) {
            Ok(key) if key.len() <= KEY_LIMIT => Some(key),
            Ok(key) => Some(shortened(key.as_bytes())),
            Err(error) => Some(shortened(error.as_bytes())),
        }
    }

    fn part(&self, by: &By) -> Option<Cow<'_, [u8]>> {
        match by {
            By::Client => Some(Cow::Borrowed(self.client().as_bytes())),
            By::Route => Some(Cow::Borrowed(self.route.get_or_init(|| self.request.route()).as_bytes())),
            By::Subject => Some(Cow::Borrowed(self.identity()?.subject.as_bytes())),
            By::Claim(name) => Some(Cow::Borrowed(self.identity()?.claim(name)?.as_bytes())),
            By::Header(name) => {
                let mut values = self.request.values(name);
                let first = values.next()?;
                let mut all = Cow::Borrowed(first);
                for value in values {
                    all.to_mut().push(b',');
                    all.to_mut().extend_from_slice(value);
                }
                Some(all)
            }
        }
    }

    fn client(&self) -> &str {
        self.client.get_or_init(|| {
            let address = self.request.client_address();
            if !address.contains(':') {
                // Most addresses are IPv4 and are used whole.
                return address;
            }
            match address.parse() {
                Ok(IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
                    Some(v4) => v4.to_string(),
                    None => prefix(v6, self.ipv6_prefix).to_string(),
                },
                _ => address,
            }
        })
    }

    fn identity(&self) -> Option<&Identity> {
        self.identity.get_or_init(|| self.request.identity()).as_ref()
    }
}

fn prefix(address: Ipv6Addr, bits: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or_default();
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

/// The digest of a key that is too long or not text.
fn shortened(key: &[u8]) -> String {
    let digest = crypto::digest(crypto::Hash::Sha256, key);
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
