use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

fn vector16(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("it fits").to_be_bytes();
    [&length, bytes].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(content)].concat()
}

fn names(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| [&[0][..], &vector16(name)].concat()).collect();
    extension(SERVER_NAME, &vector16(&list))
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = protocols
        .iter()
        .flat_map(|protocol| [&[u8::try_from(protocol.len()).expect("it fits")][..], protocol].concat())
        .collect();
    extension(ALPN, &vector16(&list))
}

/// A handshake message with these extensions.
fn handshake(extensions: &[u8]) -> Vec<u8> {
    let fixed = [&[3, 3][..], &[7; 32], &[0], &[0, 4, 0x13, 1, 0x0A, 0x0A], &[1, 0]].concat();
    let body = [fixed, vector16(extensions)].concat();
    let length = u32::try_from(body.len()).expect("it fits").to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

/// Its records, each with at most `most` bytes of content.
fn records(handshake: &[u8], most: usize) -> Vec<u8> {
    let record = |content: &[u8]| [&[22, 3, 1][..], &vector16(content)].concat();
    handshake.chunks(most).flat_map(record).collect()
}

fn whole(bytes: &[u8]) -> Result<Option<ClientHello>, Malformed> {
    HelloReader::default().advance(bytes)
}

/// Gives the bytes in pieces of this size.
fn in_pieces(bytes: &[u8], size: usize) -> Result<Option<ClientHello>, Malformed> {
    let mut reader = HelloReader::default();
    for end in (size..bytes.len()).step_by(size).chain([bytes.len()]) {
        match reader.advance(&bytes[..end]) {
            Ok(None) => {}
            done => return done,
        }
    }
    Ok(None)
}

fn named(name: &[u8]) -> Result<Option<Box<str>>, Malformed> {
    let read = whole(&records(&handshake(&names(&[name])), MOST_IN_RECORD));
    read.map(|hello| hello.expect("it is complete").server_name)
}

/// The first flight of a real client.
fn real(name: &str, protocols: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the versions of the provider")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = name.to_owned().try_into().expect("a server name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("memory takes everything");
    bytes
}

#[test]
fn the_hello_of_a_real_client_is_read_in_pieces_of_any_size() {
    let bytes = real("Db.Example", &["h2", "postgresql"]);
    let expected = ClientHello {
        server_name: Some("db.example".into()),
        alpn: vec![b"h2"[..].into(), b"postgresql"[..].into()],
    };
    for size in [1, 2, 5, 100, bytes.len()] {
        assert_eq!(in_pieces(&bytes, size), Ok(Some(expected.clone())), "pieces of {size}");
    }
    assert_eq!(whole(&bytes[..bytes.len() - 1]), Ok(None));
    let unnamed = whole(&real("127.0.0.1", &[])).expect("valid").expect("complete");
    assert_eq!(unnamed, ClientHello::default());
}

#[test]
fn a_hello_may_be_spread_over_records_and_be_longer_than_one() {
    let key_share = extension(51, &[9; 20_000]);
    // The outer hello of Encrypted Client Hello names the public name, and its extension decides nothing here.
    let outer = extension(0xFE0D, &[0; 300]);
    let message = handshake(&[outer, key_share, names(&[b"a.example"]), alpn(&[b"h2"])].concat());
    for most in [1, 3, 4, 5, 1000, MOST_IN_RECORD] {
        let bytes = records(&message, most);
        let hello = in_pieces(&bytes, 777);
        if bytes.len() > MOST_RECEIVED {
            assert_eq!(hello, Err(Malformed::TooLong), "records of {most}");
        } else {
            let hello = hello.expect("valid").expect("complete");
            assert_eq!(hello.server_name.as_deref(), Some("a.example"), "records of {most}");
        }
    }
}

#[test]
fn names_are_compared_in_one_form_and_what_is_no_name_is_refused() {
    let some = |name: &str| Ok(Some(name.into()));
    assert_eq!(named(b"A.ExAmple"), some("a.example"));
    assert_eq!(named(b"a.example."), some("a.example"));
    assert_eq!(named(b"_sip.a-b.example"), some("_sip.a-b.example"));
    assert_eq!(named(b"xn--bcher-kva.example"), some("xn--bcher-kva.example"));
    for address in [&b"192.0.2.1"[..], b"192.0.2.1."] {
        assert_eq!(named(address), Ok(None), "{address:?}");
    }
    let long = [&[b'a'; 63][..]; 5].join(&b'.');
    let bad: [&[u8]; 12] = [
        b"",
        b".",
        b"a..example",
        b".example",
        b"a.example..",
        b"a.example\0",
        b"a.example\0.other.example",
        b"*.example",
        b"a.example:443",
        b"b\xC3\xBCcher.example",
        b"a\xFF.example",
        &long,
    ];
    for name in bad {
        assert_eq!(named(name), Err(Malformed::BadName), "{name:?}");
    }
    assert_eq!(named(&[b'a'; 64]), Err(Malformed::BadName));
    assert_eq!(named(&[b'a'; 300]), Err(Malformed::BadName));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let read = |extensions: &[u8]| whole(&records(&handshake(extensions), MOST_IN_RECORD));
    assert_eq!(read(&names(&[b"a.example", b"b.example"])), Err(Malformed::TwoNames));
    let twice = [names(&[b"a.example"]), names(&[b"b.example"])].concat();
    assert_eq!(read(&twice), Err(Malformed::TwoNames));
    let offers = [alpn(&[b"h2"]), alpn(&[b"http/1.1"])].concat();
    assert!(matches!(read(&offers), Err(Malformed::Content(_))));
    // A name of another kind than a host name is skipped.
    let other = [&[1][..], &vector16(b"x"), &[0], &vector16(b"a.example")].concat();
    let hello = read(&extension(SERVER_NAME, &vector16(&other))).expect("valid").expect("complete");
    assert_eq!(hello.server_name.as_deref(), Some("a.example"));
}

#[test]
fn malformed_hellos_are_refused() {
    let good = records(&handshake(&[names(&[b"a.example"]), alpn(&[b"h2"])].concat()), MOST_IN_RECORD);
    assert!(whole(&good).is_ok());
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x80\x2E\x01\x00\x02", b"\0\0\0\x08\x04\xD2\x16\x2F", b"\x15"]
    {
        assert_eq!(whole(bytes), Err(Malformed::NotTls), "{bytes:?}");
    }
    assert_eq!(whole(b"\x16\x02"), Err(Malformed::NotTls));
    let content = |bytes: &[u8]| assert!(matches!(whole(bytes), Err(Malformed::Content(_))), "{bytes:?}");
    content(b"\x16\x03\x01\0\0");
    content(b"\x16\x03\x01\x40\x01");
    content(b"\x16\x03\x01\0\x01\x02");
    // A record of another kind between two of the handshake.
    content(&[records(&handshake(&[])[..5], 5), b"\x14\x03\x03\0\x01\x01".to_vec()].concat());
    // More in the record than the hello.
    content(&records(&[handshake(&[]), vec![0]].concat(), MOST_IN_RECORD));
    assert_eq!(whole(b"\x16\x03\x01\0\x04\x01\x01\0\x01"), Err(Malformed::TooLong));
    for bad in [
        extension(SERVER_NAME, &[]),
        extension(SERVER_NAME, &vector16(&[])),
        extension(SERVER_NAME, &[0, 5, 0, 0, 1, b'a']),
        extension(ALPN, &vector16(&[])),
        extension(ALPN, &vector16(&[0])),
        extension(ALPN, &vector16(&[3, b'h', b'2'])),
        vec![0],
        vec![0, 0, 0, 9],
    ] {
        content(&records(&handshake(&bad), MOST_IN_RECORD));
    }
}

#[test]
fn a_hello_without_extensions_is_one_of_an_old_client() {
    let body = [&[3, 1][..], &[7; 32], &[0], &[0, 2, 0, 10], &[1, 0]].concat();
    let message = [&[1, 0, 0, u8::try_from(body.len()).expect("short")][..], &body].concat();
    assert_eq!(whole(&records(&message, MOST_IN_RECORD)), Ok(Some(ClientHello::default())));
}

#[test]
fn an_alert_is_one_record() {
    assert_eq!(Malformed::TwoNames.alert().record(), [21, 3, 3, 0, 2, 2, 47]);
}

proptest! {
    /// Whatever is changed in a real hello: no panic, the same result in pieces, and the same name as rustls reads.
    #[test]
    fn rustls_reads_the_same_name(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in any::<prop::sample::Index>(),
        size in 1_usize..2000,
    ) {
        let mut bytes = real("db.example", &["h2", "http/1.1"]);
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if changes.len() == 2 {
            bytes.truncate(cut.index(bytes.len()));
        }
        let read = whole(&bytes);
        prop_assert_eq!(&read, &in_pieces(&bytes, size));
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut &*bytes).expect("memory can be read");
        if let (Ok(Some(hello)), Ok(Some(accepted))) = (read, acceptor.accept()) {
            let name = accepted.client_hello().server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
            prop_assert_eq!(hello.server_name.as_deref(), name.as_deref());
        }
    }
}
