//! Reads a header. It is required where it is read at all, so that nothing has to be guessed: bytes that cannot become
//! a header are an error as soon as the first of them differs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::tlv::{Kind, crc32c};
use super::{Addresses, Header, SIGNATURE, Tlvs};

/// The most bytes of a header of version 1, with its line end (section 2.1 of the specification).
const MOST_V1: usize = 107;

/// The most bytes that may follow the first 16 of version 2. The length field allows 65,535, but no use is known that needs
/// more than a few hundred.
const MOST_V2: usize = 4096;

/// What version 1 begins with.
const PREFIX: &[u8] = b"PROXY ";

const FIXED_V2: usize = 16;

/// Why bytes are no acceptable header, as a sentence for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Reads the header at the beginning of what a connection has received. Returns it with its length in bytes; `None`: more
/// bytes are needed.
///
/// # Errors
/// The bytes cannot become an acceptable header.
pub fn read(received: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    if agrees(received, PREFIX) {
        return read_v1(received);
    }
    if agrees(received, SIGNATURE) {
        return read_v2(received);
    }
    Err(Malformed("the connection does not begin with a PROXY header"))
}

/// Whether one of the two is the beginning of the other.
fn agrees(received: &[u8], expected: &[u8]) -> bool {
    received.iter().zip(expected).all(|(one, other)| one == other)
}

fn read_v1(received: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let window = &received[..received.len().min(MOST_V1)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return match window.len() < MOST_V1 {
            true => Ok(None),
            false => Err(Malformed("the PROXY header of version 1 does not end within 107 bytes")),
        };
    };
    let wrong = Malformed("the PROXY header of version 1 is malformed");
    let line = std::str::from_utf8(&window[PREFIX.len()..end]).map_err(|_| wrong)?;
    let header = |addresses| Ok(Some((Header { addresses, tlvs: Tlvs::default() }, end + 2)));
    // What follows `UNKNOWN` must be ignored.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return header(None);
    }
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(wrong);
    let family = word()?;
    let (source, destination) = (word()?, word()?);
    let (source_port, destination_port) = (port(word()?).ok_or(wrong)?, port(word()?).ok_or(wrong)?);
    if words.next().is_some() {
        return Err(wrong);
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    header(Some(Addresses {
        source: SocketAddr::new(address(source).ok_or(wrong)?, source_port),
        destination: SocketAddr::new(address(destination).ok_or(wrong)?, destination_port),
    }))
}

/// A port in decimal digits, without sign and leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn read_v2(received: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some(fixed) = received.get(..FIXED_V2) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if fixed[12] >> 4 != 2 {
        return Err(Malformed("the version of the PROXY header is unknown"));
    }
    if length > MOST_V2 {
        return Err(Malformed("the PROXY header is longer than 4,096 bytes"));
    }
    let end = FIXED_V2 + length;
    let Some(rest) = received.get(FIXED_V2..end) else { return Ok(None) };
    let local = match fixed[12] & 0x0F {
        0 => true,
        1 => false,
        _ => return Err(Malformed("the command of the PROXY header is unknown")),
    };
    let (addresses, used) = addresses(fixed[13], rest, local)?;
    let tlvs = rest.get(used..).and_then(Tlvs::read);
    let tlvs = tlvs.ok_or(Malformed("a length in the PROXY header does not fit"))?;
    check_sum(&received[..end], &tlvs, FIXED_V2 + used)?;
    Ok(Some((Header { addresses, tlvs }, end)))
}

/// The addresses, and the number of bytes that they occupy.
fn addresses(kind: u8, rest: &[u8], local: bool) -> Result<(Option<Addresses>, usize), Malformed> {
    let short = Malformed("a length in the PROXY header does not fit");
    // A proxy that speaks for itself may send any family; the addresses are skipped (section 2.2).
    let length = match kind >> 4 {
        0 => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return Err(Malformed("the address family of the PROXY header is unknown")),
    };
    let bytes = rest.get(..length).ok_or(short)?;
    if local {
        return Ok((None, length));
    }
    match kind & 0x0F {
        0 if length == 0 => return Ok((None, 0)),
        1 => {}
        _ => return Err(Malformed("the PROXY header is not about a stream")),
    }
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let four = |at: usize| -> IpAddr {
        <[u8; 4]>::try_from(&bytes[at..at + 4]).expect("the length was checked").into()
    };
    let sixteen = |at: usize| -> IpAddr {
        <[u8; 16]>::try_from(&bytes[at..at + 16]).expect("the length was checked").into()
    };
    let ends = match length {
        12 => Some(((four(0), port(8)), (four(4), port(10)))),
        36 => Some(((sixteen(0), port(32)), (sixteen(16), port(34)))),
        _ => None,
    };
    let addresses = ends
        .map(|(source, destination)| Addresses { source: source.into(), destination: destination.into() });
    Ok((addresses, length))
}

/// Checks the checksum, if there is one. It is computed with zeros in its own place.
fn check_sum(header: &[u8], tlvs: &Tlvs, first: usize) -> Result<(), Malformed> {
    let mut at = first;
    for (kind, value) in tlvs.iter() {
        let begin = at + 3;
        at = begin + value.len();
        if kind != Kind::CRC32C {
            continue;
        }
        let stated = <[u8; 4]>::try_from(value)
            .map_err(|_| Malformed("the checksum of the PROXY header does not have 4 bytes"))?;
        let sum = crc32c([&header[..begin], &[0; 4], &header[at..]]);
        if sum != u32::from_be_bytes(stated) {
            return Err(Malformed("the checksum of the PROXY header is wrong"));
        }
    }
    Ok(())
}
