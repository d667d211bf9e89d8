//! Whether the gateway would accept what a plugin returned, by the rules that the gateway itself applies. The error says
//! which rule is broken.

use witgate_exchange::contracts::{
    Decision, Destination, Header, HeaderChange, LocalResponse, RequestOutcome, ResponseOutcome,
};
use witgate_rules::Direction;

/// The result of `authentication`.
pub(super) fn decision(decision: &Decision) -> Result<(), String> {
    match decision {
        Decision::Accepted(acceptance) if acceptance.subject.is_empty() => {
            Err("the subject is empty".to_owned())
        }
        Decision::Accepted(acceptance) => headers(&acceptance.response_headers),
        Decision::Refused(response) => local(response),
        Decision::NotMine(challenges) => challenges
            .iter()
            .try_for_each(|challenge| witgate_rules::header_value(challenge.as_bytes()))
            .map_err(str::to_owned),
    }
}

/// The result of `routing`.
pub(super) fn destination(destination: Option<&Destination>) -> Result<(), String> {
    destination.map_or(Ok(()), |destination| headers(&destination.response_headers))
}

/// The result of a contract that lets a request go on (`None`) or answers it.
pub(super) fn answer(answer: Option<&LocalResponse>) -> Result<(), String> {
    answer.map_or(Ok(()), local)
}

/// The result of `transformation.on-request`.
pub(super) fn request_outcome(outcome: &RequestOutcome) -> Result<(), String> {
    match outcome {
        RequestOutcome::Proceed(changes) => {
            changes.method.as_deref().map_or(Ok(()), witgate_rules::method)?;
            changes.headers.iter().try_for_each(|edit| change(edit, Direction::Request))
        }
        RequestOutcome::Respond(response) => local(response),
    }
}

/// The result of `transformation.on-response`.
pub(super) fn response_outcome(outcome: &ResponseOutcome) -> Result<(), String> {
    match outcome {
        ResponseOutcome::Proceed(changes) => {
            changes.status.map_or(Ok(()), witgate_rules::status)?;
            changes.headers.iter().try_for_each(|edit| change(edit, Direction::Response))
        }
        ResponseOutcome::Respond(response) => local(response),
    }
}

fn change(change: &HeaderChange, direction: Direction) -> Result<(), String> {
    match change {
        HeaderChange::Set(field) | HeaderChange::Append(field) => header(field, direction),
        HeaderChange::Remove(name) => witgate_rules::header_name(name, direction),
        HeaderChange::SetComposed(composed) | HeaderChange::AppendComposed(composed) => {
            witgate_rules::header_name(&composed.name, direction)
        }
    }
}

fn local(response: &LocalResponse) -> Result<(), String> {
    witgate_rules::status(response.status)?;
    witgate_rules::body(response.status, response.body.len())?;
    headers(&response.headers)
}

fn headers(headers: &[Header]) -> Result<(), String> {
    headers.iter().try_for_each(|field| header(field, Direction::Response))
}

fn header(field: &Header, direction: Direction) -> Result<(), String> {
    witgate_rules::header_name(&field.name, direction)?;
    witgate_rules::header_value(&field.value).map_err(|why| format!("{why} (`{}`)", field.name))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn response(status: u16, name: &str, value: &'static str) -> Decision {
        let header = Header { name: name.to_owned(), value: Bytes::from(value) };
        Decision::Refused(LocalResponse { status, headers: vec![header], body: Bytes::from("x") })
    }

    #[test]
    fn what_the_gateway_refuses_is_refused() {
        assert_eq!(decision(&response(401, "content-type", "text/plain")), Ok(()));
        for (refused, why) in [
            (response(401, "Content-Type", "text/plain"), "lower-case"),
            (response(401, "x-a", "a\nb"), "control bytes (`x-a`)"),
            (response(401, "transfer-encoding", "chunked"), "is the gateway's"),
            (response(101, "x-a", "b"), "status 101"),
            (response(204, "x-a", "b"), "has no body"),
            (Decision::NotMine(vec!["a\r\nb".to_owned()]), "control bytes"),
        ] {
            let told = decision(&refused).expect_err("it is refused");
            assert!(told.contains(why), "{told}");
        }
        let remove = |name: &str| {
            change(&HeaderChange::Remove(name.to_owned()), Direction::Request)
                .map_err(|why| why.contains("is the gateway's"))
        };
        assert_eq!((remove("x-a"), remove("host")), (Ok(()), Err(true)));
    }
}
