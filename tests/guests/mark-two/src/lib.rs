//! Version "two" of a plugin that marks requests and responses with its version.

use witgate_sdk::{
    NoSettings, Plugin, Request, RequestChanges, RequestOutcome, ResponseChanges, ResponseOutcome, ResponseView,
    SettingsProblem, Transformation, transformation,
};

const VERSION: &str = "two";

struct Mark;

impl Plugin for Mark {
    type Settings = NoSettings;

    fn configure(_: NoSettings) -> Result<Self, Vec<SettingsProblem>> {
        Ok(Mark)
    }
}

#[transformation]
impl Transformation for Mark {
    fn on_request(&self, _request: &Request) -> RequestOutcome {
        RequestChanges::none().set("x-mark", VERSION).with_context(VERSION).into()
    }

    fn on_response(&self, _response: &ResponseView, _request: &Request, context: &[u8]) -> ResponseOutcome {
        let seen = if context == VERSION.as_bytes() { VERSION } else { "mixed" };
        ResponseChanges::none().set("x-mark", seen).into()
    }
}
