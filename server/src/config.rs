//! `towline.toml`: what an operator decides about a site.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use towline_contract::base_url;
use towline_contract::limits::{MIRRORS_MAX, PLAN_SECONDS_MAX};
use towline_contract::manifest::Kind;
use towline_contract::plan::HandOver;
use towline_contract::trust::check_command_line;

use crate::hosts::retention::{Retention, SESSIONS_MAX};
use crate::recoveries::Chosen;

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

/// What machines boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanConfig {
    /// Name of the kernel layer; needed when several names are published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Name of the base layer; needed when several names are published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Names of the agent layers; all that are published when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<Vec<String>>,
    /// Names of the extra layers; all that are published when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extras: Option<Vec<String>>,
    /// How to start the rescue system.
    pub hand_over: HandOverChoice,
    /// Kernel command line of the rescue system when it is started by kexec.
    pub command_line: String,
    /// Minutes that a plan is valid for.
    pub minutes: u8,
    /// Hosts that boot a kernel or a base of their own, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, HostPlan>,
}

/// What one host boots instead of what the others do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostPlan {
    /// Name of its kernel layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Name of its base layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

impl PlanConfig {
    /// The name that is set for the kernel or base of `host`, or else of every host.
    #[must_use]
    pub fn named(&self, kind: Kind, host: Option<&str>) -> Option<&str> {
        let own = host.and_then(|host| self.hosts.get(host));
        let of_all = match kind {
            Kind::Kernel => &self.kernel,
            _ => &self.base,
        };
        own.and_then(|own| own.named(kind)).or(of_all.as_deref())
    }

    /// The names that are set for the agents or extras that machines boot.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Option<&[String]> {
        match kind {
            Kind::Agent => self.agents.as_deref(),
            Kind::Extra => self.extras.as_deref(),
            _ => None,
        }
    }

    /// Whether machines boot the newest layer of this kind and name, if it is an agent or an extra.
    #[must_use]
    pub fn boots(&self, kind: Kind, name: &str) -> bool {
        let names = self.names(kind);
        names.is_none_or(|names| names.iter().any(|it| it == name))
    }

    /// Whether the kernel or base called `name` is one for `host`; without a host, for those that have none of their own.
    /// Where nothing is set, any is but those that are set for single hosts.
    #[must_use]
    pub fn wants(&self, kind: Kind, host: Option<&str>, name: &str) -> bool {
        match self.named(kind, host) {
            Some(wanted) => wanted == name,
            None => !self.hosts.values().any(|own| own.named(kind) == Some(name)),
        }
    }
}

impl HostPlan {
    fn named(&self, kind: Kind) -> Option<&str> {
        match kind {
            Kind::Kernel => self.kernel.as_deref(),
            _ => self.base.as_deref(),
        }
    }
}

/// How to start the rescue system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandOverChoice {
    /// In place when the machine already runs the chain's kernel, else by kexec.
    Auto,
    /// Always in place; refused when the machine runs another kernel.
    InPlace,
    /// Always by kexec.
    Kexec,
}

impl From<HandOver> for HandOverChoice {
    fn from(how: HandOver) -> Self {
        match how {
            HandOver::InPlace => Self::InPlace,
            HandOver::Kexec => Self::Kexec,
        }
    }
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self {
            kernel: None,
            base: None,
            agents: None,
            extras: None,
            hand_over: HandOverChoice::Auto,
            command_line: "console=tty0 console=ttyS0,115200".into(),
            minutes: 5,
            hosts: BTreeMap::new(),
        }
    }
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

/// Most hours that a client certificate may be valid: a week. Nobody withdraws one.
const CLIENT_CERTIFICATE_HOURS_MAX: u16 = 7 * 24;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// Not TOML of this shape; the cause names line and field.
    #[error("{path} is not a site's configuration")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        cause: Box<toml::de::Error>,
    },
    /// A value that makes no sense.
    #[error("{path}: {what}")]
    Value {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
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

    fn mistake(&self) -> Option<String> {
        let minutes = i64::from(self.plan.minutes);
        if !(1..=PLAN_SECONDS_MAX / 60).contains(&minutes) {
            return Some(format!(
                "plan.minutes is {minutes}, and must be from 1 to {}",
                PLAN_SECONDS_MAX / 60
            ));
        }
        if self.server_names.is_empty() {
            return Some("server_names is empty: the server's certificate needs a name".into());
        }
        let days = self.valid_days;
        if [days.root, days.targets, days.snapshot, days.timestamp].contains(&0) {
            return Some("valid_days must be 1 or more".into());
        }
        if self.track.hours == Some(0) {
            return Some("track.hours must be 1 or more".into());
        }
        let kept = self.retention.most();
        if kept > SESSIONS_MAX.into() {
            return Some(format!(
                "retention keeps up to {kept} sessions of a host, and {SESSIONS_MAX} is the most"
            ));
        }
        let hours = self.credentials.client_certificate_hours;
        if !(1..=CLIENT_CERTIFICATE_HOURS_MAX).contains(&hours) {
            return Some(format!(
                "credentials.client_certificate_hours is {hours}, and must be from 1 to {CLIENT_CERTIFICATE_HOURS_MAX}"
            ));
        }
        if let Err(error) = check_command_line(&self.plan.command_line) {
            return Some(format!("plan.command_line: {error}"));
        }
        if self.mirrors.len() > MIRRORS_MAX {
            return Some(format!("there are more than {MIRRORS_MAX} mirrors"));
        }
        self.mirrors
            .iter()
            .find_map(|mirror| mistake_in_url(mirror))
    }
}

/// What machines could not use in a mirror's URL.
fn mistake_in_url(text: &str) -> Option<String> {
    let why = base_url::parse(text).err()?;
    Some(format!("mirror {text:?} is no URL for machines: {why}"))
}
