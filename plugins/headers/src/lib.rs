//! Sets, appends, removes and renames headers, with placeholders.
//!
//! For headers that an upstream needs (the caller, its address, the request id) and headers that a client must not
//! get (server software, internal headers). If the values are fixed, the gateway's native `headers` filter is
//! cheaper.

mod edits;
mod template;

use edits::Edits;
use witgate_sdk::{
    Function, Input, Interest, Plugin, Request, RequestChanges, RequestOutcome, ResponseChanges,
    ResponseOutcome, ResponseView, SettingsProblem, Transformation, settings, transformation,
};

/// The edits of requests and of responses.
#[settings]
struct Settings {
    /// Edits of the request.
    #[serde(default)]
    request: edits::Settings,
    /// Edits of the response.
    #[serde(default)]
    response: edits::Settings,
}

/// The plugin: edits with parsed templates.
struct Headers {
    request: Edits,
    response: Edits,
}

impl Plugin for Headers {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let mut problems = Vec::new();
        let request = Edits::new(settings.request, "/request", &mut problems);
        let response = Edits::new(settings.response, "/response", &mut problems);
        for pointer in request.looks_at_a_response("/request") {
            problems
                .push(SettingsProblem::new(pointer, "there is no response yet when a request is changed"));
        }
        if problems.is_empty() { Ok(Self { request, response }) } else { Err(problems) }
    }
}

#[transformation]
impl Transformation for Headers {
    fn interest(&self) -> Interest {
        let interest = Interest::none()
            .request_headers(self.request.renamed())
            .response_headers(self.response.renamed())
            .pure(Function::OnRequest, self.request.renamed().map(|name| Input::header(&**name)))
            .pure(Function::OnResponse, []);
        if self.response.is_empty() { interest } else { interest.response() }
    }

    fn on_request(&self, request: &Request) -> RequestOutcome {
        let headers = self.request.apply(|name| request.values(name));
        RequestChanges { headers, ..RequestChanges::none() }.into()
    }

    fn on_response(&self, response: &ResponseView, _: &Request, _: &[u8]) -> ResponseOutcome {
        let headers = self.response.apply(|name| response.values(name));
        ResponseChanges { headers, ..ResponseChanges::none() }.into()
    }
}

#[cfg(test)]
mod tests;
