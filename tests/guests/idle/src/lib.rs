//! A plugin that does nothing, for measuring the cost of a call.

use witgate_sdk::{Request, RequestChanges, transformation};

#[transformation]
fn idle(_request: &Request) -> RequestChanges {
    RequestChanges::none()
}
