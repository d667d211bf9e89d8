//! Lets in whoever knows the key.
use witgate_sdk::{Decision, Request, authentication, crypto, settings};

#[settings]
struct Settings {
    key: String,
}

#[authentication(headers = ["x-api-key"])]
fn authenticate(request: &Request, settings: &Settings) -> Decision {
    match request.header("x-api-key") {
        Some(key) if crypto::equal(key, &settings.key) => Decision::accept("key-holder"),
        _ => Decision::not_mine("ApiKey"),
    }
}
