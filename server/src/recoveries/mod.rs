//! Recoveries: opened by an operator, started by one machine with a code, followed by its reports, closed.
//!
//! [`record`] is what is kept of one, [`progress`] what happens to it, [`admit`] who may start it, [`folder`] the files that
//! commands and a running server share, [`open`] how it begins, [`report`] what is told of it in the end, [`events`] what its machine signs. The code is kept
//! nowhere but in its owner's hands: a recovery has its SHA-256.

pub mod admit;
pub mod events;
#[cfg(test)]
pub(crate) mod fixture;
pub mod folder;
pub mod open;
pub mod progress;
pub mod record;
pub mod report;

pub use admit::{Refused, Tries, admit};
pub use events::{NotTaken, Signed};
pub use folder::{Recoveries, RecoveriesError};
pub use progress::{Entry, Happened, apply};
pub use record::{Chosen, Options, Recovery, State, Turn};
