//! Taking a session: the host's next signed list, the manifest of the one session it adds, and that session's layer.
//!
//! Everything is verified before anything is stored, and nothing has changed for machines before the last step. The same
//! request again is answered as the first time.

use std::fs;
use std::path::Path;

use data_encoding::BASE64;
use jiff::SignedDuration;
use towline_contract::Timestamp;
use towline_contract::api::NewSession;
use towline_contract::lanes::LayerPolicy;
use towline_contract::manifest::Manifest;
use towline_contract::session::Session;
use towline_contract::trust::metadata::TargetFile;
use towline_contract::trust::{PublicKey, SignedView, TargetName, added_session, host_sessions};
use towline_initramfs::stored::StoredError;

use super::daily::Daily;
use super::registry::Registry;
use super::{HostError, retired, revoked};
use crate::catalogue::{self, CatalogueError, HostFile, NewLayer, Published};
use crate::intake::{self, IntakeError};
use crate::private;
use crate::sessions::CLOCK_MINUTES;
use crate::site::Site;

/// Most bytes that a host's layer unpacks to, 256 MiB. One with a ReaR of its own has 3 MB; a bomb in 4 MiB could have 16 GiB.
pub const HOST_UNPACKED_BYTES_MAX: u64 = 256 << 20;

/// Prefix of the folder in which a session is looked at.
const LOOKING: &str = "looking-";

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This session is new.
    Added(String),
    /// It was taken before, by the very same request.
    Already,
}

/// Takes a session of a host.
///
/// # Errors
/// See [`HostError`]; then nothing has changed.
pub fn take(
    site: &Site,
    daily: &Daily,
    host: &str,
    sent: &NewSession,
    now: Timestamp,
) -> Result<Taken, HostError> {
    let _lock = site.store.lock().map_err(CatalogueError::from)?;
    let view = catalogue::view(&site.store)?;
    let key = approved(site, &view, host)?;
    let current = catalogue::host_file(&site.store, &view, host)?;
    let bytes = sent.sessions.as_bytes();
    if current.as_ref().is_some_and(|it| it.bytes == bytes) {
        return Ok(Taken::Already);
    }
    let sessions = host_sessions(bytes, host, key).map_err(HostError::NotTrusted)?;
    let own = catalogue::host_layers(&site.store, &view, host)?;
    let gone = retired(site, host, &own)?;
    let before = current.as_ref().map(|it| &it.sessions);
    let (name, file) = added_session(before, &sessions, host, &gone).map_err(HostError::NotNext)?;
    if view.layers().contains_key(&name.to_string()) {
        let what = format!("the operators of this site have signed a {name} of their own");
        return Err(HostError::Session(what));
    }
    if !daily.has_room(host, now) {
        return Err(HostError::TooMany { host: host.into() });
    }
    let manifest = manifest(sent)?;
    check(&manifest, sent, &name, &file)?;
    check_times(&manifest, &own, site.config.sessions.capture_lag_hours, now)?;
    let folder = folder(site)?;
    let policy = view.layer_policy().map_err(CatalogueError::from)?;
    let layer = look(folder.path(), sent, &policy)?;
    let next = HostFile {
        bytes: bytes.to_vec(),
        sessions,
        predecessor: None,
    };
    catalogue::add_session(site, &view, host, &next, &layer, now)?;
    daily.count(host, now);
    Ok(Taken::Added(name.to_string()))
}

/// The key of the host, if an operator has approved it.
///
/// # Errors
/// It is unknown, or waits.
pub fn approved<'a>(
    site: &Site,
    view: &'a SignedView,
    host: &str,
) -> Result<&'a PublicKey, HostError> {
    if let Some(revoked) = revoked::read(site, host)? {
        return Err(HostError::Revoked {
            host: host.into(),
            time: revoked.time,
        });
    }
    if let Some(key) = view.host_key(host) {
        return Ok(key);
    }
    Err(match Registry::of(site).read(host)? {
        Some(record) => HostError::Waiting {
            host: host.into(),
            key: record.enrolment.key.id(),
        },
        None => HostError::Unknown(host.into()),
    })
}

/// Removes what a server that was killed has left while it looked at sessions.
pub fn clean(site: &Site) {
    for entry in fs::read_dir(site.state()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(LOOKING) {
            // What cannot be removed is kilobytes, and is tried again at the next start.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn manifest(sent: &NewSession) -> Result<Manifest, HostError> {
    Manifest::parse(sent.manifest.as_bytes()).map_err(|cause| {
        HostError::Layer(IntakeError::Manifest {
            path: "session.manifest.json".into(),
            cause,
        })
    })
}

/// Whether the manifest is that of the signed session, and says of it what a recovery needs.
fn check(
    manifest: &Manifest,
    sent: &NewSession,
    name: &TargetName,
    file: &TargetFile,
) -> Result<(), HostError> {
    let wrong = |what| Err(HostError::Session(what));
    let found = manifest.target_name();
    if found != name.to_string() {
        return wrong(format!("{name} is signed, and the manifest is of {found}"));
    }
    if TargetFile::of_layer(manifest, sent.manifest.as_bytes()) != *file {
        return wrong(format!(
            "the manifest is not the one that is signed for {name}"
        ));
    }
    if manifest.unpacked_bytes > HOST_UNPACKED_BYTES_MAX {
        return wrong(format!(
            "it unpacks to {} bytes, and a host's layer may have {HOST_UNPACKED_BYTES_MAX}",
            manifest.unpacked_bytes
        ));
    }
    Ok(())
}

/// Whether the session can be of these times. Whoever has the host's key must not push its older sessions out by new ones
/// of their days: captures come in order, each near its session.
fn check_times(
    manifest: &Manifest,
    own: &[Published],
    lag_hours: u32,
    now: Timestamp,
) -> Result<(), HostError> {
    let wrong = |what| Err(HostError::Session(what));
    let Some(Session { time, captured, .. }) = &manifest.session else {
        return wrong("its manifest does not say which backup it belongs to".into());
    };
    let tolerance = SignedDuration::from_mins(CLOCK_MINUTES);
    if captured.duration_since(now) > tolerance {
        return wrong(format!(
            "it was captured at {captured}, and here it is {now}: one of the clocks is wrong"
        ));
    }
    if time.duration_since(*captured) > tolerance {
        return wrong(format!(
            "its layout was captured at {captured}, before the session's time {time}"
        ));
    }
    if captured.duration_since(*time) > SignedDuration::from_hours(lag_hours.into()) {
        return wrong(format!(
            "its layout was captured at {captured}, more than {lag_hours} hours after the session's time {time}"
        ));
    }
    let newest = own
        .iter()
        .filter_map(|it| Some(it.manifest.session.as_ref()?.captured));
    match newest.max() {
        Some(newest) if newest > *captured => wrong(format!(
            "it was captured at {captured}, before the newest that is here ({newest})"
        )),
        _ => Ok(()),
    }
}

/// A folder that is removed when dropped; what is in it is not believed yet.
fn folder(site: &Site) -> Result<tempfile::TempDir, HostError> {
    let state = site.state();
    let made = tempfile::Builder::new().prefix(LOOKING).tempdir_in(&state);
    Ok(made.map_err(private::failed("make a folder in", &state))?)
}

/// Verifies the layer from the first byte to the last, by what `publish` does.
fn look(folder: &Path, sent: &NewSession, policy: &LayerPolicy) -> Result<NewLayer, HostError> {
    let Ok(bytes) = BASE64.decode(sent.layer.as_bytes()) else {
        return Err(HostError::Session("the layer is not in base64".into()));
    };
    let path = folder.join("session.layer");
    fs::write(&path, bytes).map_err(private::failed("write", &path))?;
    let beside = folder.join("session.manifest.json");
    fs::write(&beside, &sent.manifest).map_err(private::failed("write", &beside))?;
    intake::take(&path, policy).map_err(|error| HostError::Layer(without_folder(error)))
}

/// Where the server looked at the layer says nothing to the host.
fn without_folder(mut error: IntakeError) -> IntakeError {
    use StoredError as S;
    if let IntakeError::Layer(
        S::Size { path, .. }
        | S::Digest { path, .. }
        | S::Newc { path, .. }
        | S::GzipHeader { path }
        | S::AfterFrame { path },
    ) = &mut error
    {
        *path = "the layer".into();
    }
    error
}

#[cfg(test)]
mod tests;
