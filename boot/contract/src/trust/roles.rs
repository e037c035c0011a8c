//! Roles by kind: who may sign which layers, beside the targets role itself, which names them all and goes before them.
//!
//! | role | its `paths`, terminating |
//! |---|---|
//! | `base` | `base/*/*/*`, `kernel/*/*/*` |
//! | `agent-NAME` | `agent/NAME/*/*`, `extra/NAME/*/*` |
//! | `hosts` | `host/*/*/*`; it signs no layer, and names each host's key ([`super::hosts`]) |
//!
//! A role with other paths than these is none of these, and a document that goes beyond its role is refused whole.

use std::collections::BTreeSet;

use super::envelope::Envelope;
use super::error::TrustError;
use super::file::{file_ref, max_bytes};
use super::metadata::{DelegatedRole, Delegations, Header, Targets};
use super::search::{DelegatedFile, delegated_targets, signed_targets};
use super::target::{TargetName, is_part};
use super::view::SignedView;
use crate::limits::{CHAIN_LAYERS_MAX, METADATA_BYTES_MAX, PLAN_BYTES_MAX};
use crate::manifest::Kind;
use crate::plan::BootPlan;

/// The role that signs rescue systems and kernels.
pub const BASE_ROLE: &str = "base";

/// The role that names hosts' keys.
pub const HOSTS_ROLE: &str = "hosts";

/// What the names of roles for agents begin with.
const AGENT_PREFIX: &str = "agent-";

/// The role that signs layers of this kind and name, where a site has one; `None` for those of hosts, which sign for
/// themselves, and for credentials, which nobody signs.
#[must_use]
pub fn layer_role(kind: Kind, name: &str) -> Option<String> {
    match kind {
        Kind::Base | Kind::Kernel => Some(BASE_ROLE.into()),
        Kind::Agent | Kind::Extra => Some(format!("{AGENT_PREFIX}{name}")),
        Kind::Host | Kind::Credentials => None,
    }
}

/// The `paths` of a role's delegation; `None` for a role that is none of these.
#[must_use]
pub fn role_paths(role: &str) -> Option<Vec<String>> {
    match role {
        BASE_ROLE => Some(vec!["base/*/*/*".into(), "kernel/*/*/*".into()]),
        HOSTS_ROLE => Some(vec!["host/*/*/*".into()]),
        _ => role
            .strip_prefix(AGENT_PREFIX)
            .filter(|name| is_part(name))
            .map(|name| vec![format!("agent/{name}/*/*"), format!("extra/{name}/*/*")]),
    }
}

impl SignedView {
    /// The files of all roles by kind that the targets delegate to and the snapshot names: for those who serve and change
    /// the catalogue. `hosts` comes first.
    #[must_use]
    pub fn role_files(&self) -> Vec<DelegatedFile> {
        let roles = self.targets.delegations.iter().flat_map(|it| &it.roles);
        let others = roles
            .map(|it| it.name.as_str())
            .filter(|it| *it != HOSTS_ROLE && role_paths(it).is_some());
        let all = std::iter::once(HOSTS_ROLE).chain(others);
        all.filter_map(|role| self.role_file(role)).collect()
    }

    /// The file of one of these roles, if the targets delegate to it and the snapshot names it.
    #[must_use]
    pub fn role_file(&self, role: &str) -> Option<DelegatedFile> {
        role_paths(role)?;
        self.delegates_to(role).then_some(())?;
        let file = self.snapshot.meta.get(&format!("{role}.json"))?;
        Some(DelegatedFile {
            role: role.into(),
            version: file.version,
            max_bytes: max_bytes(file),
        })
    }

    /// The files to fetch for a plan, which is not verified yet: those of the roles that may sign what it asks for. A plan
    /// that cannot be read needs none; it is refused later.
    #[must_use]
    pub fn files_for(&self, plan: &[u8]) -> Vec<DelegatedFile> {
        let envelope = Envelope::parse(plan, "the plan", PLAN_BYTES_MAX).ok();
        let plan = envelope.and_then(|it| it.read::<BootPlan>("the plan").ok());
        let chain = plan.map_or_else(Vec::new, |it| it.chain);
        let named = chain.iter().take(CHAIN_LAYERS_MAX).filter_map(|layer| {
            let name: TargetName = layer.target.parse().ok()?;
            layer_role(name.kind, &name.name)
        });
        let roles: BTreeSet<_> = named.collect();
        let files = roles.iter().filter_map(|role| self.role_file(role));
        files.collect()
    }

    /// Whether the targets have a role of this name.
    #[must_use]
    pub fn delegates_to(&self, role: &str) -> bool {
        let mut roles = self.targets.delegations.iter().flat_map(|it| &it.roles);
        roles.any(|it| it.name == role)
    }

    /// What a role by kind signs; `None` when its file was not added.
    #[must_use]
    pub fn role(&self, role: &str) -> Option<&Targets> {
        self.roles.get(role)
    }

    /// The view with what a role by kind signs, from its file. The targets role itself goes before it.
    ///
    /// # Errors
    /// Not the file that the snapshot names, not signed by the role's keys, malformed, or going beyond its role.
    pub fn with_role(mut self, role: &str, bytes: &[u8]) -> Result<Self, TrustError> {
        let file = file_ref(&self.snapshot.meta, &format!("{role}.json"), "the snapshot")?;
        let what = format!("{}.{role}.json", file.version);
        let signers = self.delegated_signers(role)?;
        let wanted = role_paths(role).ok_or_else(|| TrustError::Malformed {
            what: "targets.json".into(),
            why: format!("{role:?} is no role by kind"),
        })?;
        check_delegation(self.targets.delegations.as_ref(), role, &wanted)?;
        let signed = delegated_targets(bytes, &what, file, &signers)?;
        check_lane(role, &signed, &what)?;
        for (name, file) in &signed.targets {
            let layer = self.layers.entry(name.clone());
            layer.or_insert_with(|| file.clone());
        }
        self.roles.insert(role.into(), signed);
        Ok(self)
    }

    /// A document of a role by kind that is signed by the role's keys, whatever snapshot it belongs to: for those who make the
    /// snapshot.
    ///
    /// # Errors
    /// Not signed by the role's keys, malformed, or going beyond its role.
    pub fn role_to_publish(&self, role: &str, bytes: &[u8]) -> Result<Targets, TrustError> {
        let what = format!("{role}.json");
        let envelope = Envelope::parse(bytes, &what, METADATA_BYTES_MAX)?;
        let signed = signed_targets(envelope, &what, &self.delegated_signers(role)?)?;
        check_lane(role, &signed, &what)?;
        Ok(signed)
    }

    /// Name and header of each document that has a date to keep.
    #[must_use]
    pub fn documents(&self) -> Vec<(&str, &Header)> {
        let top = self.headers().map(|it| (it.role.as_str(), it));
        let roles = self.roles.iter();
        let roles = roles.map(|(name, signed)| (name.as_str(), &signed.header));
        top.into_iter().chain(roles).collect()
    }

    /// The delegation to a host's role: by the targets role or else by `hosts`.
    pub(super) fn host_delegations(&self, role: &str) -> Option<&Delegations> {
        let hosts = self.roles.get(HOSTS_ROLE);
        let all = [
            self.targets.delegations.as_ref(),
            hosts.and_then(|it| it.delegations.as_ref()),
        ];
        let names = |it: &&Delegations| it.roles.iter().any(|it| it.name == role);
        all.into_iter().flatten().find(names)
    }
}

/// The delegation to this role must be for these paths, terminating, and nothing wider.
pub(super) fn check_delegation(
    delegations: Option<&Delegations>,
    role: &str,
    wanted: &[String],
) -> Result<(), TrustError> {
    let mut roles = delegations.iter().flat_map(|it| &it.roles);
    let is_right = |it: &DelegatedRole| {
        it.terminating && it.path_hash_prefixes.is_none() && it.paths.as_deref() == Some(wanted)
    };
    match roles.find(|it| it.name == role) {
        Some(found) if is_right(found) => Ok(()),
        found => Err(TrustError::Malformed {
            what: format!("the delegation to {role}"),
            why: format!(
                "it must be terminating and for {wanted:?}, not {:?}",
                found.and_then(|it| it.paths.as_ref())
            ),
        }),
    }
}

/// A document of a role by kind keeps to its role.
fn check_lane(role: &str, signed: &Targets, what: &str) -> Result<(), TrustError> {
    let malformed = |why| TrustError::Malformed {
        what: what.into(),
        why,
    };
    if role != HOSTS_ROLE && signed.delegations.is_some() {
        return Err(malformed(format!("role {role} delegates nothing")));
    }
    let own = |name: &String| {
        let parsed: Option<TargetName> = name.parse().ok();
        parsed
            .and_then(|it| layer_role(it.kind, &it.name))
            .as_deref()
            == Some(role)
    };
    match signed.targets.keys().find(|name| !own(name)) {
        None => Ok(()),
        Some(name) => Err(malformed(format!(
            "it signs {name:?}, which role {role} may not"
        ))),
    }
}
