//! A plugin with the contracts of version 0.2.0 that does what its settings say, in the phase that they name, for
//! requests to `/bad`.

use witgate_sdk::{
    Acceptance, AuthenticationByBody, Body, Decision, Destination, Gate, Identity, Plugin, Reading, RefusalByBody, Request,
    Response, RoutingByBody, SettingsProblem, settings,
};

#[path = "../../misbehaving/src/deeds.rs"]
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
    Gate,
    AuthenticationByBody,
    RefusalByBody,
    RoutingByBody,
}

struct Misbehaving(Order);

impl Plugin for Misbehaving {
    type Settings = Order;

    fn configure(order: Order) -> Result<Self, Vec<SettingsProblem>> {
        Ok(Misbehaving(order))
    }
}

impl Misbehaving {
    /// Misbehaves if this is the configured phase.
    fn act(&self, phase: Phase, request: &Request) -> Option<Deed> {
        if self.0.phase != phase || request.path() != "/bad" {
            return None;
        }
        self.0.deed.commit(request);
        Some(self.0.deed)
    }

    /// A response with the header of a misbehaviour.
    fn response(&self, phase: Phase, request: &Request) -> Option<Response> {
        let (name, value) = header(self.act(phase, request))?;
        Some(Response::new(403).with_header(name, value))
    }
}

impl Gate for Misbehaving {
    fn admit(&self, request: &Request) -> Option<Response> {
        self.response(Phase::Gate, request)
    }
}

impl AuthenticationByBody for Misbehaving {
    fn reads(&self) -> Reading {
        Reading::whole(1000)
    }

    fn authenticate_by_body(&self, _body: &Body, request: &Request) -> Decision {
        match header(self.act(Phase::AuthenticationByBody, request)) {
            Some((name, value)) => Acceptance::from(Identity::new("someone")).with_response_header(name, value).into(),
            None => Decision::accept("someone"),
        }
    }
}

impl RefusalByBody for Misbehaving {
    fn reads(&self) -> Reading {
        Reading::peek(100).decoded()
    }

    fn refuse_by_body(&self, _body: &Body, request: &Request) -> Option<Response> {
        self.response(Phase::RefusalByBody, request)
    }
}

impl RoutingByBody for Misbehaving {
    fn reads(&self) -> Reading {
        Reading::peek(5)
    }

    fn route_by_body(&self, _body: &Body, request: &Request) -> Option<Destination> {
        let (name, value) = header(self.act(Phase::RoutingByBody, request))?;
        Some(Destination::unchanged().with_response_header(name, value))
    }
}

witgate_sdk::export!(Misbehaving: Gate, AuthenticationByBody, RefusalByBody, RoutingByBody);
