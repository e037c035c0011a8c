//! Dates: which documents are past theirs, at a time that the caller states.
//!
//! A medium checks them last, against the time in a plan; a client that knows the time checks each document as it comes.

use std::fmt;

use super::error::TrustError;
use super::metadata::Header;
use super::view::{SignedView, TrustedRoot, TrustedSnapshot, TrustedTimestamp};
use crate::Timestamp as Time;

/// A document that is past its date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredRole {
    /// The role.
    pub role: String,
    /// Version of the document.
    pub version: u64,
    /// When it expired.
    pub expires: Time,
    /// The time it was checked against.
    pub now: Time,
}

impl fmt::Display for ExpiredRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            role,
            version,
            expires,
            now,
        } = self;
        write!(
            f,
            "version {version} of the {role} expired at {expires}, and it is {now}"
        )
    }
}

impl Header {
    /// The document of this role as one past its date, if it is at `now`.
    pub(super) fn expired(&self, role: &str, now: Time) -> Option<ExpiredRole> {
        (self.expires <= now).then(|| ExpiredRole {
            role: role.into(),
            version: self.version,
            expires: self.expires,
            now,
        })
    }

    /// Refuses the document if it is past its date at `now`.
    pub(super) fn require_date(&self, now: Time) -> Result<(), TrustError> {
        match self.expired(self.role.as_str(), now) {
            None => Ok(()),
            Some(expired) => Err(TrustError::Expired(vec![expired])),
        }
    }
}

impl TrustedRoot {
    /// Refuses a root that is past its date at `now`: to be asked of the newest one only, for older ones lead to it whatever
    /// their dates.
    ///
    /// # Errors
    /// [`TrustError::Expired`].
    pub fn require_date(&self, now: Time) -> Result<(), TrustError> {
        self.document().header.require_date(now)
    }
}

impl TrustedTimestamp {
    /// Refuses a timestamp that is past its date at `now`.
    ///
    /// # Errors
    /// [`TrustError::Expired`].
    pub fn require_date(&self, now: Time) -> Result<(), TrustError> {
        self.timestamp.header.require_date(now)
    }
}

impl TrustedSnapshot {
    /// Refuses a snapshot that is past its date at `now`.
    ///
    /// # Errors
    /// [`TrustError::Expired`].
    pub fn require_date(&self, now: Time) -> Result<(), TrustError> {
        self.snapshot.header.require_date(now)
    }
}

impl SignedView {
    /// The documents that have expired at `now`; for operators' tools, which have a clock.
    #[must_use]
    pub fn check_expiry(&self, now: Time) -> Vec<ExpiredRole> {
        let documents = self.documents().into_iter();
        documents
            .filter_map(|(role, header)| header.expired(role, now))
            .collect()
    }

    /// Refuses targets that are past their date at `now`.
    ///
    /// # Errors
    /// [`TrustError::Expired`].
    pub fn require_date(&self, now: Time) -> Result<(), TrustError> {
        self.targets.header.require_date(now)
    }
}
