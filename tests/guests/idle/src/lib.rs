//! A plugin that does nothing: what a call costs.

use witgate_sdk::{Request, RequestChanges, transformation};

#[transformation]
fn idle(_request: &Request) -> RequestChanges {
    RequestChanges::none()
}
