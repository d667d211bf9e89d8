//! Records what a call reads and does, because its result may depend on that, or because not repeating the call
//! would omit an effect.
//!
//! Every host function sets a mark. A mark is one bit, so that it costs nearly nothing where results are not
//! remembered.

use std::fmt;

use witgate_exchange::contracts::{INPUTS, Input};

/// The marks of one call.
#[derive(Default)]
pub(crate) struct InputTracker {
    marks: u32,
    /// Names of the request headers that were read, up to the maximum number of inputs.
    headers: Vec<String>,
    /// Names of the path parameters that were read.
    parameters: Vec<String>,
}

/// Something that a call can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    // Parts of a request that can be declared as inputs.
    Method,
    Path,
    Query,
    Authority,
    Scheme,
    OriginalPath,
    ClientAddress,
    ClientCertificate,
    Identity,
    Route,
    // Parts of a request that cannot be declared.
    RequestId,
    TraceParent,
    AllHeaders,
    Many,
    Trailers,
    Facts,
    Notes,
    // Headers of a response beyond the declared ones.
    ResponseHeaders,
    // Everything else.
    Log,
    Metrics,
    Store,
    Fetch,
    Clock,
    Random,
    Output,
}

impl Mark {
    const ALL: [Mark; 25] = [
        Mark::Method,
        Mark::Path,
        Mark::Query,
        Mark::Authority,
        Mark::Scheme,
        Mark::OriginalPath,
        Mark::ClientAddress,
        Mark::ClientCertificate,
        Mark::Identity,
        Mark::Route,
        Mark::RequestId,
        Mark::TraceParent,
        Mark::AllHeaders,
        Mark::Many,
        Mark::Trailers,
        Mark::Facts,
        Mark::Notes,
        Mark::ResponseHeaders,
        Mark::Log,
        Mark::Metrics,
        Mark::Store,
        Mark::Fetch,
        Mark::Clock,
        Mark::Random,
        Mark::Output,
    ];

    /// All marks for reading the request.
    const LOOKING: u32 = Mark::ResponseHeaders.bit() - 1;

    const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The mark that an input permits.
    fn of(input: &Input) -> u32 {
        match input {
            Input::Method => Mark::Method.bit(),
            Input::Path => Mark::Path.bit(),
            Input::Query => Mark::Query.bit(),
            Input::Authority => Mark::Authority.bit(),
            Input::Scheme => Mark::Scheme.bit(),
            Input::OriginalPath => Mark::OriginalPath.bit(),
            Input::ClientAddress => Mark::ClientAddress.bit(),
            Input::ClientCertificate => Mark::ClientCertificate.bit(),
            Input::Identity => Mark::Identity.bit(),
            Input::Route => Mark::Route.bit(),
            Input::Header(_) | Input::PathParameter(_) => 0,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Mark::Method => "the input `method`",
            Mark::Path => "the input `path`",
            Mark::Query => "the input `query`",
            Mark::Authority => "the input `authority`",
            Mark::Scheme => "the input `scheme`",
            Mark::OriginalPath => "the input `original-path`",
            Mark::ClientAddress => "the input `client-address`",
            Mark::ClientCertificate => "the input `client-certificate`",
            Mark::Identity => "the input `identity`",
            Mark::Route => "the input `route`",
            Mark::AllHeaders => "all headers",
            Mark::Many => "more than can be named",
            Mark::RequestId => "the request id",
            Mark::TraceParent => "the trace",
            Mark::Trailers => "trailers",
            Mark::Facts => "facts about the exchange",
            Mark::Notes => "notes",
            Mark::ResponseHeaders => "response headers that it does not declare",
            Mark::Log => "the log",
            Mark::Metrics => "metrics",
            Mark::Store => "the store",
            Mark::Fetch => "`fetch`",
            Mark::Clock => "a clock",
            Mark::Random => "random numbers",
            Mark::Output => "standard output",
        }
    }
}

/// Something that a call used and its inputs do not name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beyond<'a> {
    Header(&'a str),
    PathParameter(&'a str),
    Other(Mark),
}

impl Beyond<'_> {
    /// Whether the call read something that differs for every request. A plugin does that to say that its result
    /// is valid for this request only.
    pub(crate) fn is_meant(&self) -> bool {
        matches!(self, Beyond::Other(Mark::RequestId | Mark::TraceParent))
    }
}

impl fmt::Display for Beyond<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Beyond::Header(name) => write!(formatter, "the input `header({})`", name.escape_default()),
            Beyond::PathParameter(name) => {
                write!(formatter, "the input `path-parameter({})`", name.escape_default())
            }
            Beyond::Other(mark) => formatter.write_str(mark.as_str()),
        }
    }
}

impl InputTracker {
    /// A call begins.
    pub(crate) fn begin(&mut self) {
        self.marks = 0;
        self.headers.clear();
        self.parameters.clear();
    }

    /// The call does this.
    pub(crate) fn mark(&mut self, mark: Mark) {
        self.marks |= mark.bit();
    }

    /// Whether the call has done this.
    pub(crate) fn is_marked(&self, mark: Mark) -> bool {
        self.marks & mark.bit() != 0
    }

    /// The call reads a header of the request.
    pub(crate) fn header(&mut self, name: String) {
        // More headers were read than can be declared, so some are not declared.
        if self.headers.len() > INPUTS {
            self.mark(Mark::Many);
        } else {
            self.headers.push(name);
        }
    }

    /// The call reads a path parameter.
    pub(crate) fn path_parameter(&mut self, name: String) {
        if self.parameters.len() > INPUTS {
            self.mark(Mark::Many);
        } else {
            self.parameters.push(name);
        }
    }

    /// The first thing that a call did beyond using `crypto` and reading these inputs.
    pub(crate) fn beyond(&self, inputs: &[Input]) -> Option<Beyond<'_>> {
        self.first_of(u32::MAX, inputs)
    }

    /// The first part of the request that a call read and these inputs do not name.
    pub(crate) fn looked_beyond(&self, inputs: &[Input]) -> Option<Beyond<'_>> {
        self.first_of(Mark::LOOKING, inputs)
    }

    fn first_of(&self, marks: u32, inputs: &[Input]) -> Option<Beyond<'_>> {
        let allowed = inputs.iter().fold(0, |allowed, input| allowed | Mark::of(input));
        let left = self.marks & marks & !allowed;
        if left != 0 {
            return Mark::ALL.into_iter().find(|mark| mark.bit() & left != 0).map(Beyond::Other);
        }
        let header = |name: &String| {
            inputs.iter().any(
                |input| matches!(input, Input::Header(known) if known.as_str().eq_ignore_ascii_case(name)),
            )
        };
        let parameter = |name: &String| {
            inputs.iter().any(|input| matches!(input, Input::PathParameter(known) if **known == **name))
        };
        let undeclared = self.headers.iter().find(|name| !header(name)).map(|name| Beyond::Header(name));
        undeclared.or_else(|| {
            self.parameters.iter().find(|name| !parameter(name)).map(|name| Beyond::PathParameter(name))
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn what_is_named_is_allowed_and_all_else_is_told() {
        let inputs =
            [Input::Header(HeaderName::from_static("x-a")), Input::PathParameter("id".into()), Input::Scheme];
        let mut tracker = InputTracker::default();
        tracker.header("X-A".to_owned());
        tracker.path_parameter("id".to_owned());
        tracker.mark(Mark::Scheme);
        assert_eq!(tracker.beyond(&inputs), None);
        tracker.path_parameter("ID".to_owned());
        assert_eq!(tracker.beyond(&inputs), Some(Beyond::PathParameter("ID")));
        tracker.header("x-b".to_owned());
        assert_eq!(tracker.beyond(&inputs), Some(Beyond::Header("x-b")));
        tracker.mark(Mark::Clock);
        assert_eq!(tracker.beyond(&inputs), Some(Beyond::Other(Mark::Clock)));
        assert_eq!(tracker.looked_beyond(&inputs), Some(Beyond::Header("x-b")));
        tracker.begin();
        assert_eq!(tracker.beyond(&[]), None);
    }

    #[test]
    fn every_mark_has_a_bit_of_its_own_and_the_names_kept_are_bounded() {
        let all = Mark::ALL.iter().fold(0, |all, mark| all | mark.bit());
        assert_eq!(all.count_ones() as usize, Mark::ALL.len());
        let mut tracker = InputTracker::default();
        for number in 0..1000 {
            tracker.header(format!("x-{number}"));
            tracker.path_parameter(format!("{number}"));
        }
        assert!(tracker.headers.len() <= INPUTS + 1 && tracker.parameters.len() <= INPUTS + 1);
        assert_eq!(tracker.beyond(&[Input::Path]), Some(Beyond::Other(Mark::Many)));
    }
}
