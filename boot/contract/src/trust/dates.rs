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

    /// Refuses the document of this role if it is past its date at `now`.
    pub(super) fn require_date(&self, role: &str, now: Time) -> Result<(), TrustError> {
        match self.expired(role, now) {
            None => Ok(()),
            Some(expired) => Err(TrustError::Expired(vec![expired])),
        }
    }
}

impl TrustedRoot {
    /// This root, unless it is past its date at `now`: to be asked of the newest one only, for older ones lead to it whatever
    /// their dates.
    ///
    /// # Errors
    /// [`TrustError::Expired`].
    pub fn require_date(self, now: Time) -> Result<Self, TrustError> {
        self.document().header.require_date("root", now)?;
        Ok(self)
    }
}

impl TrustedTimestamp {
    /// This timestamp, unless it is past its date at `now`.
    ///
    /// # Errors
    /// [`TrustError::Expired`].
    pub fn require_date(self, now: Time) -> Result<Self, TrustError> {
        self.timestamp.header.require_date("timestamp", now)?;
        Ok(self)
    }
}

impl TrustedSnapshot {
    /// This snapshot, unless it is past its date at `now`.
    ///
    /// # Errors
    /// [`TrustError::Expired`].
    pub fn require_date(self, now: Time) -> Result<Self, TrustError> {
        self.snapshot.header.require_date("snapshot", now)?;
        Ok(self)
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

    /// This view, unless its targets are past their date at `now`.
    ///
    /// # Errors
    /// [`TrustError::Expired`].
    pub fn require_date(self, now: Time) -> Result<Self, TrustError> {
        self.targets.header.require_date("targets", now)?;
        Ok(self)
    }
}
