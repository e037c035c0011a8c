//! Events in a recovery's name: only as its machine has signed them, each once, and in their order.

use std::net::IpAddr;

use towline_contract::Timestamp;
use towline_contract::event::{Event, What};
use towline_contract::trust::{EventError, EventSignature, PublicKey, Verified};

use super::folder::{Recoveries, RecoveriesError};
use super::progress::Happened;
use super::record::{Recovery, State, Turn};

/// An event, and the recovery whose machine has signed it, as that was then.
#[derive(Clone, Debug)]
pub struct Signed {
    recovery: Recovery,
    event: Verified<Event>,
}

/// Why an event in a recovery's name is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// There is no such recovery, its machine has no key yet, or has not signed this. Which of them is nobody's business.
    #[error("an event of a recovery is taken as its machine has signed it, and this is not")]
    NotSigned,
    /// The machine was given a token of before events were signed.
    #[error("recovery {id} was begun before events were signed, so that its machine is not heard")]
    Unsigned {
        /// The recovery.
        id: String,
        /// Whether its host is recovered, and has only to be closed.
        recovered: bool,
    },
    /// The machine has signed what this server does not read.
    #[error("the signed body is no event: {0}")]
    Unread(serde_json::Error),
    /// The record cannot be read.
    #[error(transparent)]
    Recoveries(#[from] RecoveriesError),
}

impl Signed {
    /// What it says.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The host that is recovered.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.recovery.host
    }

    /// Whether it was its turn as it came. One whose turn it was not never has it later.
    #[must_use]
    pub fn is_next(&self) -> bool {
        self.recovery.turn(self.event.number) == Turn::Next
    }

    /// The new key of the host that this event of its first boot brings. It is the host's own if it is this event's turn,
    /// whatever reports before it were lost on their way: the host has started, and a machine has one first boot.
    #[must_use]
    pub fn new_key(&self) -> Option<&PublicKey> {
        match &self.event.what {
            What::FirstBoot { key, .. } => key.as_ref(),
            _ => None,
        }
    }
}

impl Recoveries {
    /// The event in `body`, if the machine of the recovery that `signature` names has signed it.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub fn signed(
        &self,
        signature: &EventSignature,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Signed, NotTaken> {
        let recovery = self.get(signature.recovery(), now)?;
        let recovery = recovery.ok_or(NotTaken::NotSigned)?;
        let Some(key) = &recovery.report_key else {
            return Err(without_signature(&recovery));
        };
        let event = signature
            .verify(body, key)
            .map_err(|refusal| match refusal {
                EventError::NotSigned => NotTaken::NotSigned,
                EventError::Json(error) => NotTaken::Unread(error),
            })?;
        Ok(Signed { recovery, event })
    }

    /// Whether an event without a signature may have this name: one that is no recovery's.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub fn is_nobodys(&self, id: &str, now: Timestamp) -> Result<(), NotTaken> {
        match self.get(id, now)? {
            Some(recovery) => Err(without_signature(&recovery)),
            None => Ok(()),
        }
    }

    /// Lets an event happen to its recovery, if it is its turn. What must be done `first` is done under the same lock, once the
    /// turn is decided: of two events at once one is the next, and what is interrupted has not happened, so that it is sent again.
    ///
    /// # Errors
    /// See [`RecoveriesError`], and those of `first`.
    pub fn report<E: From<RecoveriesError>>(
        &self,
        signed: &Signed,
        address: IpAddr,
        now: Timestamp,
        first: impl FnOnce() -> Result<(), E>,
    ) -> Result<Turn, E> {
        let lock = self.lock()?;
        // Its machine may have begun anew meanwhile: then it is an event of the boot before.
        let of_this_boot = |it: &Recovery| it.report_key == signed.recovery.report_key;
        let current = self.get(&signed.recovery.id, now)?.filter(of_this_boot);
        let Some(current) = current else {
            return Ok(Turn::Late);
        };
        let event = &signed.event;
        let turn = current.turn(event.number);
        if turn == Turn::Next {
            first()?;
            let what = Happened::Reported {
                address,
                uptime_seconds: event.uptime_seconds,
                number: event.number,
                event: event.what.clone(),
            };
            lock.record(&current, what, now)?;
        }
        Ok(turn)
    }
}

fn without_signature(recovery: &Recovery) -> NotTaken {
    match recovery.is_unsigned() {
        true => NotTaken::Unsigned {
            id: recovery.id.clone(),
            recovered: matches!(recovery.state, State::Recovered { .. }),
        },
        false => NotTaken::NotSigned,
    }
}

#[cfg(test)]
mod tests;
