//! What an agent layer's manifest says of its agent: how to find, restore and follow a session. Agents are data.
//!
//! Commands are programs with arguments, run without a shell, with the variables of [`Agent::environment`] and those of the
//! credentials. In each argument `{session}`, `{host}`, `{target}` (where the recreated file systems are mounted) and
//! `{credentials}` ([`CREDENTIALS_DIR`]) are replaced; a brace that is none of these is left as it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the credentials lie in the rescue system.
pub const CREDENTIALS_DIR: &str = "/run/towline/credentials";

/// File of the credentials with `NAME=value` lines: variables for the agent's commands.
pub const ENVIRONMENT_FILE: &str = "environment";

/// Reads [`ENVIRONMENT_FILE`]: `NAME=value` lines; what follows `=` is the value, as it is. Empty lines and those that begin
/// with `#` are left out.
///
/// # Errors
/// The number of the first line that is none of these, counted from 1.
pub fn variables(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut variables = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(number)?;
        let letters = |it: char| it.is_ascii_alphanumeric() || it == '_';
        if name.is_empty()
            || !name.chars().all(letters)
            || name.starts_with(|it: char| it.is_ascii_digit())
        {
            return Err(number);
        }
        variables.push((name.to_owned(), value.to_owned()));
    }
    Ok(variables)
}

/// One backup agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Restores `{session}` into `{target}`; exit status 0 says that all of it is there.
    pub restore: Vec<String>,
    /// Exit status 0 says that the agent's server is reached and has `{session}`. Run before any disk is touched;
    /// of an agent whose layer goes onto the target, before the restore.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub check: Vec<String>,
    /// Lists the sessions, for the person who must choose another one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sessions: Vec<String>,
    /// How progress is known.
    #[serde(default)]
    pub progress: Progress,
    /// Variables that are always the same; `{target}` and the others are replaced in the values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub environment: BTreeMap<String, String>,
    /// Folder of the agent's database or cache, on the recreated file systems (`{target}/…`); made before the restore.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub database: Option<String>,
    /// Whether the database stays after the restore.
    #[serde(default)]
    pub keep_database: bool,
    /// What is installed on the recreated file systems before the restore, for an agent that is too large for memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub install: Option<Install>,
    /// Packages that must be the newest ones; `towline doctor` looks.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub current: Vec<String>,
}

/// How progress of a restore is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Bytes in use on the recreated file systems, against [`crate::session::Backup::bytes`].
    #[default]
    Disk,
    /// The last number before a `%` in the restore's output.
    Percent,
}

/// An installer that is fetched in the rescue system and run on the target disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// Where it is, by `https://`.
    pub url: String,
    /// Its SHA-256.
    pub sha256: crate::Digest,
    /// Most bytes it may have.
    pub bytes_max: u64,
    /// Folder on the recreated file systems (`{target}/…`) for the installer and what it installs.
    pub directory: String,
    /// Runs it; `{installer}` is the fetched file, `{directory}` the folder.
    pub command: Vec<String>,
    /// Whether the folder stays after the restore.
    #[serde(default)]
    pub keep: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_taken_as_they_are_and_anything_else_is_refused() {
        let text = "# restic\nRESTIC_PASSWORD=a b=c \"d\"\n\nEMPTY=\n";
        let wanted = [("RESTIC_PASSWORD", "a b=c \"d\""), ("EMPTY", "")];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables(text), Ok(wanted.to_vec()));
        for (text, line) in [
            ("A=1\nexport B=2\n", 2),
            ("just words\n", 1),
            ("1A=x\n", 1),
            ("=x\n", 1),
        ] {
            assert_eq!(variables(text), Err(line), "{text:?}");
        }
    }
}
