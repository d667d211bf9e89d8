//! Settings for the tests of this folder.

use witgate_config::model;

use super::Consumer;
use crate::destination::publish::tests::FakeBroker;
use crate::testing;

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

/// The consumer with these further keys, of a broker that only exists in tests.
pub(crate) fn consumer(keys: &str) -> Consumer {
    let settings = settings(keys);
    let mut config = testing::config();
    config.listeners.push(listener(&settings.listener));
    config.consumers.insert("c".to_owned(), settings);
    let brokers = FakeBroker::new(Ok(())).named();
    Consumer::build("c", &config, &brokers).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn listener(name: &str) -> model::Listener {
    let loaded = witgate_config::parse_str("[[routes]]\nrespond = { status = 200 }\n");
    let mut config = loaded.unwrap_or_else(|failure| panic!("{}", failure.render(false))).config;
    model::Listener { name: name.to_owned(), ..config.listeners.remove(0) }
}
