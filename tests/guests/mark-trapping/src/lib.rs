//! A later version of the marking plugin: it loads, takes its settings, and panics at every request.

use witgate_sdk::{Request, RequestChanges, transformation};

#[transformation]
fn mark(request: &Request) -> RequestChanges {
    panic!("a defect that only requests bring out: {}", request.path());
}
