//! How many credentials are made at a time: one of a recovery, and a few in all. An operator's command is a process, and what it
//! asks may count how often.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Most recoveries whose credentials are made at a time. A command has 30 seconds; most take one.
const MAKINGS_MAX: usize = 4;

/// The recoveries whose credentials are being made.
#[derive(Debug, Default)]
pub(super) struct Makings(Mutex<BTreeSet<String>>);

/// One making, until dropped.
#[derive(Debug)]
pub(super) struct Making<'a> {
    all: &'a Makings,
    recovery: &'a str,
}

/// Why credentials are not made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Busy {
    /// Those of this recovery are.
    #[error("the credentials of this recovery are being made for an earlier request")]
    This,
    /// Those of others are.
    #[error("credentials are being made for {MAKINGS_MAX} recoveries, which is the most")]
    Others,
}

impl Makings {
    /// Begins the making of a recovery's credentials.
    ///
    /// # Errors
    /// See [`Busy`].
    pub(super) fn begin<'a>(&'a self, recovery: &'a str) -> Result<Making<'a>, Busy> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.contains(recovery) {
            return Err(Busy::This);
        }
        if running.len() >= MAKINGS_MAX {
            return Err(Busy::Others);
        }
        running.insert(recovery.to_owned());
        Ok(Making {
            all: self,
            recovery,
        })
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut running = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(self.recovery);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_has_one_making_at_a_time_and_all_have_a_few() {
        let makings = Makings::default();
        let first = makings.begin("r-1").unwrap();
        assert_eq!(makings.begin("r-1").unwrap_err(), Busy::This);
        let _others = ["r-2", "r-3", "r-4"].map(|it| makings.begin(it).unwrap());
        assert_eq!(makings.begin("r-5").unwrap_err(), Busy::Others);
        drop(first);
        makings.begin("r-1").unwrap();
    }
}
