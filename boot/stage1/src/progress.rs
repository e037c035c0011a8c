//! How work reports to the person at the machine, without knowing where the lines go.
//!
//! Text may hold bytes from the network: whoever shows it escapes it, never whoever reports it.

use std::fmt::Arguments;

/// Takes reports of work. Calls may be frequent: whoever shows decides what becomes a line.
pub trait Progress: Send + Sync {
    /// A step of the boot begins: `fetching base/debian/12.1/amd64`.
    fn step(&self, text: Arguments<'_>);

    /// `done` of `total` bytes of `what` are there. May be called for each piece; rate and time left are derived from the
    /// calls, and `done` may go back when a piece is fetched again.
    fn transfer(&self, what: &str, done: u64, total: u64);

    /// A detail of the current step.
    fn note(&self, text: Arguments<'_>);

    /// Something is wrong, and the work goes on.
    fn warn(&self, text: Arguments<'_>);
}

/// Reports that nobody reads, for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _: Arguments<'_>) {}
    fn transfer(&self, _: &str, _: u64, _: u64) {}
    fn note(&self, _: Arguments<'_>) {}
    fn warn(&self, _: Arguments<'_>) {}
}
