//! Which sealed requests a run of the server has taken. Whoever carries one can send it again, or hold it back until the machine
//! has tried again: then the recovery would get another key for reports than its machine has.
//!
//! So each is taken once, and each answer makes a new key for requests to be sealed to ([`super::seal_keys`]), before which the
//! recovery takes none any more: what was sealed before the last answer is of no use after it, whichever key it was sealed to. A
//! machine may go back to the key of an older plan, so that of the request that was answered would not do. All this is in memory,
//! and nowhere else, as those keys are: what an earlier run was sent does not open by the keys of a later one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use towline_contract::Digest;

/// Most sealed requests of one recovery. A machine that tries once a minute for two days makes 2880; their digests take 200 KB.
/// Only who has the code makes one, and recoveries are opened by operators alone.
const REQUESTS_MAX: usize = 4096;

/// What was taken, by recovery.
#[derive(Debug, Default)]
pub(super) struct Taken(Mutex<BTreeMap<String, OfOne>>);

/// What was taken of one recovery.
#[derive(Debug, Default)]
struct OfOne {
    /// SHA-256 of the sealed requests.
    requests: BTreeSet<Digest>,
    /// Number of the key that was made for the last answer: what is sealed to an earlier one may be older than that answer.
    floor: u64,
}

/// Why a sealed request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// It is the very same as one before.
    #[error("this very request came before, and a machine seals each try anew")]
    Again,
    /// It was sealed before the last answer.
    #[error(
        "the recovery code is sealed to a key of before the last answer of this recovery, and each answer needs a new one"
    )]
    Late,
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
            Self::Late => "try again with the same code",
            Self::Full => "open another recovery on the server: towline recovery open HOST",
        }
    }
}

impl Taken {
    /// Takes the request of this digest, sealed to the key of this number, whatever becomes of it.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(super) fn take(&self, recovery: &str, key: u64, request: Digest) -> Result<(), Refused> {
        let mut all = self.lock();
        let of_one = all.entry(recovery.to_owned()).or_default();
        if of_one.requests.contains(&request) {
            return Err(Refused::Again);
        }
        if key < of_one.floor {
            return Err(Refused::Late);
        }
        if of_one.requests.len() >= REQUESTS_MAX {
            return Err(Refused::Full);
        }
        of_one.requests.insert(request);
        Ok(())
    }

    /// One is answered, and the key of this number was made for that: none to an earlier key is taken from now on.
    pub(super) fn answered(&self, recovery: &str, new_key: u64) {
        let mut all = self.lock();
        let of_one = all.entry(recovery.to_owned()).or_default();
        of_one.floor = of_one.floor.max(new_key);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, OfOne>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: usize) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    #[test]
    fn a_sealed_request_is_taken_once_and_a_recovery_has_a_bound_of_them() {
        let taken = Taken::default();
        let take = |recovery, number| taken.take(recovery, 0, request(number));
        for number in 0..REQUESTS_MAX {
            take("r-1", number).unwrap();
            assert_eq!(take("r-1", number), Err(Refused::Again));
        }
        assert_eq!(take("r-1", REQUESTS_MAX), Err(Refused::Full));
        assert_eq!(take("r-1", 0), Err(Refused::Again));
        take("r-2", REQUESTS_MAX).unwrap();
    }

    #[test]
    fn what_was_sealed_before_the_last_answer_of_its_recovery_is_of_no_use_after_it() {
        let taken = Taken::default();
        let take = |recovery, key, number| taken.take(recovery, key, request(number));
        take("r-1", 5, 1).unwrap();
        // A failure is no answer.
        take("r-1", 5, 2).unwrap();
        // Others were answered meanwhile, and this one was sealed to the key of an older plan than some that were held back.
        taken.answered("r-1", 8);
        for key in [4, 5, 6, 7] {
            assert_eq!(take("r-1", key, 3), Err(Refused::Late));
        }
        assert_eq!(take("r-1", 5, 2), Err(Refused::Again));
        take("r-1", 8, 3).unwrap();
        take("r-2", 5, 3).unwrap();
        // Whatever comes out of turn, it never goes back.
        taken.answered("r-1", 6);
        assert_eq!(take("r-1", 7, 4), Err(Refused::Late));
    }
}
