//! A routing plugin written directly on the contracts. It fetches `METHOD UPSTREAM PATH [HEADER VALUE]`, as the
//! header `x-fetch` says, and returns the result as the path.

wit_bindgen::generate!({ path: "../../../wit/0.1.0", world: "routing-plugin", generate_all });

use exports::witgate::plugin::lifecycle::{BodyAccess, Interest, SettingsProblem};
use exports::witgate::plugin::routing::Destination;
use witgate::plugin::fetch;
use witgate::plugin::types::{Header, Request, RequestHead};

struct Fetcher;
export!(Fetcher);

fn forever() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn fetch(order: &str) -> String {
    let words: Vec<&str> = order.split(' ').collect();
    let headers = match words[..] {
        [_, _, _, name, value] => vec![Header { name: name.into(), value: value.into() }],
        _ => Vec::new(),
    };
    let word = |index: usize| words.get(index).copied().unwrap_or("").to_owned();
    let request = fetch::OutboundRequest {
        method: word(0),
        upstream: word(1),
        path: word(2),
        headers,
        body: Vec::new(),
        timeout: None,
    };
    match fetch::send(&request) {
        Ok(response) => format!("{} {}", response.status, String::from_utf8_lossy(&response.body)),
        Err(error) => format!("{error:?}"),
    }
}

impl exports::witgate::plugin::lifecycle::Guest for Fetcher {
    fn settings_schema() -> String {
        "true".into()
    }

    fn configure(settings: String) -> Result<Interest, Vec<SettingsProblem>> {
        // During its set-up a plugin has no request and therefore no upstreams.
        if settings.contains("early") {
            let message = fetch("GET origin /early");
            return Err(vec![SettingsProblem { pointer: String::new(), message }]);
        }
        Ok(Interest {
            request_headers: vec!["x-fetch".into()],
            response_headers: vec![],
            request_body: BodyAccess::None,
            response_body: BodyAccess::None,
            response: false,
            authenticates_by: None,
            pure: vec![],
        })
    }
}

impl exports::witgate::plugin::routing::Guest for Fetcher {
    fn route(head: RequestHead, _request: &Request) -> Option<Destination> {
        let order = head.headers.first().map(|header| String::from_utf8_lossy(&header.value).into_owned())?;
        // The result of the fetch is ignored.
        if let Some(order) = order.strip_prefix("stubborn ") {
            fetch(order);
            forever();
        }
        if order == "loop" {
            forever();
        }
        Some(Destination {
            upstream: None,
            path: Some(fetch(&order)),
            hash_key: None,
            timeout: None,
            response_headers: vec![],
        })
    }
}
