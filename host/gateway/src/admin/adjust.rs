//! `POST /upstreams/NAME/endpoints/ADDRESS?weight=N&drain=true|false&reset=true`

use witgate_upstream::{EndpointChange, LARGEST_WEIGHT};

/// A change of one endpoint that a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Adjustment {
    pub(super) upstream: String,
    pub(super) address: String,
    /// The change, or why the query is invalid.
    pub(super) change: Result<EndpointChange, String>,
}

/// Parses path and query; `None` if the path is another.
pub(super) fn read(path: &str, query: Option<&str>) -> Option<Adjustment> {
    let (upstream, address) = path.strip_prefix("/upstreams/")?.split_once("/endpoints/")?;
    Some(Adjustment {
        upstream: upstream.to_owned(),
        address: address.to_owned(),
        change: change(query.unwrap_or_default()),
    })
}

fn change(query: &str) -> Result<EndpointChange, String> {
    let mut change = EndpointChange::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("weight", weight)) => {
                let weight = weight.parse::<u32>().ok().filter(|weight| *weight <= LARGEST_WEIGHT);
                change.weight =
                    Some(weight.ok_or_else(|| format!("a weight is a number up to {LARGEST_WEIGHT}"))?);
            }
            Some(("drain", "true")) => change.drain = Some(true),
            Some(("drain", "false")) => change.drain = Some(false),
            Some(("reset", "true")) => change.reset = true,
            _ => return Err(format!("`{pair}` is none of weight=N, drain=true, drain=false, reset=true")),
        }
    }
    if change == EndpointChange::default() {
        return Err("say what is to change: weight=N, drain=true, drain=false, reset=true".to_owned());
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_say_what_is_to_change() {
        let read = |query| read("/upstreams/users/endpoints/[::1]:80", Some(query)).expect("an adjustment");
        let all = read("weight=3&drain=false&reset=true");
        assert_eq!((&*all.upstream, &*all.address), ("users", "[::1]:80"));
        assert_eq!(all.change, Ok(EndpointChange { reset: true, weight: Some(3), drain: Some(false) }));
        for wrong in ["", "weight=", "weight=-1", "weight=1000001", "drain=yes", "drain", "colour=red"] {
            assert!(read(wrong).change.is_err(), "{wrong}");
        }
        assert_eq!(super::read("/upstreams/users", None), None);
    }
}
