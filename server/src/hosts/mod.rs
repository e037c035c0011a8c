//! Protected hosts: who they are, what they may add, which of their sessions are let go.
//!
//! A host is *approved* when the signed catalogue names its key; that alone decides. What waits for an operator is in the
//! site's `state/hosts` ([`registry`]), what is kept whatever the rules say in `state/sessions` ([`kept`]). [`retention`] is a
//! pure function, [`take`] is the one way of a session into the store.

pub mod daily;
pub mod kept;
pub mod registry;
pub mod retention;
pub mod revoked;
pub mod take;

use std::net::IpAddr;

use towline_contract::Timestamp;
use towline_contract::api::{EnrolmentState, HostState};
use towline_contract::trust::{KeyId, PublicKey, SignedView, TrustError};

use crate::catalogue::{self, CatalogueError, Published, Succession};
use crate::intake::IntakeError;
use crate::private::PrivateError;
use crate::site::Site;
use registry::{Record, Registry};
use revoked::Revoked;

/// Why a host is not told, known or believed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Nobody of that name was ever here.
    #[error("no host called {0:?} is known here")]
    Unknown(String),
    /// An operator has not approved it.
    #[error("host {host} with the fingerprint {} waits for an operator of this site", key.fingerprint())]
    Waiting {
        /// The host.
        host: String,
        /// Identifier of its key.
        key: KeyId,
    },
    /// The name is another key's.
    #[error(
        "host {host} is known here with the fingerprint {}, and this one has {}",
        known.fingerprint(), found.fingerprint()
    )]
    OtherKey {
        /// The host.
        host: String,
        /// Identifier of the key that is known.
        known: KeyId,
        /// Identifier of the one that asks.
        found: KeyId,
    },
    /// An operator has revoked its key.
    #[error("the key of host {host} was revoked at {time}")]
    Revoked {
        /// The host.
        host: String,
        /// When.
        time: Timestamp,
    },
    /// The catalogue names its key.
    #[error("host {0} is approved: the catalogue names its key")]
    Approved(String),
    /// Nothing that can be enrolled.
    #[error("this cannot be enrolled: {0}")]
    NotAHost(&'static str),
    /// Too many wait.
    #[error(
        "{} hosts wait for an operator of this site, which is the most",
        registry::WAITING_MAX
    )]
    Full,
    /// Too many sessions in one day.
    #[error(
        "host {host} has sent {} sessions today, which is the most",
        daily::SESSIONS_MAX
    )]
    TooMany {
        /// The host.
        host: String,
    },
    /// The list is not the host's.
    #[error("the list of sessions is not taken")]
    NotTrusted(#[source] TrustError),
    /// The list does not follow the one that is here.
    #[error("the list of sessions does not follow the one that is here")]
    NotNext(#[source] TrustError),
    /// The session or its manifest makes no sense.
    #[error("the session is not taken: {0}")]
    Session(String),
    /// The layer is not what was signed, or breaks a rule of host layers.
    #[error("the layer is not taken")]
    Layer(#[source] IntakeError),
    /// A file of the site.
    #[error(transparent)]
    File(#[from] PrivateError),
    /// See the cause.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

/// What an operator sees of one host.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name in the catalogue.
    pub host: String,
    /// Identifier of its key.
    pub key: KeyId,
    /// Whether the catalogue names the key.
    pub state: EnrolmentState,
    /// Its enrolment, if it is still here: when, from where, which machine.
    pub record: Option<Record>,
    /// When its key was revoked, if it was and no other has taken its place.
    pub revoked: Option<Timestamp>,
    /// Its own sessions.
    pub sessions: Vec<Published>,
}

/// All hosts that wait or are approved, by name.
///
/// # Errors
/// The catalogue or the state cannot be read.
pub fn list(site: &Site) -> Result<Vec<Known>, HostError> {
    let view = catalogue::view(&site.store)?;
    let registry = Registry::of(site);
    let mut names: Vec<_> = view.hosts().map(str::to_owned).collect();
    names.extend(registry.names()?);
    names.sort();
    names.dedup();
    let known = names.iter().map(|host| known(site, &view, host));
    known.collect()
}

/// One host.
///
/// # Errors
/// It is unknown, or the catalogue or the state cannot be read.
pub fn show(site: &Site, host: &str) -> Result<Known, HostError> {
    known(site, &catalogue::view(&site.store)?, host)
}

fn known(site: &Site, view: &SignedView, host: &str) -> Result<Known, HostError> {
    let record = Registry::of(site).read(host)?;
    let revoked = revoked::read(site, host)?;
    let (key, state) = match (view.host_key(host), &record, &revoked) {
        (_, Some(record), Some(_)) => (record.enrolment.key.id(), EnrolmentState::Waiting),
        (_, None, Some(revoked)) => (revoked.key.clone(), EnrolmentState::Approved),
        (Some(key), _, None) => (key.id(), EnrolmentState::Approved),
        (None, Some(record), None) => (record.enrolment.key.id(), EnrolmentState::Waiting),
        (None, None, None) => return Err(HostError::Unknown(host.into())),
    };
    Ok(Known {
        host: host.into(),
        key,
        state,
        record,
        revoked: revoked.map(|it| it.time),
        sessions: catalogue::host_layers(&site.store, view, host)?,
    })
}

/// What a host is told before it adds a session.
///
/// # Errors
/// See [`HostError`].
pub fn state(site: &Site, view: &SignedView, host: &str) -> Result<HostState, HostError> {
    let Known {
        key,
        state,
        record,
        revoked,
        sessions,
        ..
    } = known(site, view, host)?;
    if let (Some(time), None) = (revoked, record) {
        let host = host.into();
        return Err(HostError::Revoked { host, time });
    }
    let file = catalogue::host_file(&site.store, view, host)?;
    Ok(HostState {
        key,
        state,
        predecessor: file.as_ref().and_then(|it| it.predecessor.clone()),
        sessions: file.map(|it| String::from_utf8_lossy(&it.bytes).into_owned()),
        retired: retired(site, host, &sessions)?,
    })
}

/// What becomes of the sessions of a host whose key is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// They can be recovered, and none is added.
    Keep,
    /// They are gone from the catalogue.
    Drop,
}

/// Revokes the key of a host. With [`Sessions::Keep`], the host may enrol again with another key, which follows this one; with
/// [`Sessions::Drop`] the name is free.
///
/// # Errors
/// It has no approved key, or the catalogue cannot be changed.
pub fn revoke(
    site: &Site,
    host: &str,
    sessions: Sessions,
    now: Timestamp,
) -> Result<(), HostError> {
    let view = catalogue::view(&site.store)?;
    let before = revoked::read(site, host)?;
    match (view.host_key(host), before) {
        (None, None) => return Err(HostError::Unknown(host.into())),
        (_, Some(_)) => {}
        // First of all: no session is taken from now on, whatever interrupts this.
        (Some(key), None) => {
            let (time, key) = (now, key.id());
            revoked::write(site, host, &Revoked { time, key })?;
        }
    }
    Registry::of(site).forget(host)?;
    match sessions {
        Sessions::Keep => catalogue::freeze(site, host, now)?,
        Sessions::Drop => {
            catalogue::remove(site, host, now)?;
            revoked::forget(site, host)?;
        }
    }
    Ok(())
}

/// Forgets a host that waits for its answer; its name.
///
/// # Errors
/// The catalogue names its key, nobody of this name is known, or the enrolment cannot be removed.
pub fn forget(site: &Site, host: &str) -> Result<String, HostError> {
    // Nobody approves it meanwhile.
    let _lock = site.store.lock().map_err(CatalogueError::from)?;
    let known = show(site, host)?;
    if known.state == EnrolmentState::Approved {
        return Err(HostError::Approved(known.host));
    }
    Registry::of(site).forget(&known.host)?;
    Ok(known.host)
}

/// Approves the key that waits for this name; it follows one that was revoked.
///
/// # Errors
/// Another key is approved, or the catalogue cannot be changed.
pub fn approve(
    site: &Site,
    host: &str,
    key: &PublicKey,
    now: Timestamp,
) -> Result<bool, HostError> {
    let succession = match revoked::read(site, host)? {
        Some(revoked) if revoked.key == key.id() => {
            let (host, time) = (host.into(), revoked.time);
            return Err(HostError::Revoked { host, time });
        }
        Some(_) => Succession::Yes,
        None => Succession::No,
    };
    let is_new = catalogue::approve(site, host, key, succession, now)?;
    if succession == Succession::Yes {
        revoked::forget(site, host)?;
    }
    Ok(is_new)
}

/// Takes the key that a recovered host has made because its own did not come back: whoever opened its recovery approved it. A
/// host that never had a key enrols like any other. The caller has the store's lock.
///
/// # Errors
/// It is no key, or the catalogue cannot be changed.
pub fn succeed(site: &Site, host: &str, key: &PublicKey, now: Timestamp) -> Result<(), HostError> {
    registry::check_key(key)?;
    if catalogue::view(&site.store)?.host_key(host).is_none() {
        return Ok(());
    }
    catalogue::approve_locked(site, host, key, Succession::Yes, now)?;
    if revoked::read(site, host)?.is_some() {
        revoked::forget(site, host)?;
    }
    Ok(())
}

/// Whether the catalogue names another key for the host than this one.
///
/// # Errors
/// The catalogue cannot be read.
pub fn has_other_key(site: &Site, host: &str, key: &PublicKey) -> Result<bool, HostError> {
    let view = catalogue::view(&site.store)?;
    Ok(view.host_key(host).is_some_and(|known| known != key))
}

/// Versions of the host's sessions that the rules let go now.
///
/// # Errors
/// The list of those that are kept by hand cannot be read.
pub fn retired(site: &Site, host: &str, own: &[Published]) -> Result<Vec<String>, HostError> {
    let kept = kept::read(site, host)?;
    let point = |layer: &Published| retention::Point {
        version: layer.target.version.clone(),
        time: crate::sessions::time(layer),
    };
    let points: Vec<_> = own.iter().map(point).collect();
    Ok(retention::retired(&points, &kept, &site.config.retention))
}

/// Where an enrolment came from.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The server's time.
    pub now: Timestamp,
    /// Who asks.
    pub peer: IpAddr,
}
