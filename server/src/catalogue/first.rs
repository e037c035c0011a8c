//! The first catalogue of a site. What keys that are elsewhere must sign waits; then the same again goes on.

use std::slice::from_ref;

use towline_contract::Timestamp;
use towline_contract::plan::PLAN_ROLE;
use towline_contract::trust::metadata::{RoleName, Root, Targets};
use towline_contract::trust::{BASE_ROLE, Envelope, HOSTS_ROLE, PublicKey, SigningKey};

use super::change::{TARGETS, delegate};
use super::to_sign::{self, Required, Waiting};
use super::written::{
    Files, Online, after_days, days_of, file_of, numbered, put_signed, put_snapshot, put_targets,
};
use super::{CatalogueError, Result, newest_root};
use crate::site::Site;

/// The keys of a role that people sign for.
pub struct RoleKeys {
    /// Public halves.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign.
    pub threshold: u32,
    /// Those whose secret half is here.
    pub signers: Vec<SigningKey>,
}

impl RoleKeys {
    /// Keys that are here, all of them.
    #[must_use]
    pub fn here(signers: Vec<SigningKey>, threshold: u32) -> Self {
        let keys = signers.iter().map(SigningKey::public).collect();
        Self {
            keys,
            threshold,
            signers,
        }
    }

    fn required(&self) -> Required {
        Required {
            keys: self.keys.clone(),
            threshold: self.threshold,
        }
    }
}

/// The keys of a new site.
pub struct FirstKeys {
    /// Keys of the root role.
    pub root: RoleKeys,
    /// Keys of the targets role.
    pub targets: RoleKeys,
    /// Keys that sign rescue systems and kernels.
    pub base: RoleKeys,
    /// Key that names hosts' keys.
    pub hosts: SigningKey,
    /// Key of the snapshot role.
    pub snapshot: SigningKey,
    /// Key of the timestamp role.
    pub timestamp: SigningKey,
    /// Key that signs plans.
    pub plan: SigningKey,
}

/// Writes the first, empty catalogue of a site.
///
/// # Errors
/// See [`CatalogueError`]; [`CatalogueError::ToSign`] when keys that are elsewhere must sign first: then once more.
pub fn create(site: &Site, keys: &FirstKeys, now: Timestamp) -> Result<()> {
    let _lock = site.store.lock()?;
    let (store, valid) = (&site.store, site.config.valid_days);
    let targets = first_targets(site, keys, now);
    let base = Targets::new(1, after_days(now, days_of(BASE_ROLE, valid)));
    let waiting = waiting(site, keys)?;
    let mut lacking = Vec::new();
    let mut sign = |role: &str, envelope: Envelope, keys: &RoleKeys| -> Result<Vec<u8>> {
        let signers: Vec<_> = keys.signers.iter().collect();
        let Some(waiting) = &waiting else {
            return Ok(to_sign::signed_by(envelope, &signers)?.to_bytes());
        };
        let name = numbered(role, 1);
        let signed = waiting.collect(&name, envelope, &signers, &keys.required(), now)?;
        signed.or_else(|it| {
            lacking.push(it);
            Ok(Vec::new())
        })
    };
    let root = sign(
        "root",
        Envelope::unsigned(&first_root(site, keys, now))?,
        &keys.root,
    )?;
    let targets_bytes = sign(TARGETS, Envelope::unsigned(&targets)?, &keys.targets)?;
    let base_bytes = sign(BASE_ROLE, Envelope::unsigned(&base)?, &keys.base)?;
    if !lacking.is_empty() {
        return Err(CatalogueError::ToSign(lacking));
    }
    // Nothing names these before there is a timestamp: what an interrupted attempt has left is written over.
    store.replace(&store.metadata_path("1.root.json"), &root)?;
    let hosts = Targets::new(1, after_days(now, days_of(HOSTS_ROLE, valid)));
    let mut files = Files::new();
    files.insert(
        file_of(TARGETS),
        put_signed(store, TARGETS, &targets, &targets_bytes)?,
    );
    files.insert(
        file_of(BASE_ROLE),
        put_signed(store, BASE_ROLE, &base, &base_bytes)?,
    );
    let reference = put_targets(store, HOSTS_ROLE, hosts, &[&keys.hosts])?;
    files.insert(file_of(HOSTS_ROLE), reference);
    let online = Online {
        snapshot: from_ref(&keys.snapshot),
        timestamp: from_ref(&keys.timestamp),
    };
    put_snapshot(
        store,
        &newest_root(store)?,
        (1, 1),
        files,
        &online,
        valid,
        now,
    )?;
    for role in ["root", TARGETS, BASE_ROLE] {
        to_sign::forget(site, &numbered(role, 1))?;
    }
    Ok(())
}

fn first_root(site: &Site, keys: &FirstKeys, now: Timestamp) -> Root {
    let mut root = Root::new(1, after_days(now, site.config.valid_days.root));
    for (name, role) in [
        (RoleName::Root, &keys.root),
        (RoleName::Targets, &keys.targets),
    ] {
        root.set_role(name, &role.keys, role.threshold);
    }
    root.set_role(RoleName::Snapshot, &[keys.snapshot.public()], 1);
    root.set_role(RoleName::Timestamp, &[keys.timestamp.public()], 1);
    root
}

fn first_targets(site: &Site, keys: &FirstKeys, now: Timestamp) -> Targets {
    let mut targets = Targets::new(1, after_days(now, site.config.valid_days.targets));
    let (plan, hosts) = (keys.plan.public(), keys.hosts.public());
    delegate(&mut targets, PLAN_ROLE, from_ref(&plan), 1);
    delegate(
        &mut targets,
        BASE_ROLE,
        &keys.base.keys,
        keys.base.threshold,
    );
    delegate(&mut targets, HOSTS_ROLE, from_ref(&hosts), 1);
    targets
}

/// Where documents wait, when some do, or must.
fn waiting<'a>(site: &'a Site, keys: &FirstKeys) -> Result<Option<Waiting<'a>>> {
    let is_here = |it: &&RoleKeys| it.signers.len() as u64 >= u64::from(it.threshold);
    let here = [&keys.root, &keys.targets, &keys.base].iter().all(is_here);
    match here && !site.to_sign().exists() {
        true => Ok(None),
        false => Waiting::open(site).map(Some),
    }
}
