//! Exit codes of `towline`, a contract with scripts.

use std::io::{self, ErrorKind};

/// Why a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The answer is no: a check found something.
    No = 1,
    /// The command line or a file it names is wrong.
    Usage = 2,
    /// A signature, digest or policy says no.
    NotTrusted = 3,
    /// A server or mirror cannot be reached.
    NotReachable = 4,
    /// The server refused.
    Refused = 5,
    /// A fault of this program or machine.
    Internal = 70,
}

/// A command's failure: what happened, with its causes, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
    pub(crate) next: Option<String>,
}

impl Failure {
    /// A failure with this exit code.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
            next: None,
        }
    }

    /// Adds the next step for the person at the keyboard.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl Failure {
    /// The same with a next step where no command knew one: what the system says is advice enough, however deep it is.
    pub(crate) fn advised(mut self) -> Self {
        let io = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<io::Error>().map(io::Error::kind)
        };
        let kinds: Vec<_> = self.error.chain().filter_map(io).collect();
        let has = |wanted: &[ErrorKind]| kinds.iter().any(|kind| wanted.contains(kind));
        if self.next.is_some() {
            return self;
        }
        if has(&[ErrorKind::StorageFull, ErrorKind::QuotaExceeded]) {
            return self.next(
                "make room on that disk; others can be chosen for the output, downloads (--cache) and temporary files (TMPDIR)",
            );
        }
        if has(&[ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied]) {
            if self.exit == Exit::Internal {
                self.exit = Exit::Usage;
            }
            return self.next("choose a place that you may write to, or change its owner or mode");
        }
        self
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Internal, error)
    }
}

/// Outcome of a command.
pub(crate) type Outcome = Result<(), Failure>;

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    fn failed(kind: ErrorKind) -> Failure {
        let cause: Result<(), _> = Err(io::Error::from(kind));
        let cause = cause.context("cannot write x").context("the store failed");
        Failure::from(cause.unwrap_err()).advised()
    }

    #[test]
    fn a_full_disk_and_a_folder_that_may_not_be_written_have_next_steps() {
        let full = failed(ErrorKind::StorageFull);
        assert_eq!(full.exit, Exit::Internal);
        assert!(full.next.unwrap().starts_with("make room"));
        for kind in [ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied] {
            let refused = failed(kind);
            assert_eq!(refused.exit, Exit::Usage);
            assert!(refused.next.unwrap().starts_with("choose a place"));
        }
        assert_eq!(failed(ErrorKind::InvalidData).next, None);
    }

    #[test]
    fn a_commands_own_advice_is_kept() {
        let cause = anyhow!(io::Error::from(ErrorKind::StorageFull));
        let failure = Failure::new(Exit::No, cause).next("do this").advised();
        assert_eq!(failure.next.as_deref(), Some("do this"));
    }
}
