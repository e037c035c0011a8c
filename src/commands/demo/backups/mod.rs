//! The backup server of the demonstration, one for each agent, and what the host and the operator are given to use it.
//!
//! Whoever keeps a demonstration (`--keep`) finds what the server keeps in `story/backups/repository`.

mod borg;
mod restic;
mod run;

use std::path::Path;

use super::served::Process;
use super::{Agent, HOST};
use crate::exit::Failure;

/// Password of the backups. It protects a demonstration.
const PASSWORD: &str = "only-a-demonstration";

/// A running backup server. It ends with this.
pub(super) struct Backups {
    /// Its processes.
    servers: Vec<Process>,
    /// Variables for whoever uses it, as lines for a shell and for the credentials of a recovery.
    pub(super) variables: String,
    /// What the host's script does to be backed up: sourced by `back-up.sh`, it defines `back_up`.
    pub(super) script: &'static str,
    /// What the host has for it beside: names, modes, contents.
    pub(super) host: Vec<(&'static str, u32, Vec<u8>)>,
    /// What the operator puts into the host's credentials: names and contents.
    pub(super) credentials: Vec<(&'static str, String)>,
    /// The recipe of the agent's layer, if it depends on the server.
    pub(super) recipe: Option<String>,
}

impl Backups {
    /// Starts the server of `agent`, which keeps its files in `folder`. `ca` has the site's authorities; `name` is what its
    /// users call this machine.
    pub(super) fn start(
        agent: Agent,
        folder: &Path,
        ca: &Path,
        name: &str,
    ) -> Result<Self, Failure> {
        match agent {
            Agent::Restic => restic::start(folder, ca, name),
            Agent::Borg => borg::start(folder, name),
            Agent::Run => run::start(folder, ca, name),
        }
    }

    /// What the demonstration says that it starts.
    pub(super) fn described(agent: Agent) -> &'static str {
        match agent {
            Agent::Restic => "rclone serve restic, by TLS, for those with a client certificate",
            Agent::Borg => "borg serve, by ssh, for two keys",
            Agent::Run => "sessions for those with a token, and the agent's installer, by TLS",
        }
    }

    /// The server is not needed any more.
    pub(super) fn stop(self) {
        drop(self.servers);
    }
}
