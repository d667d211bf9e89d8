//! The list of fault codes, generated from the table of `host/exchange/src/fault.rs`.

use witgate_exchange::fault::{Blame, FaultKind};

use super::markdown::{code, table};
use super::{head, hold};

const PREAMBLE: &str = "\
When the gateway itself ends a request, it sends a problem document (RFC 9457) whose `code` is one of these, and names the
corresponding error type of RFC 9209 in `Proxy-Status`. The codes are stable: they are never renamed, and a client or a
dashboard may match on them. The same code stands in the field `fault` of the [access log](access-log.md) and in the label
`code` of the [metric](metrics.md) `witgate_faults_total`. Responses of upstreams are passed on unchanged and have no code.

```json
{
  \"type\": \"urn:witgate:fault:no-route\",
  \"title\": \"No route matches\",
  \"status\": 404,
  \"code\": \"no-route\",
  \"instance\": \"5b7f2c0e-8f3a-4d7e-9d43-6f1f8b1f2a10\"
}
```

`instance` is the request id, which is also the header `X-Request-Id` of the response. A `detail` may explain more. Details
for operators only (addresses, causes) are in the field `cause` of the access log, never in the response.

";

#[test]
fn the_list_of_fault_codes_is_current() {
    let rows = FaultKind::ALL.iter().map(|kind| {
        let described = kind.describe();
        let blame = match described.blame {
            Blame::Client => "the client",
            Blame::Plugin => "a plugin",
            Blame::Upstream => "the upstream",
            Blame::Gateway => "the gateway",
        };
        [
            code(described.code),
            described.status.as_u16().to_string(),
            described.title.to_owned(),
            blame.to_owned(),
            code(described.proxy_error.unwrap_or_default()),
        ]
    });
    let rows = table(["code", "status", "title", "caused by", "`Proxy-Status` error"], rows);
    let text =
        head("Fault codes", "the table of `host/exchange/src/fault.rs`") + PREAMBLE + rows.trim_end() + "\n";
    hold("fault-codes.md", &text);
}
