//! What a protected host does after each backup: it describes itself, signs the description, and sends it.
//!
//! [`describe`] takes ReaR's layout of the running system (or [`describe`]s one that was taken elsewhere), checks that
//! a host could be made of it, takes credentials out, and builds the host layer into the [`spool`]; [`send`] signs what is
//! in the spool into the host's list of sessions and uploads it, now or when the server is there again. ReaR's own files
//! stay as they are: it is told to write elsewhere.

pub(crate) mod client;
mod complete;
pub(crate) mod error;
mod hardware;
pub(crate) mod home;
pub(crate) mod hooks;
mod layer;
mod layout;
mod packages;
mod programs;
mod rear;
mod secrets;
pub(crate) mod session;
pub(crate) mod spool;
mod tree;

use std::path::PathBuf;
use std::time::Duration;

use towline_contract::Timestamp;
use towline_contract::session::{Backup, Session};

use error::CaptureError;
pub(crate) use hardware::identity;
use home::Home;
use session::AgentSession;

/// What is captured.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The host's identifier.
    pub(crate) host: String,
    /// Name of the agent layer that restores the session.
    pub(crate) agent: String,
    /// Its version, if it was given.
    pub(crate) version: Option<String>,
    /// The agent's session.
    pub(crate) session: AgentSession,
    /// A layout that was taken already: a directory or an archive.
    pub(crate) from: Option<PathBuf>,
    /// Keep credentials in ReaR's settings.
    pub(crate) with_secrets: bool,
    /// Longest that ReaR may take.
    pub(crate) timeout: Duration,
}

/// A description that is in the spool.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    /// Target name of the layer.
    pub(crate) target: String,
    /// Bytes of the layer as it is stored.
    pub(crate) bytes: u64,
    /// What was left out of it because it has credentials.
    pub(crate) left_out: Vec<String>,
}

/// Describes this host at the time of a session, as a layer in the spool.
///
/// # Errors
/// ReaR fails, its layout is not complete, or the layer cannot be built.
pub(crate) fn describe(home: &Home, request: &Request) -> Result<Described, CaptureError> {
    let captured = seconds(Timestamp::now());
    let staging = home.staging()?;
    let root = staging.path().join("root");
    let rear = match &request.from {
        Some(path) => tree::import(path, &root)?,
        None => {
            let state = staging.path().join("rear");
            let version = rear::savelayout(home, &state, request.timeout)?;
            tree::from_this_host(&state, &root)?;
            version
        }
    };
    let place = tree::place(&root);
    let left_out = match request.with_secrets {
        true => Vec::new(),
        false => secrets::take_out(&place)?,
    };
    let layout = complete::check(&place)?;
    let session = Session {
        time: request.session.time.unwrap_or(captured),
        captured,
        hostname: tree::hostname(&root)?,
        backup: Backup {
            agent: request.agent.clone(),
            version: match &request.version {
                Some(version) => version.clone(),
                None => packages::agent_version(&request.agent)?,
            },
            session: request.session.id.clone(),
            bytes: request.session.bytes,
        },
        rear,
        hardware: hardware::read(&layout),
    };
    session::check_times(session.time, captured)?;
    let programs = programs::needed(&layout, session.hardware.uefi);
    let manifest = layer::build(home, &request.host, &root, session, programs)?;
    Ok(Described {
        target: manifest.target_name(),
        bytes: manifest.stored_bytes,
        left_out,
    })
}

/// Without a fraction: a session's name is its time in seconds.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
