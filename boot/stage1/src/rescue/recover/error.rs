//! Why a recovery does not go on, as the person at the machine reads it.

use std::io;

use crate::fetch::FetchError;
use crate::rescue::on_target::OnTargetError;

/// Why a recovery ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    /// Nothing has been touched, and nothing will be until this is changed.
    #[error("{what}")]
    Refused {
        /// What is wrong.
        what: String,
        /// What helps.
        next: &'static str,
    },
    /// A file of the recovery.
    #[error("cannot {what} {path}")]
    File {
        /// What was done.
        what: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A program that cannot be started.
    #[error("cannot run {program}")]
    Program {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The agent does not reach its server, or its server does not have the session.
    #[error("the agent's check of the session fails: {said}")]
    Agent {
        /// The last lines of its output.
        said: String,
    },
    /// ReaR ended with an error.
    #[error("ReaR ended before the host was recovered ({status}), in the phase {phase}: {said}")]
    Rear {
        /// Its exit status.
        status: String,
        /// How far it came.
        phase: &'static str,
        /// What was said last.
        said: String,
    },
    /// ReaR hangs.
    #[error("ReaR did not end the phase {phase} within {minutes} minutes")]
    Hangs {
        /// How far it came.
        phase: &'static str,
        /// How long it had.
        minutes: u64,
    },
    /// The agent cannot restore.
    #[error("the restore failed: {said}")]
    Restore {
        /// The last lines of its output.
        said: String,
    },
    /// The installer of the agent cannot be fetched.
    #[error("the agent's installer {url} cannot be fetched")]
    Fetch {
        /// Where it should be.
        url: String,
        /// Why.
        #[source]
        cause: Box<FetchError>,
    },
    /// The site's certificate authorities cannot be used.
    #[error("the certificate authorities in the hand-over note cannot be used")]
    Authorities {
        /// Why.
        #[source]
        cause: Box<FetchError>,
    },
    /// The chain's layers for the target are not there.
    #[error(transparent)]
    OnTarget(#[from] OnTargetError),
    /// The recovered system lacks something without which it does not start.
    #[error("the files are back, and the host would not start: {0}")]
    Incomplete(String),
}

impl RecoverError {
    pub(super) fn refused(what: impl Into<String>, next: &'static str) -> Self {
        let what = what.into();
        Self::Refused { what, next }
    }

    /// What the person at the machine can do.
    pub(super) fn next(&self) -> &'static str {
        match self {
            Self::Refused { next, .. } => next,
            Self::File { .. } | Self::Program { .. } => {
                "check that the chain has the base layer that belongs to this version"
            }
            Self::Agent { .. } => {
                "check the agent's server, the credentials, and that the session is still kept"
            }
            Self::Rear { .. } | Self::Hangs { .. } => {
                "read /var/log/rear/ and /var/log/towline.log in the shell, then try again"
            }
            Self::Restore { .. } => "read /var/log/towline-agent.log in the shell, then try again",
            Self::Fetch { .. } => "check the installer's address and the network, then try again",
            Self::Authorities { .. } => {
                "stamp the medium again with `towline media stamp`, and restart"
            }
            Self::OnTarget(error) => error.next(),
            Self::Incomplete(_) => "put it right in the shell (the host is mounted at /mnt/local)",
        }
    }

    /// The whole message: what, because, next; one line each.
    pub(super) fn message(&self) -> String {
        let what = crate::failure::joined(self);
        format!("FAILED: {what}\n  next: {}", self.next())
    }
}

/// Makes a file's error one of the recovery.
pub(super) fn file(
    what: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> RecoverError {
    let path = path.display().to_string();
    move |cause| RecoverError::File { what, path, cause }
}
