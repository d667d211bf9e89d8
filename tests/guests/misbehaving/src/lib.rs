//! A plugin with every contract that does what its settings say, in the phase that they name, for requests to
//! `/bad`.

use witgate_sdk::{
    Acceptance, Authentication, BodyAccess, BodyResult, Bucket, Buckets, Chunk, Decision, Destination, Identity, Interest, Plugin, RateLimiting, Request,
    RequestChanges, RequestOutcome, ResponseChanges, ResponseOutcome, ResponseView, Routing, SettingsProblem,
    Transformation, settings,
};

mod deeds;

use deeds::{Deed, header};

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
        self.0.deed.commit(request);
        Some(self.0.deed)
    }
}

impl Authentication for Misbehaving {
    fn authenticate(&self, request: &Request) -> Decision {
        match header(self.act(Phase::Authentication, request)) {
            Some((name, value)) => Acceptance::from(Identity::new("someone")).with_response_header(name, value).into(),
            None => Decision::accept("someone"),
        }
    }
}

impl RateLimiting for Misbehaving {
    fn draw(&self, request: &Request) -> Buckets {
        match header(self.act(Phase::RateLimiting, request)) {
            Some((_, value)) => Bucket::per_second(1, String::from_utf8_lossy(&value)).named("bad\nname").into(),
            None => Buckets::default(),
        }
    }
}

impl Routing for Misbehaving {
    fn route(&self, request: &Request) -> Option<Destination> {
        let (name, value) = header(self.act(Phase::Routing, request))?;
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
        match header(self.act(Phase::Request, request)) {
            Some((name, value)) => RequestChanges::none().set(name, value).into(),
            None => RequestChanges::none().into(),
        }
    }

    fn on_request_body(&self, _chunk: Chunk, request: &Request) -> BodyResult {
        match header(self.act(Phase::RequestBody, request)) {
            Some((_, value)) => BodyResult::replace(value),
            None => BodyResult::unchanged(),
        }
    }

    fn on_response(&self, _response: &ResponseView, request: &Request, _context: &[u8]) -> ResponseOutcome {
        match header(self.act(Phase::Response, request)) {
            Some((name, value)) => ResponseChanges::none().set(name, value).into(),
            None => ResponseChanges::none().into(),
        }
    }

    fn on_response_body(&self, _chunk: Chunk, _response: &ResponseView, request: &Request) -> BodyResult {
        match header(self.act(Phase::ResponseBody, request)) {
            Some((_, value)) => BodyResult::replace(value),
            None => BodyResult::unchanged(),
        }
    }
}

witgate_sdk::export!(Misbehaving: Authentication, RateLimiting, Routing, Transformation);
