//! Components that take long to compile.

/// The component with one more core module that nothing uses. Its function has `size` local variables and loops,
/// for which a compiler needs time proportional to the square of `size`. The component does the same as before.
///
/// With 20,000 it takes minutes; a test that uses so many must not wait for it.
pub fn slow_to_compile(component: &[u8], size: u32) -> Vec<u8> {
    let module = module(size);
    let mut bytes = component.to_vec();
    // Section 1 of a component is a core module (Component Model, Binary.md).
    bytes.push(1);
    number(module.len() as u32, &mut bytes);
    bytes.extend(module);
    bytes
}

/// A core module (WebAssembly Core Specification, section 5.5) with one function.
fn module(size: u32) -> Vec<u8> {
    let mut body = vec![1];
    number(size, &mut body);
    body.push(0x7e);
    for index in 0..size {
        // The code of a loop: `loop`, `local.get`, `local.set`, `end`.
        body.extend([0x03, 0x40, 0x20]);
        number(index, &mut body);
        body.push(0x21);
        number((index * 7 + 1) % size, &mut body);
        body.push(0x0b);
    }
    body.push(0x0b);
    let mut code = vec![1];
    number(body.len() as u32, &mut code);
    code.extend(body);

    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(1, &[1, 0x60, 0, 0], &mut module);
    section(3, &[1, 0], &mut module);
    section(10, &code, &mut module);
    module
}

fn section(id: u8, content: &[u8], module: &mut Vec<u8>) {
    module.push(id);
    number(content.len() as u32, module);
    module.extend(content);
}

/// Unsigned LEB128.
fn number(mut number: u32, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
