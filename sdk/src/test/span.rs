//! Mock of the interface `span`.

use super::gateway::with_state;

pub(crate) fn sampled() -> bool {
    with_state(|state| state.attributes.is_some())
}

pub(crate) fn attribute(name: &str, value: &str) {
    let letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.');
    let is_name = !name.is_empty() && name.len() <= 64 && name.bytes().all(letter);
    assert!(is_name, "the gateway leaves out an attribute of this name: {name:?}");
    with_state(|state| {
        let Some(attributes) = &mut state.attributes else { return };
        let value = value[..value.floor_char_boundary(256)].to_owned();
        match attributes.iter().position(|(known, _)| known == name) {
            Some(index) => attributes[index].1 = value,
            None if attributes.len() < 16 => attributes.push((name.to_owned(), value)),
            None => {}
        }
    });
}
