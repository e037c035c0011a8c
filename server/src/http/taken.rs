//! Which sealed requests a run of the server has taken, each once: whoever carries one can send it again, and the recovery would
//! get another key for reports than its machine has.
//!
//! In memory, and nowhere else: so is the key that they are sealed to ([`super::sealed::new_key`]), and what an earlier run has
//! taken does not open by the key of a later one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use towline_contract::Digest;

/// Most sealed requests of one recovery. A machine that tries once a minute for the two days of a long recovery makes 2880; its
/// digests take 200 KB. Only who has the code makes one, and recoveries are opened by operators alone.
const REQUESTS_MAX: usize = 4096;

/// The digests of the requests that were taken, by recovery.
#[derive(Debug, Default)]
pub(super) struct Taken(Mutex<BTreeMap<String, BTreeSet<Digest>>>);

/// Why a sealed request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// It is the very same as one before.
    #[error("this very request came before, and a machine seals each try anew")]
    Again,
    /// No more is remembered of this recovery.
    #[error("{REQUESTS_MAX} requests came by the code of this recovery, which is the most")]
    Full,
}

impl Refused {
    /// What the person at the machine can do.
    pub(super) fn next(self) -> &'static str {
        match self {
            Self::Again => {
                "try again with the same code; if this goes on, a proxy on the way sends requests twice: have it sent none again"
            }
            Self::Full => "open another recovery on the server: towline recovery open HOST",
        }
    }
}

impl Taken {
    /// Takes the request of this digest, whatever becomes of it.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(super) fn take(&self, recovery: &str, request: Digest) -> Result<(), Refused> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(recovery.to_owned()).or_default();
        if taken.contains(&request) {
            return Err(Refused::Again);
        }
        if taken.len() >= REQUESTS_MAX {
            return Err(Refused::Full);
        }
        taken.insert(request);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_request_is_taken_once_and_a_recovery_has_a_bound_of_them() {
        let taken = Taken::default();
        let request = |number: usize| Digest::of(&number.to_le_bytes());
        for number in 0..REQUESTS_MAX {
            taken.take("r-1", request(number)).unwrap();
            assert_eq!(taken.take("r-1", request(number)), Err(Refused::Again));
        }
        assert_eq!(taken.take("r-1", request(REQUESTS_MAX)), Err(Refused::Full));
        assert_eq!(taken.take("r-1", request(0)), Err(Refused::Again));
        taken.take("r-2", request(REQUESTS_MAX)).unwrap();
    }
}
