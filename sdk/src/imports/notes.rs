//! Named values for later plugins of the same exchange. Needs a `notes` grant that names them. Of version 0.2.0.
//!
//! A plugin that knows the kind of client leaves a note, and one that routes reads it:
//!
//! ```
//! use witgate_sdk::{Destination, Request, notes, routing};
//!
//! #[routing]
//! fn route(_: &Request) -> Option<Destination> {
//!     (notes::text("device").as_deref() == Some("phone")).then(|| Destination::to("mobile"))
//! }
//! # fn main() {
//! # use witgate_sdk::test;
//! # let gateway = test::Gateway::new();
//! # assert_eq!(route(&test::request().build()), None);
//! notes::leave("device", "phone").unwrap();
//! # assert_eq!(gateway.note("device").as_deref(), Some(&b"phone"[..]));
//! # assert_eq!(route(&test::request().build()), Some(Destination::to("mobile")));
//! # }
//! ```

use super::backend;

pub use crate::bindings::additions::witgate::plugin0_2_0::notes::Error;

/// Leaves a note, in place of an earlier one of the same name. It is there for calls that begin after this one has returned.
///
/// # Errors
/// It is not granted, or it is too long, or there are too many: one exchange holds 32, of 1 KiB each and 8 KiB together.
pub fn leave(name: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
    backend::notes::leave(name, value.as_ref())
}

/// The value of a note; `None` if nobody has left it, or if it is not granted.
#[must_use]
pub fn read(name: &str) -> Option<Vec<u8>> {
    backend::notes::read(name)
}

/// The value of a note, if it is UTF-8.
#[must_use]
pub fn text(name: &str) -> Option<String> {
    String::from_utf8(read(name)?).ok()
}
