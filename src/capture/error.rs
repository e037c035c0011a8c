//! Why a host cannot be described, or its description not be sent.

use std::io;
use std::path::{Path, PathBuf};

use towline_initramfs::build::BuildError;

use super::client::ClientError;

/// Why a capture ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// A file of this machine.
    #[error("cannot {what} {path}")]
    File {
        /// `read`, `write`, …
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// This host is not enrolled.
    #[error("this host is not enrolled: {0} does not exist")]
    NotEnrolled(PathBuf),
    /// The settings of the host.
    #[error("{path} is not right: {why}")]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The host's key.
    #[error("the host's key cannot be used")]
    Key(#[from] towline_server::keys::KeyError),
    /// Another capture runs for too long.
    #[error("another capture is still running after {0} s")]
    Busy(u64),
    /// ReaR is not installed.
    #[error("ReaR is not installed: there is no program named rear")]
    NoRear(#[source] io::Error),
    /// ReaR failed.
    #[error("rear savelayout failed ({status}); it said:\n{said}")]
    Rear {
        /// How it ended.
        status: String,
        /// The end of its output.
        said: String,
    },
    /// ReaR did not end.
    #[error("rear savelayout did not end within {seconds} s; it said:\n{said}")]
    Timeout {
        /// How long it was waited for.
        seconds: u64,
        /// The end of its output.
        said: String,
    },
    /// The layout cannot be recovered from.
    #[error("the layout is not complete: {}", .0.join("; "))]
    Incomplete(Vec<String>),
    /// Something that is given in place of ReaR's own run.
    #[error("{path} has no layout: {why}")]
    From {
        /// The directory or archive.
        path: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// A credential that cannot be taken out of a file.
    #[error("{file}, line {line}, has a credential ({name}) among other things")]
    Secret {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What it is.
        name: String,
    },
    /// The agent is asked about its sessions or version.
    #[error("{agent} does not say {what}")]
    Agent {
        /// The agent.
        agent: String,
        /// What was asked.
        what: String,
        /// Why.
        #[source]
        cause: Option<io::Error>,
    },
    /// The session cannot belong to this layout.
    #[error("{0}")]
    Times(String),
    /// A hook.
    #[error("{0}")]
    Hook(String),
    /// The layer.
    #[error("the host layer cannot be built")]
    Build(#[from] BuildError),
    /// The layer breaks the rules for host layers.
    #[error("the host layer would be refused")]
    Lane(#[from] towline_initramfs::stored::StoredError),
    /// The server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server waits for an operator.
    #[error("host {host} with the fingerprint {fingerprint} is not approved yet")]
    Waiting {
        /// The host.
        host: String,
        /// Of its key.
        fingerprint: String,
    },
    /// The server never heard of the host.
    #[error("{server} does not know host {host}")]
    Unknown {
        /// The server.
        server: String,
        /// The host.
        host: String,
    },
    /// The server knows another key.
    #[error("{server} knows host {host} with the fingerprint {theirs}; this host's key has {ours}")]
    OtherKey {
        /// The server.
        server: String,
        /// The host.
        host: String,
        /// Fingerprint at the server.
        theirs: String,
        /// Fingerprint here.
        ours: String,
    },
    /// What the server gives as the host's own signature.
    #[error("the sessions that {server} has of this host are not signed by it")]
    Sessions {
        /// The server.
        server: String,
        /// Why.
        #[source]
        cause: Box<towline_contract::trust::TrustError>,
    },
}

/// Makes the error of a file.
pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CaptureError {
    let path = path.to_owned();
    move |cause| CaptureError::File { what, path, cause }
}
