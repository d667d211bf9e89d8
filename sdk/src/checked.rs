//! Checks what a plugin returns while it is built, in native builds and in tests: a mistake that the gateway would
//! refuse fails the test at the line that makes it. A component has none of this; there the gateway checks.

#[cfg(any(not(target_family = "wasm"), feature = "test"))]
mod checks {
    pub(crate) use witgate_rules::Direction;

    #[track_caller]
    fn hold<E: std::fmt::Display>(checked: Result<(), E>, what: impl Fn() -> String) {
        if let Err(why) = checked {
            panic!("the gateway refuses {}: {why}", what());
        }
    }

    /// A header with its value.
    ///
    /// # Panics
    /// The gateway would refuse it.
    #[track_caller]
    pub(crate) fn header(name: &str, value: &[u8], direction: Direction) {
        self::name(name, direction);
        hold(witgate_rules::header_value(value), || format!("the header `{name}`"));
    }

    /// The name of a header.
    ///
    /// # Panics
    /// As [`header`].
    #[track_caller]
    pub(crate) fn name(name: &str, direction: Direction) {
        hold(witgate_rules::header_name(name, direction), || format!("the header `{name}`"));
    }

    /// The status of a response and the length of its body in bytes.
    ///
    /// # Panics
    /// As [`header`].
    #[track_caller]
    pub(crate) fn response(status: u16, length: usize) {
        hold(witgate_rules::status(status), || "a response".to_owned());
        hold(witgate_rules::body(status, length), || format!("a response with status {status}"));
    }

    /// A method.
    ///
    /// # Panics
    /// As [`header`].
    #[track_caller]
    pub(crate) fn method(method: &str) {
        hold(witgate_rules::method(method), || format!("the method `{method}`"));
    }
}

#[cfg(not(any(not(target_family = "wasm"), feature = "test")))]
mod checks {
    #[derive(Clone, Copy)]
    pub(crate) enum Direction {
        Request,
        Response,
    }

    pub(crate) fn header(_: &str, _: &[u8], _: Direction) {}

    pub(crate) fn name(_: &str, _: Direction) {}

    pub(crate) fn response(_: u16, _: usize) {}

    pub(crate) fn method(_: &str) {}
}

pub(crate) use checks::{Direction, header, method, name, response};
