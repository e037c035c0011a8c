//! Signing: changes of the catalogue, and keeping it fresh.

use jiff::SignedDuration;
use serde::Serialize;
use towline_contract::Timestamp;
use towline_contract::plan::PLAN_ROLE;
use towline_contract::trust::metadata::{FileRef, Root, Targets};
use towline_contract::trust::{
    Envelope, HOSTS_ROLE, PublicKey, SignedView, SigningKey, TrustedRoot, role_paths, sign,
};

use super::to_sign::{self, Required, ToSign, Waiting};
use super::written::{
    Files, Online, after_days, days_of, file_of, numbered, put_signed, put_snapshot, put_targets,
};
use super::{CatalogueError, Result, newest_root, view};
use crate::keys::KeyError;
use crate::site::Site;

/// The role that every snapshot names, and that names the others.
pub(super) const TARGETS: &str = "targets";

/// Signs snapshot and timestamp, and what names the hosts, again when less than half of their time is left; says whether it
/// did.
///
/// # Errors
/// See [`CatalogueError`].
pub fn refresh(site: &Site, now: Timestamp) -> Result<bool> {
    let valid = site.config.valid_days;
    let soon = |days: u32| now.saturating_add(SignedDuration::from_hours(i64::from(days) * 12));
    let _lock = site.store.lock()?;
    let current = view(&site.store)?;
    let (timestamp, snapshot) = current.online_expiry();
    let is_old = |expires, days| expires <= soon(days).unwrap_or(now);
    let hosts = current.role(HOSTS_ROLE).map(|it| it.header.expires);
    let hosts = match hosts.is_some_and(|it| is_old(it, days_of(HOSTS_ROLE, valid))) {
        true => change(site, &current, now, &[HOSTS_ROLE], |_, _| {}).map(|()| true),
        false => Ok(false),
    };
    // Also when the registrar's key is away: the others must not grow old with it.
    let is_due = is_old(timestamp, valid.timestamp) || is_old(snapshot, valid.snapshot);
    if is_due && !matches!(hosts, Ok(true)) {
        Signing::now(site)?.put_online(&current, current.files().clone(), now)?;
    }
    hosts.map(|signed| signed || is_due)
}

/// Signs a new document of each of `roles`, the targets role or one by kind, after `edit`; then snapshot and timestamp. The
/// caller holds the store's lock.
pub(super) fn change(
    site: &Site,
    current: &SignedView,
    now: Timestamp,
    roles: &[&str],
    edit: impl Fn(&str, &mut Targets),
) -> Result<()> {
    Signing::now(site)?.change(current, now, roles, edit, None)
}

/// With which keys a change is signed, and under which root the catalogue must be right afterwards.
pub(super) struct Signing<'a> {
    pub(super) site: &'a Site,
    pub(super) root: TrustedRoot,
    /// Who must sign the targets: as that root says, or the one that is to follow it.
    pub(super) targets: Required,
    /// Roles whose next key signs without their own: the change, or the root, names it.
    pub(super) rotating: &'a [&'a str],
    /// Keys of the targets that were made just now, and cannot be read.
    pub(super) made: &'a [SigningKey],
    /// Whether documents of other changes that wait are left, also those that nobody has signed yet.
    pub(super) leaves_others: bool,
}

impl<'a> Signing<'a> {
    /// As the catalogue is now.
    pub(super) fn now(site: &'a Site) -> Result<Self> {
        Ok(Self::under(site, newest_root(&site.store)?))
    }

    /// As the catalogue is to be under this root.
    pub(super) fn under(site: &'a Site, root: TrustedRoot) -> Self {
        Self {
            site,
            targets: required_of_targets(root.document()),
            root,
            rotating: &[],
            made: &[],
            leaves_others: false,
        }
    }

    /// The same for a change that nobody asked for just now: what others wait for goes first.
    pub(super) fn leaving_others(self) -> Self {
        Self {
            leaves_others: true,
            ..self
        }
    }

    fn keys(&self, role: &str) -> std::result::Result<Vec<SigningKey>, KeyError> {
        match (self.site.signing_keys(role), self.site.next_key(role)?) {
            (Err(error), Some(next)) if error.is_elsewhere() && self.rotating.contains(&role) => {
                Ok(vec![next])
            }
            (keys, _) => keys,
        }
    }

    /// Signs a new document of each of `roles`, as [`change`] does, with one more file in the new snapshot, or one less.
    pub(super) fn change(
        &self,
        current: &SignedView,
        now: Timestamp,
        roles: &[&str],
        edit: impl Fn(&str, &mut Targets),
        more: Option<(String, Option<FileRef>)>,
    ) -> Result<()> {
        let signed = self.signed(current, now, roles, edit)?;
        self.put(current, now, &signed, more)
    }

    /// Writes what [`Signing::signed`] gave.
    pub(super) fn put(
        &self,
        current: &SignedView,
        now: Timestamp,
        signed: &[(&str, Targets, Signed)],
        more: Option<(String, Option<FileRef>)>,
    ) -> Result<()> {
        let site = self.site;
        let mut files = current.files().clone();
        match more {
            Some((name, Some(file))) => files.extend([(name, file)]),
            Some((name, None)) => files.retain(|it, _| *it != name),
            None => {}
        }
        for (role, document, by) in signed {
            let reference = match by {
                Signed::Here(keys) => {
                    let keys: Vec<_> = keys.iter().chain(self.made(role)).collect();
                    put_targets(&site.store, role, document.clone(), &keys)?
                }
                Signed::Elsewhere(bytes) => put_signed(&site.store, role, document, bytes)?,
            };
            files.insert(file_of(role), reference);
        }
        self.put_online(current, files, now)?;
        for (role, document, _) in signed {
            to_sign::forget(site, &numbered(role, document.header.version))?;
        }
        Ok(())
    }

    /// All the signatures, before anything is written.
    pub(super) fn signed<'r>(
        &self,
        current: &SignedView,
        now: Timestamp,
        roles: &[&'r str],
        edit: impl Fn(&str, &mut Targets),
    ) -> Result<Vec<(&'r str, Targets, Signed)>> {
        let documents = roles.iter().map(|role| {
            let mut document = next_document(self.site, current, role, now);
            edit(role, &mut document);
            (*role, document)
        });
        let documents: Vec<_> = documents.collect();
        if self.leaves_others {
            for (role, document) in &documents {
                let name = numbered(role, document.header.version);
                to_sign::refuse_other(self.site, &name, &Envelope::unsigned(document)?, now)?;
            }
        }
        let targets = documents.iter().find(|(role, _)| *role == TARGETS);
        let targets = targets.map_or(current.targets(), |(_, it)| it).clone();
        let (mut signed, mut lacking) = (Vec::new(), Vec::new());
        for (role, document) in documents {
            let required = match role {
                TARGETS => self.targets.clone(),
                _ => required_of(&targets, role),
            };
            match self.by(role, current, &required, &document, now)? {
                Ok(by) => signed.push((role, document, by)),
                Err(to_sign) => lacking.push(to_sign),
            }
        }
        if lacking.is_empty() {
            return Ok(signed);
        }
        // They say whose signatures the others want.
        let targets = signed.iter().find(|(role, ..)| *role == TARGETS);
        if let Some((role, document, Signed::Here(keys))) = targets {
            let keys: Vec<_> = keys.iter().chain(self.made(role)).collect();
            let envelope = to_sign::signed_by(Envelope::unsigned(document)?, &keys)?;
            let name = numbered(role, document.header.version);
            Waiting::open(self.site)?.put(&name, &envelope)?;
        }
        Err(CatalogueError::ToSign(lacking))
    }

    /// Who signs the document: keys that are here, if they are enough; else it waits for the others, with what these sign.
    fn by(
        &self,
        role: &str,
        current: &SignedView,
        required: &Required,
        document: &Targets,
        now: Timestamp,
    ) -> Result<std::result::Result<Signed, ToSign>> {
        let own = match self.site.signing_keys(role) {
            Err(error) if error.is_elsewhere() => Vec::new(),
            own => own?,
        };
        let before = match role {
            TARGETS => required_of_targets(current.root()),
            _ => required_of(current.targets(), role),
        };
        let next = self.site.next_key(role)?;
        let is_next = |key: &PublicKey| next.as_ref().is_some_and(|it| it.public() == *key);
        let counts = |key: &PublicKey| required.has(key) || before.has(key) || is_next(key);
        let mut here: Vec<_> = own.into_iter().filter(|it| counts(&it.public())).collect();
        if !here.iter().any(|it| is_next(&it.public())) {
            here.extend(next);
        }
        let all: Vec<_> = here.iter().chain(self.made(role)).collect();
        if required.is_met_by(&all) {
            return Ok(Ok(Signed::Here(here)));
        }
        if role == HOSTS_ROLE {
            // The registrar's key is the server's: nobody elsewhere has it.
            return Ok(Ok(Signed::Here(self.site.signing_keys(role)?)));
        }
        let name = numbered(role, document.header.version);
        let wanted = Envelope::unsigned(document)?;
        let waiting = Waiting::open(self.site)?;
        let bytes = waiting.collect(&name, wanted, &all, required, now)?;
        Ok(bytes.map(Signed::Elsewhere))
    }

    fn made(&self, role: &str) -> &[SigningKey] {
        match role {
            TARGETS => self.made,
            _ => &[],
        }
    }

    /// Signs a snapshot that names `files`, and the timestamp. The caller holds the store's lock.
    pub(super) fn put_online(
        &self,
        current: &SignedView,
        files: Files,
        now: Timestamp,
    ) -> Result<()> {
        let online = Online {
            snapshot: &self.keys("snapshot")?,
            timestamp: &self.keys("timestamp")?,
        };
        let versions = (
            current.snapshot_version() + 1,
            current.timestamp_version() + 1,
        );
        let valid = self.site.config.valid_days;
        put_snapshot(
            &self.site.store,
            &self.root,
            versions,
            files,
            &online,
            valid,
            now,
        )
    }
}

/// Who must sign the targets under this root.
pub(super) fn required_of_targets(root: &Root) -> Required {
    let role = root.roles.get(TARGETS);
    role.map_or_else(Required::none, |it| Required::of(it, &root.keys))
}

/// Who must sign for a role that these targets name; nobody can for one that they do not.
pub(super) fn required_of(targets: &Targets, role: &str) -> Required {
    let delegations = targets.delegations.as_ref();
    let named = delegations.and_then(|all| {
        let it = all.roles.iter().find(|it| it.name == role)?;
        Some(Required::of(&it.role, &all.keys))
    });
    named.unwrap_or_else(Required::none)
}

/// Who signs a document.
pub(super) enum Signed {
    /// Keys of this machine.
    Here(Vec<SigningKey>),
    /// Others did: its bytes.
    Elsewhere(Vec<u8>),
}

/// The document that follows the role's current one, not changed yet.
fn next_document(site: &Site, current: &SignedView, role: &str, now: Timestamp) -> Targets {
    let mut document = match (role, current.role(role)) {
        (TARGETS, _) => current.targets().clone(),
        (_, Some(document)) => document.clone(),
        _ => Targets::new(0, now),
    };
    document.header.version += 1;
    document.header.expires = after_days(now, days_of(role, site.config.valid_days));
    document
}

/// `document` signed by the keys of `role` on this machine.
pub(super) fn signed(site: &Site, role: &str, document: &impl Serialize) -> Result<Vec<u8>> {
    let keys = site.signing_keys(role)?;
    let keys: Vec<_> = keys.iter().collect();
    Ok(sign(document, &keys)?)
}

/// Has the targets delegate to this role by kind.
pub(super) fn delegate(targets: &mut Targets, role: &str, keys: &[PublicKey], threshold: u32) {
    let paths = match role {
        PLAN_ROLE => vec!["plan/*".into()],
        _ => role_paths(role).unwrap_or_default(),
    };
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    targets.set_delegation(role, keys, threshold, &paths);
}
