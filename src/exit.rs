//! Exit codes of `towline`, a contract with scripts.

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

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Internal, error)
    }
}

/// Outcome of a command.
pub(crate) type Outcome = Result<(), Failure>;
