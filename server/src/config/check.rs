//! Values that make no sense, and why a configuration cannot be used.

use std::path::PathBuf;

use towline_contract::base_url;
use towline_contract::limits::{MIRRORS_MAX, PLAN_SECONDS_MAX};
use towline_contract::trust::check_command_line;

use super::Config;
use crate::hosts::retention::SESSIONS_MAX;

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
    /// The first value that cannot be used, and why.
    pub(super) fn mistake(&self) -> Option<String> {
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
