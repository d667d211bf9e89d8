//! A plugin with every contract that does what its settings say, in the phase that they name, for requests to
//! `/bad`.

use witgate_sdk::{
    Acceptance, Authentication, BodyAccess, BodyResult, Bucket, Buckets, Chunk, Decision, Destination, Identity, Interest, Plugin, RateLimiting, Request,
    RequestChanges, RequestOutcome, ResponseChanges, ResponseOutcome, ResponseView, Routing, SettingsProblem,
    Transformation, log, settings,
};

/// What to do, and in which phase.
#[settings]
struct Order {
    phase: Phase,
    deed: Deed,
}

#[settings]
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Authentication,
    RateLimiting,
    Routing,
    Request,
    RequestBody,
    Response,
    ResponseBody,
}

#[settings]
#[derive(Clone, Copy, PartialEq)]
enum Deed {
    /// Panics.
    Trap,
    /// Never returns.
    Loop,
    /// Allocates memory until there is none left.
    Memory,
    /// Writes a million log lines.
    LogStorm,
    /// Makes a million host calls that do nothing.
    HostCalls,
    /// Returns a result that exceeds every budget.
    HugeOutput,
    /// Returns a header value with control bytes.
    ControlBytes,
    /// Returns a header that only the gateway may write.
    ForbiddenHeader,
}

struct Misbehaving(Order);

impl Plugin for Misbehaving {
    type Settings = Order;

    fn configure(order: Order) -> Result<Self, Vec<SettingsProblem>> {
        Ok(Misbehaving(order))
    }
}

impl Misbehaving {
    /// Misbehaves if this is the configured phase. A misbehaviour that consists of a result is left to the caller.
    fn act(&self, phase: Phase, request: &Request) -> Option<Deed> {
        if self.0.phase != phase || request.path() != "/bad" {
            return None;
        }
        match self.0.deed {
            Deed::Trap => panic!("told to"),
            Deed::Loop => loop {
                std::hint::spin_loop();
            },
            Deed::Memory => {
                let mut taken = Vec::new();
                loop {
                    taken.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            Deed::LogStorm => {
                for number in 0..1_000_000 {
                    log::info(&format!("line {number}"));
                }
            }
            Deed::HostCalls => {
                for _ in 0..1_000_000 {
                    std::hint::black_box(request.scheme());
                }
            }
            Deed::HugeOutput | Deed::ControlBytes | Deed::ForbiddenHeader => {}
        }
        Some(self.0.deed)
    }

    /// A header for misbehaviours that consist of a header.
    fn header(deed: Option<Deed>) -> Option<(&'static str, Vec<u8>)> {
        match deed? {
            Deed::HugeOutput => Some(("x-huge", vec![b'x'; 8 << 20])),
            Deed::ControlBytes => Some(("x-split", b"a\r\nx-smuggled: 1".to_vec())),
            Deed::ForbiddenHeader => Some(("transfer-encoding", b"chunked".to_vec())),
            _ => None,
        }
    }
}

impl Authentication for Misbehaving {
    fn authenticate(&self, request: &Request) -> Decision {
        match Self::header(self.act(Phase::Authentication, request)) {
            Some((name, value)) => Acceptance::from(Identity::new("someone")).with_response_header(name, value).into(),
            None => Decision::accept("someone"),
        }
    }
}

impl RateLimiting for Misbehaving {
    fn draw(&self, request: &Request) -> Buckets {
        match Self::header(self.act(Phase::RateLimiting, request)) {
            Some((_, value)) => Bucket::per_second(1, String::from_utf8_lossy(&value)).named("bad\nname").into(),
            None => Buckets::default(),
        }
    }
}

impl Routing for Misbehaving {
    fn route(&self, request: &Request) -> Option<Destination> {
        let (name, value) = Self::header(self.act(Phase::Routing, request))?;
        Some(Destination::unchanged().with_response_header(name, value))
    }
}

impl Transformation for Misbehaving {
    fn interest(&self) -> Interest {
        match self.0.phase {
            Phase::RequestBody => Interest::none().request_body(BodyAccess::Buffered),
            Phase::Response => Interest::none().response(),
            Phase::ResponseBody => Interest::none().response_body(BodyAccess::Buffered),
            _ => Interest::none(),
        }
    }

    fn on_request(&self, request: &Request) -> RequestOutcome {
        match Self::header(self.act(Phase::Request, request)) {
            Some((name, value)) => RequestChanges::none().set(name, value).into(),
            None => RequestChanges::none().into(),
        }
    }

    fn on_request_body(&self, _chunk: Chunk, request: &Request) -> BodyResult {
        match Self::header(self.act(Phase::RequestBody, request)) {
            Some((_, value)) => BodyResult::replace(value),
            None => BodyResult::unchanged(),
        }
    }

    fn on_response(&self, _response: &ResponseView, request: &Request, _context: &[u8]) -> ResponseOutcome {
        match Self::header(self.act(Phase::Response, request)) {
            Some((name, value)) => ResponseChanges::none().set(name, value).into(),
            None => ResponseChanges::none().into(),
        }
    }

    fn on_response_body(&self, _chunk: Chunk, _response: &ResponseView, request: &Request) -> BodyResult {
        match Self::header(self.act(Phase::ResponseBody, request)) {
            Some((_, value)) => BodyResult::replace(value),
            None => BodyResult::unchanged(),
        }
    }
}

witgate_sdk::export!(Misbehaving: Authentication, RateLimiting, Routing, Transformation);
