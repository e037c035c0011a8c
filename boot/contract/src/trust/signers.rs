//! The keys of a role and how many of them must sign, by the document that names them.

use std::collections::BTreeMap;

use super::envelope::Signers;
use super::error::TrustError;
use super::keys::{KeyId, PublicKey};
use super::metadata::{Delegations, Role, RoleName, Root, check_count};
use crate::limits::ROLE_KEYS_MAX;

/// Keys and threshold of the one role of this name.
pub(super) fn one_role<'a>(
    delegations: Option<&'a Delegations>,
    name: &str,
) -> Result<Signers<'a>, TrustError> {
    let what = "targets.json";
    let none = || TrustError::Malformed {
        what: what.into(),
        why: format!("it delegates to no role, or more than one, named {name:?}"),
    };
    let delegations = delegations.ok_or_else(none)?;
    let mut roles = delegations.roles.iter().filter(|role| role.name == name);
    match (roles.next(), roles.next()) {
        (Some(role), None) => signers(&role.role, &delegations.keys, name, what),
        _ => Err(none()),
    }
}

/// Keys and threshold of a top role.
pub(super) fn root_signers<'a>(
    root: &'a Root,
    role: RoleName,
    what: &str,
) -> Result<Signers<'a>, TrustError> {
    let found = root.roles.get(role.as_str());
    let found = found.ok_or_else(|| TrustError::Malformed {
        what: what.into(),
        why: format!("it has no {role} role"),
    })?;
    signers(found, &root.keys, role.as_str(), what)
}

/// The keys of a role. A key that is not there, or of an unknown type, only cannot sign.
pub(super) fn signers<'a>(
    role: &'a Role,
    keys: &'a BTreeMap<KeyId, PublicKey>,
    name: &str,
    what: &str,
) -> Result<Signers<'a>, TrustError> {
    check_count(what, "keys of one role", role.keyids.len(), ROLE_KEYS_MAX)?;
    let mut ids: Vec<_> = role.keyids.iter().collect();
    ids.sort();
    ids.dedup();
    if role.threshold == 0 || ids.len() != role.keyids.len() {
        return Err(TrustError::Malformed {
            what: what.into(),
            why: format!("role {name:?} has a threshold of 0, or names a key twice"),
        });
    }
    Ok(Signers {
        keys: ids
            .into_iter()
            .filter_map(|id| Some((id, keys.get(id)?)))
            .collect(),
        threshold: role.threshold,
    })
}
