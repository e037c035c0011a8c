//! Hosts that sign for themselves: each enrolled host has a delegated role of its own, which names its sessions.
//!
//! The role of host `ID` is `host-ID`, its file `N.host-ID.json` is a TUF targets document, and it may name targets
//! `host/ID/VERSION/ARCHITECTURE` and nothing else. It does not expire: whoever signs it may be dead when it is needed.

use std::collections::{BTreeMap, BTreeSet};

use super::envelope::{Envelope, Signers};
use super::error::TrustError;
use super::file::{file_ref, max_bytes};
use super::keys::PublicKey;
use super::metadata::{FileRef, TargetFile, Targets};
use super::roles::{HOSTS_ROLE, check_delegation};
use super::search::{delegated_targets, signed_targets};
use super::signers::one_role;
use super::target::{TargetName, is_part};
use super::view::{SignedView, require_version};
use crate::Timestamp;
use crate::limits::METADATA_BYTES_MAX;
use crate::manifest::Kind;

/// Whether `id` can name a host: small letters, digits and `- . +`, as the name of its layers.
#[must_use]
pub fn is_host_id(id: &str) -> bool {
    let small = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.+".contains(&b);
    is_part(id) && id.bytes().all(small)
}

/// Name of the delegated role of a host.
#[must_use]
pub fn host_role(host: &str) -> String {
    format!("host-{host}")
}

/// The targets that a host may sign: the one pattern of its delegation.
#[must_use]
pub fn host_paths(host: &str) -> String {
    format!("host/{host}/*/*")
}

/// The document that follows `previous`: the same sessions, to be edited and signed by the host. Its date is the last that
/// there is.
#[must_use]
pub fn next_sessions(previous: Option<Targets>) -> Targets {
    let mut next = previous.unwrap_or_else(|| Targets::new(0, Timestamp::MAX));
    next.header.version = next.header.version.saturating_add(1);
    next
}

/// The sessions in a file of this host's role, signed by this key, whatever snapshot it belongs to: for the host, which
/// adds one, and for the server, which takes it.
///
/// # Errors
/// Not signed by the key, malformed, or naming something that is not this host's.
pub fn host_sessions(bytes: &[u8], host: &str, key: &PublicKey) -> Result<Targets, TrustError> {
    let what = format!("{}.json", host_role(host));
    let id = key.id();
    let signers = Signers {
        keys: vec![(&id, key)],
        threshold: 1,
    };
    let envelope = Envelope::parse(bytes, &what, METADATA_BYTES_MAX)?;
    let sessions = signed_targets(envelope, &what, &signers)?;
    check_sessions(&sessions, host, &what)?;
    Ok(sessions)
}

/// The one session that `next` adds to `current`: the version counts on by one, and the earlier sessions are as they were,
/// but for those of the versions in `retired`, which may be gone.
///
/// # Errors
/// A replay, a gap, or a document that changes or drops an earlier session, or adds none or several.
pub fn added_session(
    current: Option<&Targets>,
    next: &Targets,
    host: &str,
    retired: &[String],
) -> Result<(TargetName, TargetFile), TrustError> {
    let what = format!("{}.json", host_role(host));
    let none = BTreeMap::new();
    let (version, before) = current.map_or((0, &none), |it| (it.header.version, &it.targets));
    require_version(&what, next.header.version, version.saturating_add(1))?;
    let malformed = |why| TrustError::Malformed {
        what: what.clone(),
        why,
    };
    for (name, file) in before {
        match next.targets.get(name) {
            Some(same) if same == file => {}
            Some(_) => return Err(malformed(format!("it changes {name}"))),
            None if version_of(name).is_some_and(|it| retired.contains(&it)) => {}
            None => return Err(malformed(format!("it drops {name}, which is kept"))),
        }
    }
    let mut added = next
        .targets
        .iter()
        .filter(|(it, _)| !before.contains_key(*it));
    let (Some((name, file)), None) = (added.next(), added.next()) else {
        return Err(malformed("it must add one session".into()));
    };
    let parsed: TargetName = name.parse().map_err(malformed)?;
    if before
        .keys()
        .any(|it| version_of(it).as_ref() == Some(&parsed.version))
    {
        let version = &parsed.version;
        return Err(malformed(format!("there is a session {version} already")));
    }
    Ok((parsed, file.clone()))
}

fn version_of(name: &str) -> Option<String> {
    name.parse().ok().map(|it: TargetName| it.version)
}

impl SignedView {
    /// The key of this host, when the targets role, or `hosts`, delegates the host's own sessions to it.
    #[must_use]
    pub fn host_key(&self, host: &str) -> Option<&PublicKey> {
        Some(self.host_keys(host)?.0)
    }

    /// The key of this host, and the one before it: until the host has signed its list anew, machines take either.
    #[must_use]
    pub fn host_keys(&self, host: &str) -> Option<(&PublicKey, Option<&PublicKey>)> {
        let role = host_role(host);
        let delegations = self.host_delegations(&role)?;
        check_delegation(Some(delegations), &role, &[host_paths(host)]).ok()?;
        let signers = one_role(Some(delegations), &role).ok()?;
        let own = delegations.roles.iter().find(|it| it.name == role)?;
        let keys = own.role.keyids.iter().map(|id| delegations.keys.get(id));
        let keys: Vec<_> = keys.collect::<Option<_>>()?;
        match (signers.threshold, keys.as_slice()) {
            (1, [key]) => Some((key, None)),
            (1, [key, before]) => Some((key, Some(before))),
            _ => None,
        }
    }

    /// The hosts that the targets role and `hosts` delegate to.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let own = self.targets.delegations.iter();
        let registered = self.role(HOSTS_ROLE).and_then(|it| it.delegations.as_ref());
        let roles = own.chain(registered).flat_map(|it| &it.roles);
        let hosts: BTreeSet<_> = roles
            .filter_map(|it| it.name.strip_prefix("host-"))
            .collect();
        hosts.into_iter()
    }

    /// What the snapshot says of other files, by name: for those who make the next snapshot.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<String, FileRef> {
        &self.snapshot.meta
    }

    /// The file with the sessions that this host signed, and the most bytes to read of it; none when the host is not
    /// enrolled or has no sessions yet.
    #[must_use]
    pub fn host_file(&self, host: &str) -> Option<(String, u64)> {
        let role = host_role(host);
        self.host_delegations(&role)?;
        let file = self.snapshot.meta.get(&format!("{role}.json"))?;
        Some((format!("{}.{role}.json", file.version), max_bytes(file)))
    }

    /// The view with this host's sessions, from its file. The targets role itself goes before a host's.
    ///
    /// # Errors
    /// Not the file that the snapshot names, not signed by the host's key, malformed, or naming something that is not this
    /// host's.
    pub fn with_host(mut self, host: &str, bytes: &[u8]) -> Result<Self, TrustError> {
        for (name, file) in self.signed_by(host, bytes)?.targets {
            self.layers.entry(name).or_insert(file);
        }
        Ok(self)
    }

    /// Whether this is the host's file, without taking it: a catalogue of thousands of hosts is not copied for each.
    ///
    /// # Errors
    /// As [`Self::with_host`].
    pub fn check_host(&self, host: &str, bytes: &[u8]) -> Result<(), TrustError> {
        self.signed_by(host, bytes).map(drop)
    }

    fn signed_by(&self, host: &str, bytes: &[u8]) -> Result<Targets, TrustError> {
        let role = host_role(host);
        let reference = file_ref(&self.snapshot.meta, &format!("{role}.json"), "the snapshot")?;
        let what = format!("{}.{role}.json", reference.version);
        let delegations = self.host_delegations(&role);
        check_delegation(delegations, &role, &[host_paths(host)])?;
        let signers = one_role(delegations, &role)?;
        let sessions = delegated_targets(bytes, &what, reference, &signers)?;
        check_sessions(&sessions, host, &what)?;
        Ok(sessions)
    }
}

/// A host's document keeps to the host's own layers.
fn check_sessions(sessions: &Targets, host: &str, what: &str) -> Result<(), TrustError> {
    let malformed = |why| TrustError::Malformed {
        what: what.into(),
        why,
    };
    if sessions.delegations.is_some() {
        return Err(malformed("a host delegates nothing".into()));
    }
    match sessions.targets.iter().find(|row| !is_session(host, *row)) {
        None => Ok(()),
        Some((name, _)) => Err(malformed(format!(
            "it signs {name:?}, and host {host} may sign host layers of its own only"
        ))),
    }
}

fn is_session(host: &str, (name, file): (&String, &TargetFile)) -> bool {
    let own = |name: TargetName| name.kind == Kind::Host && name.name == host;
    name.parse().is_ok_and(own) && file.layer().is_some_and(|it| it.kind == Kind::Host)
}
