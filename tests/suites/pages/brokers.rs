//! What each kind of broker can do, generated from the table of kinds.

use witgate_brokers::{KINDS, NAMES};

use super::markdown::{code, table};
use super::{head, hold};

const ABOUT: &str = "\
A configuration that asks a kind for what it cannot do is refused by `witgate validate`.

- **durable**: a confirmed message outlives the broker's process, in a queue that is durable itself
- **routed**: a message that no queue takes is a fault, `message-unroutable`
- **expire**: messages can have a `ttl`
- **order**: messages of a source are delivered in the order in which they were published
- **attempts**: the broker counts how often it delivered a message, so that `attempts` holds over restarts of the gateway; else they begin anew
- **declare**: the gateway can create the source of a consumer

";

#[test]
fn the_list_of_kinds_of_brokers_is_current() {
    assert_eq!(
        KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>(),
        NAMES,
        "the tests are built with all kinds"
    );
    let mut text = head("Kinds of brokers", "the table `KINDS` of `host/brokers`");
    text += ABOUT;
    let rows = KINDS.iter().map(|kind| {
        let can = kind.capabilities;
        let cell = |can: bool| if can { "yes" } else { "no" }.to_owned();
        [
            code(kind.name),
            kind.summary.to_owned(),
            cell(can.durable),
            cell(can.routed),
            cell(can.expire),
            cell(can.order),
            cell(can.attempts),
            cell(can.declare),
        ]
    });
    let headings = ["kind", "what it is", "durable", "routed", "expire", "order", "attempts", "declare"];
    text += &table(headings, rows);
    hold("brokers.md", &(text.trim_end().to_owned() + "\n"));
}
