//! The search for one target through delegations: depth first, in the order of precedence that each role states.
//!
//! The caller fetches; [`Search`] says which file, how much of it, and when the answer is known. A role is verified by the
//! keys of the very delegation that led to it, each time, so that what it may sign by way of one role is not believed by way
//! of another.

use std::collections::{BTreeMap, BTreeSet};

use super::envelope::{Envelope, Signers};
use super::error::TrustError;
use super::file::check_file;
use super::keys::{KeyId, PublicKey};
use super::metadata::{
    DelegatedRole, Delegations, FileRef, Role, RoleName, Snapshot, TargetFile, Targets,
};
use super::view::{SignedView, check_header, file_ref, max_bytes, require_version, signers};
use crate::Timestamp as Time;
use crate::limits::DELEGATED_ROLES_MAX;

/// A search that is under way.
#[derive(Debug)]
pub struct Search<'a> {
    snapshot: &'a Snapshot,
    target: String,
    found: Option<TargetFile>,
    /// Roles to look into; the next one is the last.
    pending: Vec<Pending>,
    /// Roles that were looked into, by name.
    visited: BTreeSet<String>,
}

/// A role to look into, with the keys that its delegation names.
#[derive(Debug)]
struct Pending {
    name: String,
    role: Role,
    keys: BTreeMap<KeyId, PublicKey>,
}

/// What a search needs, or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The target as it is signed.
    Found(TargetFile),
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
        search.look(&self.targets);
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
        while let Some(next) = self.pending.pop() {
            if self.visited.contains(&next.name) {
                continue;
            }
            if self.visited.len() == DELEGATED_ROLES_MAX {
                return Err(TrustError::TooManyRoles {
                    target: self.target.escape_debug().to_string(),
                    max: DELEGATED_ROLES_MAX,
                });
            }
            let file = reference(self.snapshot, &next.name)?;
            let step = Step::Fetch(DelegatedFile {
                role: file_name(&next.name),
                version: file.version,
                max_bytes: max_bytes(file),
            });
            self.pending.push(next);
            return Ok(step);
        }
        Ok(Step::Absent)
    }

    /// Takes the file that [`Self::step`] asked for. It must not be past its date at `now`, if there is one. When it is
    /// refused the search stands where it was: another copy may be given.
    ///
    /// # Errors
    /// Not the file that the snapshot names, not signed by the keys of the delegation, expired or malformed.
    pub fn take(&mut self, bytes: &[u8], now: Option<Time>) -> Result<(), TrustError> {
        let next = self.pending.last().ok_or_else(|| TrustError::Malformed {
            what: "a delegated file".into(),
            why: "no role is left to be looked into".into(),
        })?;
        let file = reference(self.snapshot, &next.name)?;
        let what = format!("{}.{}.json", file.version, file_name(&next.name));
        let signers = signers(&next.role, &next.keys, &next.name, &what)?;
        let targets = delegated_targets(bytes, &what, file, &signers)?;
        if let Some(now) = now {
            targets.header.require_date(now)?;
        }
        self.visited
            .extend(self.pending.pop().map(|taken| taken.name));
        self.look(&targets);
        Ok(())
    }

    /// Looks for the target in these targets, and for the roles they name for it.
    fn look(&mut self, targets: &Targets) {
        self.found = targets.targets.get(&self.target).cloned();
        let Some(delegations) = targets.delegations.as_ref() else {
            return;
        };
        let roles = delegations
            .roles
            .iter()
            .filter(|it| it.is_for(&self.target));
        let mut next = Vec::new();
        for role in roles {
            next.push(Pending::new(role, delegations));
            // Whatever is left elsewhere, the search ends in this role.
            if role.terminating {
                self.pending.clear();
                break;
            }
        }
        self.pending.extend(next.into_iter().rev());
    }
}

impl Pending {
    fn new(delegated: &DelegatedRole, delegations: &Delegations) -> Self {
        let own = |(id, _): &(&KeyId, &PublicKey)| delegated.role.keyids.contains(id);
        let keys = delegations.keys.iter().filter(own);
        Self {
            name: delegated.name.clone(),
            role: delegated.role.clone(),
            keys: keys.map(|(id, key)| (id.clone(), key.clone())).collect(),
        }
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
