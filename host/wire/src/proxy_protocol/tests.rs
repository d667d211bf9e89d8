use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn reason(bytes: &[u8]) -> &'static str {
    read(bytes).expect_err("it is malformed").0
}

/// A header of version 2 with this command, family and content.
fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("it fits").to_be_bytes();
    [SIGNATURE, &[0x20 | command, family][..], &length, content].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xDD, 0xD5, 0x01, 0xBB];

#[test]
fn headers_of_version_1_are_read() {
    let cases = [
        ("PROXY TCP4 192.0.2.1 198.51.100.7 56789 443\r\n", Some(("192.0.2.1:56789", "198.51.100.7:443"))),
        ("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", Some(("[2001:db8::1]:1", "[::1]:65535"))),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff:ff:ff what ever\r\n", None),
    ];
    for (line, expected) in cases {
        let bytes = format!("{line}GET / HTTP/1.1\r\n");
        let (header, length) = read(bytes.as_bytes()).expect("valid").expect("complete");
        let expected =
            expected.map(|(from, to)| Addresses { source: address(from), destination: address(to) });
        assert_eq!((header.addresses, length), (expected, line.len()), "{line}");
    }
}

#[test]
fn headers_of_version_1_that_are_wrong_are_refused() {
    let cases = [
        "PROXY TCP4 192.0.2.1 198.51.100.7 56789\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 56789 443 1\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.7 56789 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 56789 443 \r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.7 56789 443\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.7 56789 443\r\n",
        "PROXY TCP4 ::1 ::1 56789 443\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.1 56789 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 0443 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 +443 443\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.7 443 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 443 443\n\r\n",
    ];
    for line in cases {
        assert_eq!(reason(line.as_bytes()), "the PROXY header of version 1 is malformed", "{line}");
    }
    let long = format!("PROXY UNKNOWN {}", "x".repeat(107 - 14));
    assert_eq!(long.len(), 107);
    assert!(reason(long.as_bytes()).contains("107"));
    assert_eq!(read(&long.as_bytes()[..106]), Ok(None));
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_eq!(read(longest.as_bytes()).expect("valid").expect("complete").1, 107);
}

#[test]
fn what_is_no_header_is_refused_at_the_first_byte_that_differs() {
    for bytes in [&b"G"[..], b"PROXy", b"PROXY\t", b"\r\n\r\n\0\r\nQUIX", b"\n", b"\x16\x03\x01"] {
        assert!(reason(bytes).contains("does not begin"), "{bytes:?}");
    }
    for bytes in [&b""[..], b"P", b"PROXY", b"\r\n\r\n\0", SIGNATURE] {
        assert_eq!(read(bytes), Ok(None), "{bytes:?}");
    }
}

#[test]
fn headers_of_version_2_are_read() {
    let ends =
        Some(Addresses { source: address("192.0.2.1:56789"), destination: address("198.51.100.7:443") });
    let mut ipv6 = [0; 36];
    (ipv6[0], ipv6[15], ipv6[31], ipv6[33], ipv6[35]) = (0x20, 1, 2, 80, 81);
    let six = Some(Addresses { source: address("[2000::1]:80"), destination: address("[::2]:81") });
    let cases = [
        (v2(1, 0x11, &IPV4), ends),
        (v2(1, 0x21, &ipv6), six),
        (v2(1, 0x31, &[b'x'; 216]), None),
        (v2(1, 0, &[]), None),
        (v2(0, 0, &[]), None),
        (v2(0, 0x11, &IPV4), None),
    ];
    for (bytes, expected) in cases {
        let more = [&bytes[..], b"more"].concat();
        let (header, length) = read(&more).expect("valid").expect("complete");
        assert_eq!((header.addresses, length), (expected, bytes.len()), "{bytes:?}");
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Ok(None), "the first {cut} of {bytes:?}");
        }
    }
}

#[test]
fn headers_of_version_2_that_are_wrong_are_refused() {
    let with = |more: &[u8]| v2(1, 0x11, &[&IPV4, more].concat());
    let mut version = v2(1, 0x11, &IPV4);
    version[12] = 0x11;
    let mut long = v2(1, 0x11, &IPV4);
    long[14..16].copy_from_slice(&4097_u16.to_be_bytes());
    let cases = [
        (version, "version"),
        (long, "4,096"),
        (v2(2, 0x11, &IPV4), "command"),
        (v2(1, 0x41, &IPV4), "family"),
        (v2(1, 0x12, &IPV4), "stream"),
        (v2(1, 0x10, &IPV4), "stream"),
        (v2(1, 0x01, &[]), "stream"),
        (v2(1, 0x11, &IPV4[..11]), "length"),
        (v2(0, 0x21, &IPV4), "length"),
        (with(&[1]), "length"),
        (with(&[1, 0, 3, b'h', b'2']), "length"),
        (with(&[3, 0, 4, 1, 2, 3, 4]), "checksum"),
        (with(&[3, 0, 3, 1, 2, 3]), "checksum"),
    ];
    for (bytes, expected) in cases {
        if expected == "stream" && bytes[13] == 0x01 {
            // A family that tells nothing has no protocol either (0x00), but 0x01 is harmless and is read as such.
            assert!(read(&bytes).is_ok());
            continue;
        }
        assert!(reason(&bytes).contains(expected), "{bytes:?}: {}", reason(&bytes));
    }
}

#[test]
fn the_checksum_has_the_published_values() {
    // RFC 3720 appendix B.4.
    assert_eq!(tlv::crc32c([&[0; 32][..]]), 0x8A91_36AA);
    assert_eq!(tlv::crc32c([&[0xFF; 32][..]]), 0x62A8_AB43);
    let counting: Vec<u8> = (0..32).collect();
    assert_eq!(tlv::crc32c([&counting[..7], &counting[7..]]), 0x46DD_794E);
}

fn client() -> Client {
    let mut received = Vec::new();
    tlv::push(&mut received, Kind::UNIQUE_ID, b"id-1");
    tlv::push(&mut received, Kind(0xEA), b"vpce");
    tlv::push(&mut received, Kind::AUTHORITY, b"claimed.example");
    Client {
        addresses: Some(Addresses {
            source: address("192.0.2.1:56789"),
            destination: address("198.51.100.7:443"),
        }),
        authority: Some("db.example".into()),
        alpn: Some(b"postgresql"[..].into()),
        tls: Some(TlsFacts { version: "TLSv1.3", certificate: false }),
        received: Tlvs::read(&received).expect("valid"),
    }
}

#[test]
fn what_is_written_is_read_again() {
    let client = client();
    let bytes = write(Version::V1, &client);
    assert_eq!(bytes, b"PROXY TCP4 192.0.2.1 198.51.100.7 56789 443\r\n");
    let bytes = write(Version::V2, &client);
    let (header, length) = read(&bytes).expect("valid").expect("complete");
    assert_eq!((header.addresses, length), (client.addresses, bytes.len()));
    let fields: Vec<(u8, Vec<u8>)> =
        header.tlvs.iter().map(|(kind, value)| (kind.0, value.to_vec())).collect();
    assert_eq!(fields[..2], [(1, b"postgresql".to_vec()), (2, b"db.example".to_vec())]);
    assert_eq!(fields[2], (0x20, b"\x01\0\0\0\x01\x21\0\x07TLSv1.3".to_vec()));
    assert_eq!(fields[3..5], [(5, b"id-1".to_vec()), (0xEA, b"vpce".to_vec())]);
    assert_eq!((fields.len(), fields[5].0), (6, 3), "the field of the other proxy is not passed on");
    // The checksum finds every change but that of its own kind, without which there is no checksum.
    for at in (16..bytes.len()).filter(|at| *at != bytes.len() - 7) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(read(&changed).is_err(), "byte {at}");
    }
    let own = Client::default();
    assert_eq!(write(Version::V1, &own), b"PROXY UNKNOWN\r\n");
    let (header, _) = read(&write(Version::V2, &own)).expect("valid").expect("complete");
    assert_eq!(header.addresses, None);
}

#[test]
fn the_two_addresses_are_written_in_one_family() {
    let of = |source: &str, destination: &str| {
        let ends = Addresses { source: address(source), destination: address(destination) };
        let client = Client { addresses: Some(ends), ..Client::default() };
        String::from_utf8(write(Version::V1, &client)).expect("text")
    };
    assert_eq!(of("[::ffff:192.0.2.1]:1", "127.0.0.1:2"), "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n");
    assert_eq!(of("192.0.2.1:1", "[2001:db8::2]:2"), "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n");
}

/// The beginning of some header.
fn beginning() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"PROXY TCP4 192.0.2.1 ".to_vec()),
        Just(SIGNATURE.to_vec()),
        Just(write(Version::V2, &client())),
        Just(v2(1, 0x11, &IPV4)),
    ]
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(
        mut bytes in beginning(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        more in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend(more);
        if let Ok(Some((header, length))) = read(&bytes) {
            prop_assert!(length <= bytes.len());
            let fields: usize = header.tlvs.iter().map(|(_, value)| 3 + value.len()).sum();
            prop_assert!(fields <= length);
            // No shorter piece of it is a header.
            for cut in 0..length {
                prop_assert_eq!(read(&bytes[..cut]), Ok(None));
            }
        }
    }

    #[test]
    fn any_two_addresses_come_through(
        source in any::<std::net::SocketAddrV4>(),
        destination in any::<std::net::SocketAddrV6>(),
        same in any::<bool>(),
    ) {
        let destination = if same { SocketAddr::V4(source) } else {
            SocketAddr::new((*destination.ip()).into(), destination.port())
        };
        let ends = Addresses { source: source.into(), destination };
        let client = Client { addresses: Some(ends), ..Client::default() };
        for version in [Version::V1, Version::V2] {
            let (header, _) = read(&write(version, &client)).expect("valid").expect("complete");
            let read = header.addresses.expect("addresses");
            prop_assert_eq!(read.source.ip().to_canonical(), ends.source.ip().to_canonical());
            prop_assert_eq!(read.destination.ip().to_canonical(), ends.destination.ip().to_canonical());
            prop_assert_eq!((read.source.port(), read.destination.port()), (source.port(), destination.port()));
        }
    }
}
