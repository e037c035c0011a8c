//! The first keys and the first catalogue of a site.

use towline_contract::Timestamp;
use towline_contract::trust::{BASE_ROLE, PublicKey, SigningKey};

use super::{NewKeys, NewSite, Site, SiteError};
use crate::catalogue::{self, CatalogueError, FirstKeys, RoleKeys};
use crate::keys::{self, KeyError};

/// Makes the keys, and the catalogue as far as they can sign it.
pub(super) fn start(site: &Site, new: &NewSite, now: Timestamp) -> Result<(), SiteError> {
    let root = make(site, "root", &new.root)?;
    let targets = make(site, "targets", &new.targets)?;
    let base = NewKeys {
        elsewhere: new.base_key.iter().cloned().collect(),
        ..NewKeys::plain(1, 1)
    };
    let base = make(site, BASE_ROLE, &base)?;
    for role in ["hosts", "snapshot", "timestamp", "plan"] {
        keys::create(&site.key_path(role))?;
    }
    match catalogue::create(site, &all(site, [root, targets, base])?, now) {
        Err(CatalogueError::ToSign(_)) => Ok(()),
        created => Ok(created?),
    }
}

/// Makes the catalogue of a site whose keys are there, or elsewhere: what was signed meanwhile must be the very documents.
pub(super) fn go_on(site: &Site, new: &NewSite, now: Timestamp) -> Result<(), SiteError> {
    let known =
        |role: &str, threshold: u8, elsewhere: &[PublicKey]| -> Result<RoleKeys, KeyError> {
            let known = keys::offline_keys(&site.keys(), role).into_iter();
            let publics = known.filter_map(|it| it.public).collect();
            let signers = match site.signing_keys(role) {
                Err(error) if error.is_elsewhere() => Vec::new(),
                signers => signers?,
            };
            Ok(RoleKeys {
                keys: match elsewhere {
                    [] => publics,
                    given => given.to_vec(),
                },
                threshold: threshold.into(),
                signers,
            })
        };
    let (root, targets) = (&new.root, &new.targets);
    let roles = [
        known("root", root.threshold, &root.elsewhere)?,
        known("targets", targets.threshold, &targets.elsewhere)?,
        known(BASE_ROLE, 1, new.base_key.as_slice())?,
    ];
    Ok(catalogue::create(site, &all(site, roles)?, now)?)
}

fn all(site: &Site, [root, targets, base]: [RoleKeys; 3]) -> Result<FirstKeys, KeyError> {
    let key = |role: &str| keys::read(&site.key_path(role));
    Ok(FirstKeys {
        root,
        targets,
        base,
        hosts: key("hosts")?,
        snapshot: key("snapshot")?,
        timestamp: key("timestamp")?,
        plan: key("plan")?,
    })
}

/// Makes the keys of a role, or puts the public halves where they are looked for. One key of other roles than the root, made
/// here, has no number.
fn make(site: &Site, role: &str, new: &NewKeys) -> Result<RoleKeys, KeyError> {
    let numbered = |number: usize| site.key_path(&format!("{role}-{number}"));
    let single = role == BASE_ROLE;
    for (number, public) in (1..).zip(&new.elsewhere) {
        let path = match single {
            true => site.key_path(role),
            false => numbered(number),
        };
        keys::write_public(&keys::public_path(&path), public)?;
    }
    let threshold = new.threshold.into();
    if !new.elsewhere.is_empty() {
        let keys = new.elsewhere.clone();
        let signers = Vec::new();
        return Ok(RoleKeys {
            keys,
            threshold,
            signers,
        });
    }
    let made = match (role, new.here) {
        ("root", _) | (_, 2..) => {
            let make = |number: usize| {
                keys::create_offline(&numbered(number), new.passphrases.get(number - 1))
            };
            let numbers = 1..=usize::from(new.here);
            numbers.map(make).collect::<Result<Vec<SigningKey>, _>>()?
        }
        _ => vec![keys::create(&site.key_path(role))?],
    };
    Ok(RoleKeys::here(made, threshold))
}
