//! A value that was verified.

use std::ops::Deref;

/// A value whose origin and content were verified. Only [`crate::trust`] can make one, and nothing can change it: there
/// is no `DerefMut`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub(super) fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, which then is like any other.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
