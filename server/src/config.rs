//! `towline.toml`: what an operator decides about a site.

mod check;
mod plan;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::hosts::retention::Retention;
use crate::recoveries::Chosen;
pub use check::ConfigError;
pub use plan::{HandOverChoice, HostPlan, PlanConfig};

/// Name of the file in a site's folder.
pub const CONFIG_FILE: &str = "towline.toml";

/// A site's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to serve HTTPS.
    pub listen: SocketAddr,
    /// Where to serve plain HTTP as well. Layers and plans are trusted by their signatures, not by TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_listen: Option<SocketAddr>,
    /// Host names and addresses for the server's certificate.
    pub server_names: Vec<String>,
    /// Folder of the store, relative to the site's.
    #[serde(default = "store")]
    pub store: PathBuf,
    /// Base URLs that machines fetch layers from, in order; the server itself when empty.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// What machines boot.
    #[serde(default)]
    pub plan: PlanConfig,
    /// How long signed metadata is valid.
    #[serde(default)]
    pub valid_days: ValidDays,
    /// Which sessions can be recovered.
    #[serde(default)]
    pub sessions: SessionsConfig,
    /// Which sessions are kept.
    #[serde(default)]
    pub retention: Retention,
    /// What a recovery is given.
    #[serde(default)]
    pub credentials: CredentialsConfig,
    /// How old things may be.
    #[serde(default)]
    pub doctor: DoctorConfig,
    /// How recoveries are tried.
    #[serde(default, skip_serializing_if = "DrillConfig::says_nothing")]
    pub drill: DrillConfig,
    /// When recipes that follow their packages are looked at.
    #[serde(default, skip_serializing_if = "TrackConfig::says_nothing")]
    pub track: TrackConfig,
    /// Set in a server that a drill runs for one machine; never in a file.
    #[serde(skip)]
    pub trial: Option<Trial>,
}

fn store() -> PathBuf {
    "store".into()
}

/// Days that each role's metadata is valid for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidDays {
    /// The root; media follow its rotations.
    pub root: u32,
    /// The catalogue of layers.
    pub targets: u32,
    /// The snapshot; `serve` signs it again in time.
    pub snapshot: u32,
    /// The timestamp; `serve` signs it again in time.
    pub timestamp: u32,
}

impl Default for ValidDays {
    fn default() -> Self {
        Self {
            root: 5 * 365,
            targets: 365,
            snapshot: 7,
            timestamp: 1,
        }
    }
}

/// Which sessions can be recovered.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionsConfig {
    /// Longest time from a session to the capture of its layout, in hours: the layout of another day may be another one.
    pub capture_lag_hours: u32,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        Self {
            capture_lag_hours: 24,
        }
    }
}

/// What a recovery is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialsConfig {
    /// Hours that the client certificate of one boot is valid.
    pub client_certificate_hours: u16,
    /// PEM certificates of the authorities that the agents' servers are checked by, relative to the site's folder; the site's
    /// own authority when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_ca: Option<PathBuf>,
    /// A program with arguments that prints `NAME=value` lines for the agent's environment; none when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

impl Default for CredentialsConfig {
    fn default() -> Self {
        Self {
            client_certificate_hours: 12,
            agent_ca: None,
            command: Vec::new(),
        }
    }
}

/// How old things may be before `towline doctor` says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DoctorConfig {
    /// A host's newest session, in hours; an older one is a problem.
    pub session_hours: u32,
    /// A host's last drill, in days; an older one is a warning.
    pub drill_days: u32,
    /// The newest file of an agent layer, in days; an older one is a warning, unless it was seen to be what upstream has.
    pub agent_days: u32,
    /// The last look at the packages of a recipe that follows them, in days; an older one is a warning.
    pub track_days: u32,
}

impl Default for DoctorConfig {
    fn default() -> Self {
        Self {
            session_hours: 48,
            drill_days: 90,
            agent_days: 180,
            track_days: 7,
        }
    }
}

/// How recoveries are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrillConfig {
    /// The generic medium that machines are started from, relative to the site's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medium: Option<PathBuf>,
}

impl DrillConfig {
    fn says_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// When recipes that follow their packages are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrackConfig {
    /// The server looks every so many hours; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hours: Option<u16>,
}

impl TrackConfig {
    fn says_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What the server of a drill does otherwise: its machine is given one host's one session, without a code and without secrets.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Names the drill, in the plan and its events.
    pub id: String,
    /// The host.
    pub host: String,
    /// The session; none in a drill that restores, which has a code as any recovery has.
    pub session: Option<Chosen>,
    /// Where its machine's events go.
    pub events: PathBuf,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read {
            path: path.into(),
            cause,
        })?;
        let config: Self = toml::from_str(&text).map_err(|cause| ConfigError::Syntax {
            path: path.into(),
            cause: cause.into(),
        })?;
        match config.mistake() {
            None => Ok(config),
            Some(what) => Err(ConfigError::Value {
                path: path.into(),
                what,
            }),
        }
    }
}
