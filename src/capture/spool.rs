//! What waits to be sent: host layers with their manifests, oldest first.
//!
//! A session is signed when it is sent, into the newest list that the server has, so that captures made while the server was
//! away need no order among themselves. A session that the server has already is only taken out of the spool.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use towline_contract::api::{EnrolmentState, HostState, NewSession};
use towline_contract::manifest::{Kind, Manifest};
use towline_contract::trust::metadata::{TargetFile, Targets};
use towline_contract::trust::{
    SigningKey, TargetName, TrustError, host_sessions, next_sessions, sign,
};

use super::client::{Client, ClientError};
use super::error::{CaptureError, file};
use super::home::{Home, HostConfig, make_private};

/// Most sessions that wait: the oldest go, as retention would let them go.
const WAITING_MAX: usize = 32;

/// Most refused sessions that are kept: somebody may see by them what is wrong.
const REFUSED_MAX: usize = 8;

/// How often a session is signed anew because another one came first.
const TRIES: u32 = 3;

/// A session that waits.
#[derive(Clone, Debug)]
struct Waiting {
    manifest_path: PathBuf,
    manifest_bytes: Vec<u8>,
    manifest: Manifest,
}

impl Waiting {
    fn layer_path(&self) -> PathBuf {
        let name = self.manifest_path.to_string_lossy();
        PathBuf::from(name.trim_end_matches(".manifest.json").to_owned() + ".layer")
    }

    fn remove(&self) -> Result<(), CaptureError> {
        // The layer first: without its manifest nobody would find it.
        for path in [self.layer_path(), self.manifest_path.clone()] {
            fs::remove_file(&path).map_err(file("remove", &path))?;
        }
        Ok(())
    }

    fn move_to(&self, folder: &Path) -> Result<(), CaptureError> {
        for path in [self.layer_path(), self.manifest_path.clone()] {
            let to = folder.join(path.file_name().unwrap_or_default());
            fs::rename(&path, &to).map_err(file("move", &path))?;
        }
        Ok(())
    }
}

/// Target names of what waits.
///
/// # Errors
/// The spool cannot be read.
pub(crate) fn waiting(home: &Home, host: &str) -> Result<Vec<String>, CaptureError> {
    Ok(list(&home.spool_path(), host)?
        .iter()
        .map(|it| it.manifest.target_name())
        .collect())
}

/// Lets the oldest go when too many wait; gives their names.
///
/// # Errors
/// A file cannot be removed.
pub(crate) fn limit(home: &Home, host: &str) -> Result<Vec<String>, CaptureError> {
    keep_newest(&home.spool_path(), host, WAITING_MAX)
}

/// Removes all but the newest sessions of a folder; gives the names of those that are gone.
fn keep_newest(folder: &Path, host: &str, most: usize) -> Result<Vec<String>, CaptureError> {
    let all = list(folder, host)?;
    let gone = &all[..all.len().saturating_sub(most)];
    gone.iter().try_for_each(Waiting::remove)?;
    Ok(gone.iter().map(|it| it.manifest.target_name()).collect())
}

/// Takes a session that the server refused out of what waits: it would be refused at every capture again.
fn put_aside(home: &Home, host: &str, session: &Waiting) -> Result<(), CaptureError> {
    let folder = home.refused_path();
    make_private(&folder).map_err(file("make", &folder))?;
    session.move_to(&folder)?;
    keep_newest(&folder, host, REFUSED_MAX).map(drop)
}

/// Sends all that waits, oldest first; gives the names of what the server has now. A session that the server refuses
/// is put aside, and holds up no other one.
///
/// # Errors
/// The first session that could not be sent.
pub(crate) fn send(
    home: &Home,
    config: &HostConfig,
    client: &Client,
    sent: &mut Vec<String>,
) -> Result<(), CaptureError> {
    let key = home.key()?;
    let mut refused = None;
    for session in list(&home.spool_path(), &config.id)? {
        match send_with_patience(config, client, &key, &session) {
            Ok(()) => {
                session.remove()?;
                sent.push(session.manifest.target_name());
            }
            Err(error) if is_about_the_session(&error) => {
                put_aside(home, &config.id, &session)?;
                refused = refused.or(Some(error));
            }
            Err(error) => return Err(refused.unwrap_or(error)),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// Whether another session could be taken all the same.
fn is_about_the_session(error: &CaptureError) -> bool {
    let about = |status: &u16| [400, 413].contains(status);
    matches!(error, CaptureError::Client(ClientError::Refused { status, .. }) if about(status))
}

/// Signs anew when another session came first.
fn send_with_patience(
    config: &HostConfig,
    client: &Client,
    key: &SigningKey,
    session: &Waiting,
) -> Result<(), CaptureError> {
    let mut tries = 1;
    loop {
        match send_one(config, client, key, session) {
            Err(CaptureError::Client(ClientError::Refused { status: 409, .. }))
                if tries < TRIES =>
            {
                tries += 1;
            }
            other => break other,
        }
    }
}

fn send_one(
    config: &HostConfig,
    client: &Client,
    key: &SigningKey,
    session: &Waiting,
) -> Result<(), CaptureError> {
    let state = approved(client, &config.id, key)?;
    let previous = match &state.sessions {
        None => None,
        Some(text) => Some(previous(text, &config.id, key, &state).map_err(|cause| {
            CaptureError::Sessions {
                server: client.server().to_owned(),
                cause: Box::new(cause),
            }
        })?),
    };
    let name = session.manifest.target_name();
    let ours = TargetFile::of_layer(&session.manifest, &session.manifest_bytes);
    if previous
        .as_ref()
        .is_some_and(|it| it.targets.get(&name) == Some(&ours))
    {
        return Ok(());
    }
    let next = with(previous, &state.retired, name, ours);
    let signed = sign(&next, &[key]).map_err(|cause| CaptureError::Sessions {
        server: client.server().to_owned(),
        cause: Box::new(cause),
    })?;
    let layer_path = session.layer_path();
    let layer = fs::read(&layer_path).map_err(file("read", &layer_path))?;
    let body = NewSession {
        sessions: String::from_utf8_lossy(&signed).into_owned(),
        manifest: String::from_utf8_lossy(&session.manifest_bytes).into_owned(),
        layer: BASE64.encode(&layer),
    };
    Ok(client.add(&config.id, &body)?)
}

/// The list to go on from: the host's own; or, after a new key was approved, the one that the key before it signed, which the
/// server names: whoever could lie about it names this host's key to the machines anyway.
fn previous(
    text: &str,
    host: &str,
    key: &SigningKey,
    state: &HostState,
) -> Result<Targets, TrustError> {
    let own = host_sessions(text.as_bytes(), host, &key.public());
    match &state.predecessor {
        Some(before) if own.is_err() => host_sessions(text.as_bytes(), host, before),
        _ => own,
    }
}

/// The next list: without those that retention let go, with the new one.
fn with(previous: Option<Targets>, retired: &[String], name: String, file: TargetFile) -> Targets {
    let mut next = next_sessions(previous);
    next.targets.retain(|name, _| {
        let version = name.parse::<TargetName>().map(|it| it.version);
        !version.is_ok_and(|it| retired.contains(&it))
    });
    next.targets.insert(name, file);
    next
}

/// The state of the host at the server, if an operator has approved this key.
///
/// # Errors
/// The server does not know the host, knows another key, or waits for an operator.
pub(crate) fn approved(
    client: &Client,
    host: &str,
    key: &SigningKey,
) -> Result<HostState, CaptureError> {
    let ours = key.public().id();
    let Some(state) = client.state(host)? else {
        return Err(CaptureError::Unknown {
            server: client.server().to_owned(),
            host: host.to_owned(),
        });
    };
    if state.key != ours {
        return Err(CaptureError::OtherKey {
            server: client.server().to_owned(),
            host: host.to_owned(),
            theirs: state.key.fingerprint(),
            ours: ours.fingerprint(),
        });
    }
    match state.state {
        EnrolmentState::Approved => Ok(state),
        EnrolmentState::Waiting => Err(CaptureError::Waiting {
            host: host.to_owned(),
            fingerprint: ours.fingerprint(),
        }),
    }
}

/// The host's sessions in a folder, oldest first. Others' and broken ones are left where they are.
fn list(folder: &Path, host: &str) -> Result<Vec<Waiting>, CaptureError> {
    let mut found = Vec::new();
    for path in manifests(folder)? {
        let manifest_bytes = fs::read(&path).map_err(file("read", &path))?;
        let Ok(manifest) = Manifest::parse(&manifest_bytes) else {
            continue;
        };
        if manifest.kind == Kind::Host && manifest.name == host {
            found.push(Waiting {
                manifest_path: path,
                manifest_bytes,
                manifest,
            });
        }
    }
    found.retain(|it| it.layer_path().exists());
    found.sort_by(|a, b| a.manifest.version.cmp(&b.manifest.version));
    Ok(found)
}

fn manifests(folder: &Path) -> Result<Vec<PathBuf>, CaptureError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(file("read", folder)(cause)),
    };
    let paths = entries.flatten().map(|it| it.path());
    Ok(paths
        .filter(|it| it.to_string_lossy().ends_with(".manifest.json"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn target() -> TargetFile {
        serde_json::from_value(serde_json::json!({"length": 1, "hashes": {}})).unwrap()
    }

    #[test]
    fn the_next_list_leaves_out_what_retention_let_go_and_counts_on() {
        let mut previous = next_sessions(None);
        previous.targets = BTreeMap::from([
            ("host/web1/20260101t000000z/all".to_owned(), target()),
            ("host/web1/20260201t000000z/all".to_owned(), target()),
        ]);
        let new = "host/web1/20260301t000000z/all".to_owned();
        let retired = ["20260101t000000z".to_owned()];
        let next = with(Some(previous), &retired, new, target());
        let names: Vec<_> = next.targets.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "host/web1/20260201t000000z/all",
                "host/web1/20260301t000000z/all"
            ]
        );
        assert_eq!(next.header.version, 2);
    }
}
