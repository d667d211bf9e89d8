//! A later version of the marking plugin. It loads and accepts its settings, but panics at every request; below
//! `/sometimes` only at those whose path ends in 0.

use witgate_sdk::{Request, RequestChanges, transformation};

#[transformation]
fn mark(request: &Request) -> RequestChanges {
    let path = request.path();
    if path.starts_with("/sometimes") && !path.ends_with('0') {
        return RequestChanges::none().set("x-mark", "three");
    }
    panic!("a defect that only requests bring out: {path}");
}
