//! The protocol of the pipes between the gateway and the child that compiles.
//!
//! To the child: a key of 32 random bytes, the length of the component (8 bytes, little endian), the component.
//! Back: a message authentication code (HMAC-SHA-256 with that key) over all that follows, the kind of reply (one
//! byte), the length of the payload (8 bytes), and the payload: compiled code or an error text. So a reply that is
//! truncated, or that belongs to another request, is never taken for code.

use std::io::{self, Read, Write};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

/// Length of the key and of the message authentication code, in bytes.
pub(super) const KEY: usize = 32;

/// Bytes of a reply before its payload.
const HEAD: usize = KEY + 1 + 8;

/// The largest compiled code, in bytes. For comparison: the code of a Python program of 15 MiB has 60 MiB.
pub(super) const CODE: u64 = 512 << 20;

/// The reply of the child.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Compiled code.
    Code(Vec<u8>),
    /// The component is invalid; the reason.
    Damaged(String),
    /// The component cannot be compiled; the reason.
    Uncompiled(String),
}

/// Writes the request to the child.
///
/// # Errors
/// The child has ended.
pub(super) fn write_question(into: &mut impl Write, key: &[u8; KEY], component: &[u8]) -> io::Result<()> {
    into.write_all(key)?;
    into.write_all(&(component.len() as u64).to_le_bytes())?;
    into.write_all(component)
}

/// Reads the request: the key and the component.
///
/// # Errors
/// The request is truncated, or the component is larger than `limit`.
pub(super) fn read_question(from: &mut impl Read, limit: u64) -> io::Result<([u8; KEY], Vec<u8>)> {
    let (mut key, mut length) = ([0; KEY], [0; 8]);
    from.read_exact(&mut key)?;
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > limit {
        return Err(io::Error::other("the component is too large"));
    }
    let mut component = Vec::new();
    from.take(length).read_to_end(&mut component)?;
    if component.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((key, component))
}

impl Answer {
    fn parts(&self) -> (u8, &[u8]) {
        match self {
            Answer::Code(code) => (0, code),
            Answer::Damaged(reason) => (1, reason.as_bytes()),
            Answer::Uncompiled(reason) => (2, reason.as_bytes()),
        }
    }

    /// Writes the reply.
    ///
    /// # Errors
    /// The parent has ended.
    pub(super) fn write(&self, into: &mut impl Write, key: &[u8; KEY]) -> io::Result<()> {
        let (kind, content) = self.parts();
        let length = (content.len() as u64).to_le_bytes();
        into.write_all(authenticate(key, kind, &length, content).as_ref())?;
        into.write_all(&[kind])?;
        into.write_all(&length)?;
        into.write_all(content)?;
        into.flush()
    }

    /// Reads a reply; `None` if it is truncated or does not belong to the request with this key.
    pub(super) fn read(bytes: &[u8], key: &[u8; KEY]) -> Option<Answer> {
        let (head, content) = bytes.split_at_checked(HEAD)?;
        let (tag, kind, length) = (&head[..KEY], head[KEY], &head[KEY + 1..]);
        if length != (content.len() as u64).to_le_bytes() {
            return None;
        }
        verify_slices_are_equal(tag, authenticate(key, kind, length, content).as_ref()).ok()?;
        let reason = || String::from_utf8_lossy(content).chars().take(2_000).collect();
        match kind {
            0 => Some(Answer::Code(content.to_vec())),
            1 => Some(Answer::Damaged(reason())),
            2 => Some(Answer::Uncompiled(reason())),
            _ => None,
        }
    }
}

fn authenticate(key: &[u8; KEY], kind: u8, length: &[u8], content: &[u8]) -> hmac::Tag {
    let mut covered = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    covered.update(&[kind]);
    covered.update(length);
    covered.update(content);
    covered.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_arrive_as_they_were_sent() {
        let mut pipe = Vec::new();
        write_question(&mut pipe, &[7; KEY], b"component").unwrap();
        assert_eq!(read_question(&mut pipe.as_slice(), 9).unwrap(), ([7; KEY], b"component".to_vec()));
        assert!(read_question(&mut pipe.as_slice(), 8).is_err(), "too large");
        assert!(read_question(&mut &pipe[..pipe.len() - 1], 9).is_err(), "cut short");
        for answer in [Answer::Code(vec![1, 2]), Answer::Damaged("d".into()), Answer::Uncompiled("u".into())]
        {
            let mut pipe = Vec::new();
            answer.write(&mut pipe, &[7; KEY]).unwrap();
            assert_eq!(Answer::read(&pipe, &[7; KEY]), Some(answer));
        }
    }

    #[test]
    fn an_answer_that_is_not_whole_or_not_ours_is_none() {
        let mut pipe = Vec::new();
        Answer::Code(vec![1, 2, 3]).write(&mut pipe, &[7; KEY]).unwrap();
        for end in 0..pipe.len() {
            assert_eq!(Answer::read(&pipe[..end], &[7; KEY]), None, "cut after {end}");
        }
        for at in 0..pipe.len() {
            let mut touched = pipe.clone();
            touched[at] ^= 1;
            assert_eq!(Answer::read(&touched, &[7; KEY]), None, "byte {at}");
        }
        assert_eq!(Answer::read(&pipe, &[8; KEY]), None, "another question's");
        pipe.push(0);
        assert_eq!(Answer::read(&pipe, &[7; KEY]), None, "something follows");
    }
}
