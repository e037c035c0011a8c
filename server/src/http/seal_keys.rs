//! The keys that machines seal recovery codes to. Plans name the newest; a new one comes with each answer, and what is sealed to
//! an earlier one is of no use for that recovery from then on ([`super::taken`]).
//!
//! They are kept in memory, and nowhere else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use towline_contract::seal::{SealError, SealKey, SealTo, Sealed};
use zeroize::Zeroizing;

use super::sealed::random;
use crate::keys::KeyError;

/// Most keys that are kept. A machine whose plan names an older one is told so, and asks for another plan: it would have to
/// wait for its code while so many other machines are answered.
const KEYS_MAX: usize = 8;

/// The keys of this run of the server, the newest first.
#[derive(Debug)]
pub(super) struct SealKeys(Mutex<VecDeque<Numbered>>);

#[derive(Clone, Debug)]
struct Numbered {
    /// Rises from each key to the next.
    number: u64,
    key: Arc<SealKey>,
}

/// What a machine has sealed to one of the keys.
pub(super) struct Opened {
    /// Number of the key.
    pub(super) key: u64,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl SealKeys {
    /// The first key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn new() -> Result<Self, KeyError> {
        let key = Arc::new(SealKey::generate(&random()?));
        Ok(Self(Mutex::new([Numbered { number: 0, key }].into())))
    }

    /// The key for plans to name.
    pub(super) fn newest(&self) -> Option<SealTo> {
        self.lock().front().map(|it| it.key.public())
    }

    /// Makes a new key for plans to name from now on; its number.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn renew(&self) -> Result<u64, KeyError> {
        let key = Arc::new(SealKey::generate(&random()?));
        let mut keys = self.lock();
        let number = keys.front().map_or(0, |it| it.number + 1);
        keys.push_front(Numbered { number, key });
        keys.truncate(KEYS_MAX);
        Ok(number)
    }

    /// Opens a recovery request.
    ///
    /// # Errors
    /// It is not sealed, or to none of these keys.
    pub(super) fn open(&self, body: &[u8]) -> Result<Opened, SealError> {
        let mut refusal = SealError::Closed;
        // What opens nothing costs as many openings as there are keys: nobody's plan waits for that.
        let keys = self.lock().clone();
        for Numbered { number, key } in keys {
            match key.open(Sealed::RecoveryRequest, body) {
                Ok(body) => return Ok(Opened { key: number, body }),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Numbered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_to_one_of_the_last_keys_opens_and_the_older_ones_are_gone() {
        let keys = SealKeys::new().unwrap();
        let sealed = |byte| {
            let random = Zeroizing::new([byte; 32]);
            let to = keys.newest().unwrap();
            to.seal(Sealed::RecoveryRequest, b"code", random).unwrap()
        };
        let first = sealed(1);
        for number in 0..KEYS_MAX {
            let newest = sealed(2);
            let numbers = [&first, &newest].map(|it| keys.open(it).unwrap().key);
            assert_eq!(numbers, [0, number as u64]);
            assert_eq!(keys.renew().unwrap(), number as u64 + 1);
        }
        assert_eq!(keys.open(&first).err(), Some(SealError::Closed));
        assert_eq!(keys.open(b"code").err(), Some(SealError::NotSealed));
    }
}
