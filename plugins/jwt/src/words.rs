//! Comparing short texts in place.

/// Whether two texts are the same, by words. Elsewhere the compiler does so itself; for a component it calls a function
/// that takes one byte after the other.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let (words, rest) = one.as_chunks::<8>();
    let (other_words, other_rest) = other.as_chunks::<8>();
    one.len() == other.len()
        && words
            .iter()
            .zip(other_words)
            .all(|(one, other)| u64::from_le_bytes(*one) == u64::from_le_bytes(*other))
        && rest.iter().zip(other_rest).all(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_same_as_a_whole() {
        let text = b"a text of three words";
        for length in 0..=text.len() {
            let text = &text[..length];
            assert!(is_same(text, text));
            for place in 0..length {
                let mut other = text.to_owned();
                other[place] = b'!';
                assert!(!is_same(text, &other) && !is_same(text, &text[..place]), "{place} of {length}");
            }
        }
    }
}
