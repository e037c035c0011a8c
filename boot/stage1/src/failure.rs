//! What stops a boot, as the person at the machine reads it: what happened to which thing, why, and what to do.

use std::error::Error;

use towline_contract::trust::TrustError;

use crate::fetch::FetchError;
use crate::handover::HandOverError;
use crate::modules::ModuleError;
use crate::mounts::MountError;
use crate::network::NetworkError;
use crate::place::PlaceError;
use crate::settings::SettingsError;

/// Why a boot ended before the rescue system.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// What a PID 1 needs could not be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The medium or the command line cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A module without which nothing goes on.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// No network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// No plan, no manifest or no layer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A layer has no place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The rescue system cannot be started.
    #[error(transparent)]
    HandOver(#[from] HandOverError),
}

impl BootError {
    /// What the person at the machine can do.
    #[must_use]
    pub fn next(&self) -> &'static str {
        match self {
            Self::Mount(_) => "restart; if it happens again, write the medium again",
            Self::Settings(error) => error.next(),
            Self::Module(_) => "write the medium again: it does not go with its kernel",
            Self::Network(error) => error.next(),
            Self::Fetch(error) => after_fetch(error),
            Self::Place(PlaceError::OlderBase { .. }) => {
                "publish a base layer built with this version and its recipe, or that layer with placement \"ram\""
            }
            Self::Place(_) => AFTER_PLACE,
            Self::HandOver(error) => error.next(),
        }
    }

    /// Signed metadata that is past its date: what a person may accept.
    #[must_use]
    pub fn expired(&self) -> Option<&TrustError> {
        match self {
            Self::Fetch(FetchError::Trust { cause, .. }) => {
                matches!(**cause, TrustError::Expired(_)).then_some(cause)
            }
            _ => None,
        }
    }

    /// Whether another way out of this machine might lead to a server that this one did not.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Fetch(
                FetchError::Connect { .. }
                    | FetchError::Resolve { .. }
                    | FetchError::Stalled { .. }
            )
        )
    }

    /// The whole message: what, because, next; one line each.
    #[must_use]
    pub fn message(&self) -> String {
        let mut lines = vec![format!("FAILED: {self}")];
        let mut cause = self.source();
        while let Some(error) = cause {
            lines.push(format!("  because: {error}"));
            cause = error.source();
        }
        lines.push(format!("  next: {}", self.next()));
        lines.join("\n")
    }
}

const AFTER_PLACE: &str =
    "if memory ran out, give the machine more; else tell whoever publishes this layer";

fn after_fetch(error: &FetchError) -> &'static str {
    match error {
        FetchError::NoServer
        | FetchError::Url { .. }
        | FetchError::NoRoot
        | FetchError::Authority(_) => "stamp the medium again with `towline media stamp`",
        FetchError::Resolve { .. } => "check the name servers, or name the server by its address",
        FetchError::Tls { .. } => {
            "check the name in the server's certificate, and that its authority is stamped (`towline media show`)"
        }
        FetchError::NoKey(_) => {
            "if the server is older than this medium, install this version there; else try again"
        }
        FetchError::NoRecovery(_) => {
            "see on the server whether it was closed or is past its deadline (`towline recovery list --all`), and open another"
        }
        FetchError::Status { .. } => "do what the server says",
        FetchError::Trust { cause, .. } if matches!(**cause, TrustError::Rollback { .. }) => {
            "if the server was restored from an older copy, stamp the medium again, or repeat `towline key rotate ROLE --renew` there until the document has that version; else do not trust this server"
        }
        FetchError::Trust { .. } => {
            "stamp the medium again with `towline media stamp --root root.json` if the keys are new; else do not trust this server"
        }
        FetchError::EveryMirrorLies { .. } => {
            "publish the layer again; its mirrors have other bytes than were signed"
        }
        FetchError::Place(_) => AFTER_PLACE,
        _ => "check that the server runs and can be reached from this network",
    }
}

/// An error with its causes, on one line.
#[must_use]
pub fn joined(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        let cause = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let server = "https://backup.example:8443".into();
        let error = BootError::from(FetchError::Connect { server, cause });
        let message = error.message();
        let lines: Vec<_> = message.lines().collect();
        assert_eq!(
            lines[0],
            "FAILED: https://backup.example:8443 cannot be reached"
        );
        assert_eq!(lines[1], "  because: connection refused");
        assert_eq!(
            lines[2],
            "  next: check that the server runs and can be reached from this network"
        );
        assert!(error.is_unreachable());
    }

    #[test]
    fn what_is_not_trusted_is_never_taken_for_merely_expired() {
        let error = |cause| {
            let server = "https://backup.example".into();
            BootError::from(FetchError::Trust {
                server,
                cause: Box::new(cause),
            })
        };
        assert!(error(TrustError::Chain("x".into())).expired().is_none());
        assert!(error(TrustError::Expired(vec![])).expired().is_some());
    }
}
