//! Settings for the tests of this folder.

use witgate_config::model;

/// The settings of a consumer with these further keys.
pub(crate) fn settings(keys: &str) -> model::Consumer {
    let text = format!(
        "[brokers.b]\nkind = \"memory\"\n[consumers.c]\nbroker = \"b\"\nfrom = \"q\"\npath = \"/hook\"\n\
         dead_letter = \"discard\"\n{keys}\n[[routes]]\nrespond = {{ status = 200 }}\n"
    );
    let loaded = witgate_config::parse_str(&text);
    let mut config = loaded.unwrap_or_else(|failure| panic!("{}", failure.render(false))).config;
    config.consumers.remove("c").expect("declared")
}
