//! What one boot of a recovery is given, made when its code is used: in memory, sent once, never written to a disk.
//!
//! [`folder`] reads the operator's files, [`client_ca`] signs a client certificate, [`command`] runs the operator's program,
//! [`layer`] packs it all as a credentials layer. Where several have a file of one name, the more specific wins: the host's
//! folder before `_all`, both before what is made here.

pub mod client_ca;
mod command;
pub mod dates;
mod folder;
mod layer;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use towline_contract::agent::{ENVIRONMENT_FILE, variables};
use towline_contract::limits::CREDENTIALS_BYTES_MAX;
use towline_contract::newc::NewcError;
use towline_contract::recovery::{CredentialsRef, REPORT_TOKEN_FILE};
use towline_contract::trust::{PublicKey, SigningKey};
use towline_contract::{Digest, Timestamp};
use zeroize::Zeroizing;

use crate::site::{Site, offset};
use crate::tls::TlsError;

pub use command::CommandError;

/// File of the client certificate with its key.
pub const CLIENT_FILE: &str = "client.pem";

/// File of the authorities of the agents' servers.
pub const CA_FILE: &str = "ca.pem";

/// Room for a client certificate with its key, in bytes. One has 1 KB.
const CLIENT_BYTES_MAX: u64 = 4 << 10;

/// Names of files and their contents.
type Files = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Why there are no credentials. The messages go to the log; [`CredentialsError::told`] goes to the machine.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Others may read a secret.
    #[error("{path} has mode {mode:04o}; others may read it: chmod go= {path}", path = path.display())]
    Readable {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a file that can be sent.
    #[error("{path} {why}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not `NAME=value`.
    #[error("line {line} of {what} is no NAME=value")]
    Variable {
        /// Which lines.
        what: &'static str,
        /// Its number, counted from 1.
        line: usize,
    },
    /// Too much.
    #[error("the credentials of {host} have {bytes} bytes, and {most} is the most")]
    TooLarge {
        /// The host.
        host: String,
        /// How much it is.
        bytes: usize,
        /// How much it may be: for the operator's files, less than there is room for, since more is made for each boot.
        most: u64,
    },
    /// newc cannot hold it.
    #[error("the credentials cannot be packed")]
    Pack(#[from] NewcError),
    /// See the cause.
    #[error("no client certificate")]
    Certificate(#[from] TlsError),
    /// See the cause.
    #[error("the command for credentials failed")]
    Command(#[from] CommandError),
    /// The system has no random numbers.
    #[error("cannot get random bytes")]
    Random(#[source] getrandom::Error),
}

impl CredentialsError {
    /// What the person at the machine is told: nothing of the server's files.
    #[must_use]
    pub fn told(&self) -> &'static str {
        match self {
            Self::Command(_) => "the server's command for credentials failed",
            Self::Variable { .. } => {
                "the credentials of this host are not usable: a line is no NAME=value"
            }
            Self::TooLarge { .. } => "the credentials of this host are too large",
            Self::Readable { .. } => {
                "the server does not send the credentials of this host: others may read its files"
            }
            _ => "the server cannot make the credentials of this host",
        }
    }
}

/// Whose credentials are made.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The host.
    pub host: &'a str,
    /// The agent's own name of the session.
    pub session: &'a str,
    /// The recovery's identifier.
    pub recovery: &'a str,
}

/// The credentials of one boot.
pub struct Made {
    /// The layer, uncompressed newc.
    pub layer: Zeroizing<Vec<u8>>,
    /// What the plan says of it.
    pub reference: CredentialsRef,
    /// SHA-256 of the token for reports that is in it.
    pub report_token: Digest,
    /// The public half of the key that the machine makes of the token, to sign its events by.
    pub report_key: PublicKey,
}

/// The names of the operator's files for `host`, seen to be usable: before it is night.
///
/// # Errors
/// See [`CredentialsError`].
pub fn check(site: &Site, host: &str) -> Result<Vec<String>, CredentialsError> {
    let files = operators(site, host)?;
    let (layer, _) = layer::pack(&files)?;
    let most = CREDENTIALS_BYTES_MAX.saturating_sub(made_bytes_max(site, &files));
    within(host, layer.len(), most)?;
    Ok(files.into_keys().collect())
}

/// Room for what is made beside the operator's files, in bytes.
fn made_bytes_max(site: &Site, files: &Files) -> u64 {
    let record = layer::RECORD_BYTES as u64;
    let mut bytes = record + 64;
    if !files.contains_key(CLIENT_FILE) {
        bytes += record + CLIENT_BYTES_MAX;
    }
    if !files.contains_key(CA_FILE) {
        // What cannot be read is told by the one who looks at the authorities.
        let ca = std::fs::metadata(dates::agent_ca(site));
        bytes += record + ca.map_or(0, |it| it.len());
    }
    if !site.config.credentials.command.is_empty() {
        bytes += record + command::OUTPUT_BYTES_MAX as u64;
    }
    bytes
}

fn within(host: &str, bytes: usize, most: u64) -> Result<(), CredentialsError> {
    match bytes as u64 > most {
        true => Err(CredentialsError::TooLarge {
            host: host.into(),
            bytes,
            most,
        }),
        false => Ok(()),
    }
}

/// Makes the credentials of one boot. Waits for the operator's command, if there is one.
///
/// # Errors
/// See [`CredentialsError`].
pub fn make(site: &Site, wanted: Wanted<'_>, now: Timestamp) -> Result<Made, CredentialsError> {
    let config = &site.config.credentials;
    let mut files = operators(site, wanted.host)?;
    if !files.contains_key(CLIENT_FILE) {
        let (authority, hours) = (site.authority(), config.client_certificate_hours);
        let pem = client_ca::certificate(&authority, wanted.host, hours, offset(now))?;
        files.insert(CLIENT_FILE.into(), Zeroizing::new(pem.as_bytes().to_vec()));
    }
    if !files.contains_key(CA_FILE) {
        let path = dates::agent_ca(site);
        files.insert(CA_FILE.into(), folder::public(&path)?);
    }
    if !config.command.is_empty() {
        let output = command::run(&config.command, wanted)?;
        check_variables(&output, "the output of the command for credentials")?;
        append_lines(files.entry(ENVIRONMENT_FILE.into()).or_default(), &output);
    }
    let (token, report_key) = new_token()?;
    let report_token = Digest::of(token.as_bytes());
    files.insert(
        REPORT_TOKEN_FILE.into(),
        Zeroizing::new(token.as_bytes().to_vec()),
    );
    let (layer, entries) = layer::pack(&files)?;
    within(wanted.host, layer.len(), CREDENTIALS_BYTES_MAX)?;
    Ok(Made {
        reference: CredentialsRef {
            digest: Digest::of(&layer),
            bytes: layer.len() as u64,
            entries,
        },
        report_token,
        report_key,
        layer,
    })
}

/// The operator's files, of which the environment is one that the machine will understand.
fn operators(site: &Site, host: &str) -> Result<Files, CredentialsError> {
    let files = folder::read(&site.credentials(), host)?;
    if let Some(environment) = files.get(ENVIRONMENT_FILE) {
        check_variables(environment, "the environment of this host")?;
    }
    Ok(files)
}

/// The seed of a key in hex, and the public half of that.
fn new_token() -> Result<(Zeroizing<String>, PublicKey), CredentialsError> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(random.as_mut()).map_err(CredentialsError::Random)?;
    let token = Zeroizing::new(hex::encode(random.as_ref()));
    Ok((token, SigningKey::generate(*random).public()))
}

/// Whether these are `NAME=value` lines. What they say is not in the error.
fn check_variables(bytes: &[u8], what: &'static str) -> Result<(), CredentialsError> {
    let wrong = |line| CredentialsError::Variable { what, line };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        wrong(1 + before.iter().filter(|b| **b == b'\n').count())
    })?;
    let found = variables(text).map_err(wrong)?;
    for (_, value) in found {
        drop(Zeroizing::new(value));
    }
    Ok(())
}

/// Adds `lines` after a line that may lack its end.
fn append_lines(text: &mut Zeroizing<Vec<u8>>, lines: &[u8]) {
    let mut all = Zeroizing::new(Vec::with_capacity(text.len() + lines.len() + 1));
    all.extend_from_slice(text);
    if !all.is_empty() && !all.ends_with(b"\n") {
        all.push(b'\n');
    }
    all.extend_from_slice(lines);
    *text = all;
}

#[cfg(test)]
mod tests;
