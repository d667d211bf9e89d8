//! What a configuration means in which something is missing.

use witgate_config::parse_str;

fn listeners(text: &str) -> Vec<String> {
    let loaded = parse_str(text).unwrap_or_else(|failure| panic!("{}", failure.render(false)));
    loaded.config.listeners.into_iter().map(|listener| listener.address.to_string()).collect()
}

#[test]
fn the_default_listener_is_there_unless_an_empty_configuration_is_meant() {
    assert_eq!(listeners(""), ["0.0.0.0:8080"]);
    assert!(listeners("[gateway]\nallow_empty = true\n").is_empty());
    let written = "[gateway]\nallow_empty = true\n[[listeners]]\naddress = \"127.0.0.1:1\"\n";
    assert_eq!(listeners(written), ["127.0.0.1:1"]);
}
