//! Small components that take much work to compile, written byte by byte because no toolchain produces them.

/// The first bytes of a component.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// The first bytes of a core module.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Components nested to this depth.
pub fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(COMPONENT.to_vec(), |inner, _| [COMPONENT, &section(4, &inner)].concat())
}

/// A component with the exports of a plugin and one function with `locals` local variables and a sequence of
/// `loops` loops over them. What a compiler keeps for each pair of the two grows with their product.
pub fn loops(locals: u32, loops: u32) -> Vec<u8> {
    let mut body = [number(1).as_slice(), &number(locals), &[0x7f]].concat();
    for index in 0..loops {
        let (one, other) = (number(index % locals), number((index * 7 + 1) % locals));
        // The code of a loop: `loop`, add one variable to another, continue while the sum is not 0, `end`.
        body.extend([0x03, 0x40, 0x20]);
        body.extend(&one);
        body.push(0x20);
        body.extend(other);
        body.extend([0x6a, 0x22]);
        body.extend(&one);
        body.extend([0x0d, 0x00, 0x0b]);
    }
    body.push(0x0b);
    with_module(&module(&body))
}

/// A valid component with the exports of a plugin that is not a plugin, because the exported instances are empty.
pub fn hollow() -> Vec<u8> {
    with_module(&module(&[0x00, 0x0b]))
}

/// A module with one function that has this body and neither parameters nor results.
fn module(body: &[u8]) -> Vec<u8> {
    let code = [number(1), number(len(body)), body.to_vec()].concat();
    [MODULE, &section(1, &[1, 0x60, 0, 0]), &section(3, &[1, 0]), &section(10, &code)].concat()
}

/// A component with a module and, for each export that a plugin has, an empty instance.
fn with_module(module: &[u8]) -> Vec<u8> {
    let mut exports = vec![2];
    for name in ["witgate:plugin/lifecycle@0.1.0", "witgate:plugin/authentication@0.1.0"] {
        exports.push(0);
        exports.extend(number(u32::try_from(name.len()).expect("a short name")));
        exports.extend(name.as_bytes());
        // Instance 0, exported without a type annotation.
        exports.extend([5, 0, 0]);
    }
    [COMPONENT, &section(1, module), &section(5, &[1, 1, 0]), &section(11, &exports)].concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id], number(len(content)).as_slice(), content].concat()
}

fn len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("tests write small components")
}

/// A number in LEB128, the encoding of integers in WebAssembly.
fn number(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("seven bits"));
    bytes
}
