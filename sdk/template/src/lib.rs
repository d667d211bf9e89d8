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

#[cfg(test)]
mod tests {
    use super::*;
    use witgate_sdk::test;

    fn decide(key: &str) -> Decision {
        let settings: Settings = test::configure(r#"{ "key": "open-sesame" }"#).unwrap();
        authenticate(&test::request().header("x-api-key", key).build(), &settings)
    }

    #[test]
    fn who_knows_the_key_is_let_in() {
        assert_eq!(decide("open-sesame"), Decision::accept("key-holder"));
    }

    #[test]
    fn nobody_else_is() {
        assert_eq!(decide("open-barley"), Decision::not_mine("ApiKey"));
    }

    #[test]
    fn settings_without_a_key_are_refused() {
        assert!(test::configure::<Settings>("{}").is_err());
    }
}
