//! The search for one target through delegations: depth first, in the order of precedence that each role states.
//!
//! The caller fetches; [`Search`] says which file, how much of it, and when the answer is known. A role is verified by the
//! keys of the very delegation that led to it, each time, so that what it may sign by way of one role is not believed by way
//! of another.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::envelope::{Envelope, Signers};
use super::error::TrustError;
use super::file::{check_file, file_ref, max_bytes};
use super::keys::{KeyId, PublicKey};
use super::metadata::{
    DelegatedRole, Delegations, FileRef, RoleName, Snapshot, TargetFile, Targets,
};
use super::signers::signers;
use super::verified::Verified;
use super::view::{SignedView, check_header, require_version};
use crate::Timestamp as Time;
use crate::limits::DELEGATED_ROLES_MAX;

/// A search that is under way.
#[derive(Debug)]
pub struct Search<'a> {
    snapshot: &'a Snapshot,
    target: String,
    found: Option<Verified<TargetFile>>,
    /// Roles to look into; the next one is the last.
    pending: Vec<Pending>,
    /// Roles that were looked into, by name.
    visited: BTreeSet<String>,
}

/// A role to look into, with the keys of the document that delegates to it.
#[derive(Clone, Debug)]
struct Pending {
    delegated: DelegatedRole,
    keys: Rc<BTreeMap<KeyId, PublicKey>>,
}

/// What a search needs, or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The target as it is signed.
    Found(Verified<TargetFile>),
    /// No role that may sign the target does.
    Absent,
    /// Another file must be fetched, and given to [`Search::take`].
    Fetch(DelegatedFile),
}

/// The file of a delegated role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegatedFile {
    /// The role's name, made safe to be a file's name and a part of a URL.
    pub role: String,
    /// The version that the snapshot names.
    pub version: u64,
    /// Most bytes to read of it.
    pub max_bytes: u64,
}

impl DelegatedFile {
    /// Name of the file to fetch, `N.ROLE.json`.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}.{}.json", self.version, self.role)
    }
}

impl SignedView {
    /// Begins the search for the target of this name, in the targets role itself.
    #[must_use]
    pub fn search(&self, target: &str) -> Search<'_> {
        let mut search = Search {
            snapshot: &self.snapshot,
            target: target.into(),
            found: None,
            pending: Vec::new(),
            visited: BTreeSet::new(),
        };
        search.look(self.targets.clone());
        search
    }
}

impl Search<'_> {
    /// What is needed next, or the answer.
    ///
    /// # Errors
    /// A role that the snapshot does not name, or that may not be delegated to, or more roles than a search looks into.
    pub fn step(&mut self) -> Result<Step, TrustError> {
        if let Some(found) = &self.found {
            return Ok(Step::Found(found.clone()));
        }
        let Some(next) = self.next()? else {
            return Ok(Step::Absent);
        };
        let role = next.delegated.name;
        let file = reference(self.snapshot, &role)?;
        Ok(Step::Fetch(DelegatedFile {
            role: file_name(&role),
            version: file.version,
            max_bytes: max_bytes(file),
        }))
    }

    /// Takes the file that [`Self::step`] asked for. It must not be past its date at `now`, if there is one. When it is
    /// refused the search stands where it was: another copy may be given.
    ///
    /// # Errors
    /// Not the file that the snapshot names, not signed by the keys of the delegation, expired or malformed.
    pub fn take(&mut self, bytes: &[u8], now: Option<Time>) -> Result<(), TrustError> {
        let next = self.next()?.ok_or_else(|| TrustError::Malformed {
            what: "a delegated file".into(),
            why: "the search asks for none".into(),
        })?;
        let DelegatedRole { name, role, .. } = next.delegated;
        let file = reference(self.snapshot, &name)?;
        let what = format!("{}.{}.json", file.version, file_name(&name));
        let signers = signers(&role, &next.keys, &name, &what)?;
        let targets = delegated_targets(bytes, &what, file, &signers)?;
        if let Some(now) = now {
            targets.header.require_date(&name, now)?;
        }
        self.visited.insert(name);
        self.look(targets);
        Ok(())
    }

    /// The role to look into now; the roles before it that were looked into already are dropped. None when the answer is
    /// known.
    fn next(&mut self) -> Result<Option<Pending>, TrustError> {
        if self.found.is_some() {
            return Ok(None);
        }
        let visited = &self.visited;
        while self
            .pending
            .pop_if(|it| visited.contains(&it.delegated.name))
            .is_some()
        {}
        if self.visited.len() == DELEGATED_ROLES_MAX && !self.pending.is_empty() {
            return Err(TrustError::TooManyRoles {
                target: self.target.escape_debug().to_string(),
                max: DELEGATED_ROLES_MAX,
            });
        }
        Ok(self.pending.last().cloned())
    }

    /// Looks for the target in these targets, and for the roles they name for it.
    fn look(&mut self, mut targets: Targets) {
        self.found = targets.targets.remove(&self.target).map(Verified::new);
        let Delegations { keys, mut roles } = targets.delegations.unwrap_or_default();
        roles.retain(|it| it.is_for(&self.target));
        // Whatever is left elsewhere, the search ends in the first such role.
        if let Some(last) = roles.iter().position(|it| it.terminating) {
            roles.truncate(last + 1);
            self.pending.clear();
        }
        let keys = Rc::new(keys);
        let next = roles.into_iter().rev().map(|delegated| Pending {
            delegated,
            keys: Rc::clone(&keys),
        });
        self.pending.extend(next);
    }
}

/// Targets of a delegated role: the file that `file` describes, signed by `signers`.
pub(super) fn delegated_targets(
    bytes: &[u8],
    what: &str,
    file: &FileRef,
    signers: &Signers<'_>,
) -> Result<Targets, TrustError> {
    let envelope = Envelope::parse(bytes, what, max_bytes(file))?;
    check_file(what, file, bytes)?;
    let targets = signed_targets(envelope, what, signers)?;
    require_version(what, targets.header.version, file.version)?;
    Ok(targets)
}

/// Targets that `signers` signed, whatever snapshot they belong to.
pub(super) fn signed_targets(
    envelope: Envelope,
    what: &str,
    signers: &Signers<'_>,
) -> Result<Targets, TrustError> {
    envelope.verify(what, signers)?;
    envelope.require_type(what, RoleName::Targets.as_str())?;
    let targets: Targets = envelope.read(what)?;
    check_header(&targets.header, what)?;
    targets.check_counts(what)?;
    Ok(targets)
}

/// What the snapshot says of a delegated role's file. The names of top roles are theirs alone: a client that keeps files by
/// names must not keep a delegated role's as its root.
fn reference<'a>(snapshot: &'a Snapshot, role: &str) -> Result<&'a FileRef, TrustError> {
    if ["root", "timestamp", "snapshot", "targets"].contains(&role) {
        return Err(TrustError::Malformed {
            what: "a delegation".into(),
            why: format!("it is to {role:?}, which is a top role"),
        });
    }
    file_ref(&snapshot.meta, &format!("{role}.json"), "the snapshot")
}

/// A role's name as one part of a URL, all but letters, digits and `-._~` escaped (RFC 3986, section 2.3).
fn file_name(role: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    role.bytes().map(escaped).collect()
}
