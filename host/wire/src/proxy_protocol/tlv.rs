//! The additional fields (TLVs) of a header of version 2, and the checksum among them.

/// A kind of field (section 2.2 of the specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub u8);

impl Kind {
    /// The application protocol of the client's TLS connection.
    pub const ALPN: Kind = Kind(0x01);
    /// The server name of the client's TLS connection.
    pub const AUTHORITY: Kind = Kind(0x02);
    /// The checksum of the header.
    pub const CRC32C: Kind = Kind(0x03);
    /// Padding.
    pub const NOOP: Kind = Kind(0x04);
    /// A value that identifies the connection.
    pub const UNIQUE_ID: Kind = Kind(0x05);
    /// Facts about the client's TLS connection, with fields of its own.
    pub const SSL: Kind = Kind(0x20);
    /// The version of TLS, a field of [`Kind::SSL`].
    pub const SSL_VERSION: Kind = Kind(0x21);

    /// Whether a proxy passes the field on as it came: the identifier of the connection, and fields that a product or an
    /// operator has defined.
    pub fn is_passed_on(self) -> bool {
        self == Kind::UNIQUE_ID || (0xE0..=0xEF).contains(&self.0)
    }
}

/// The fields of a header, whose lengths were checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tlvs(Box<[u8]>);

impl Tlvs {
    /// Checks the lengths. `None` if they do not fit.
    pub(super) fn read(bytes: &[u8]) -> Option<Tlvs> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = split(rest)?.2;
        }
        Some(Tlvs(bytes.into()))
    }

    /// The fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (kind, value, after) = split(rest)?;
            rest = after;
            Some((kind, value))
        })
    }

    /// The first field of a kind.
    pub fn get(&self, kind: Kind) -> Option<&[u8]> {
        self.iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }
}

/// The first field, and what follows it.
fn split(bytes: &[u8]) -> Option<(Kind, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(3)?;
    let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
    let (value, rest) = rest.split_at_checked(length)?;
    Some((Kind(head[0]), value, rest))
}

/// Appends a field. A value that is too long for one is left out.
pub(super) fn push(out: &mut Vec<u8>, kind: Kind, value: &[u8]) {
    let Ok(length) = u16::try_from(value.len()) else { return };
    out.push(kind.0);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
}

/// CRC-32C (Castagnoli; RFC 3720 appendix B.4) over several pieces.
pub(super) fn crc32c<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let bytes = pieces.into_iter().flatten();
    !bytes.fold(!0, |sum: u32, byte| CRC[usize::from(sum as u8 ^ byte)] ^ (sum >> 8))
}

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut sum = index as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82F6_3B78 } else { sum >> 1 };
            bit += 1;
        }
        table[index] = sum;
        index += 1;
    }
    table
};
