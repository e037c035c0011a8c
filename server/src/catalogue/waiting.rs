//! What waits in `to-sign/`, for those who look after a site: since when, and whose signature it wants.

use std::path::PathBuf;

use jiff::SignedDuration;
use towline_contract::Timestamp;
use towline_contract::trust::metadata::{Header, Root, Targets};
use towline_contract::trust::{Envelope, SignedView};

use super::change::{TARGETS, required_of, required_of_targets};
use super::to_sign::{self, Required, groups, lacking};
use super::written::days_of;
use super::{CatalogueError, Result};
use crate::keys;
use crate::private;
use crate::site::Site;

/// A document that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingDocument {
    /// Where.
    pub file: PathBuf,
    /// When it was made; its file is written anew by whoever signs it.
    pub since: Timestamp,
    /// How many signatures it has and needs, and whose would count; none when it has enough. A root needs those of the keys
    /// before it, and its own.
    pub lacking: Vec<Lacking>,
}

/// Signatures that are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// How many it has.
    pub valid: usize,
    /// How many it needs.
    pub threshold: u32,
    /// Fingerprints of keys that could sign, as they begin, with the names of their files where these are known.
    pub by: Vec<String>,
}

/// The documents that wait to follow those of the catalogue. What an abandoned change has left behind is none of them.
///
/// # Errors
/// The folder, or a document in it, cannot be read.
pub fn waiting(site: &Site, view: &SignedView) -> Result<Vec<WaitingDocument>> {
    let mut found = Vec::new();
    let mut names = private::names(&site.to_sign())?;
    names.sort();
    for name in names {
        let (version, role) = name.split_once('.').unwrap_or_default();
        let next = current_version(view, role).checked_add(1);
        if version.parse().ok() != next {
            continue;
        }
        let file = format!("{name}.json");
        let Some(envelope) = to_sign::read(site, &file)? else {
            continue;
        };
        let header: Header = read(&envelope, &file)?;
        let path = site.to_sign().join(&file);
        let mut lacks = Vec::new();
        for required in required(site, view, role, &envelope, &file)? {
            let lacks_some = lacking(path.clone(), &envelope, &required)?;
            let row = lacks_some.map(|it| Lacking {
                valid: it.valid,
                threshold: it.threshold,
                by: it.by.iter().map(|id| named(site, role, id)).collect(),
            });
            lacks.extend(row.filter(|it| !lacks.contains(it)));
        }
        found.push(WaitingDocument {
            file: path,
            since: made_at(site, role, &header),
            lacking: lacks,
        });
    }
    Ok(found)
}

pub(super) fn current_version(view: &SignedView, role: &str) -> u64 {
    match role {
        "root" => view.root().header.version,
        TARGETS => view.targets().header.version,
        _ => view.role(role).map_or(0, |it| it.header.version),
    }
}

/// Who must sign: as the documents say that wait beside it, or those of the catalogue.
fn required(
    site: &Site,
    view: &SignedView,
    role: &str,
    envelope: &Envelope,
    file: &str,
) -> Result<Vec<Required>> {
    let next = |role: &str| {
        let name = format!("{}.{role}.json", current_version(view, role) + 1);
        to_sign::read(site, &name)
    };
    let of_root = |root: &Root| {
        let role = root.roles.get("root");
        role.map_or_else(Required::none, |it| Required::of(it, &root.keys))
    };
    Ok(match role {
        "root" => vec![of_root(view.root()), of_root(&read(envelope, file)?)],
        TARGETS => vec![match next("root")? {
            Some(root) => required_of_targets(&read(&root, "the root that waits")?),
            None => required_of_targets(view.root()),
        }],
        _ => vec![match next(TARGETS)? {
            Some(targets) => {
                required_of(&read::<Targets>(&targets, "the targets that wait")?, role)
            }
            None => required_of(view.targets(), role),
        }],
    })
}

pub(super) fn read<T: serde::de::DeserializeOwned>(envelope: &Envelope, what: &str) -> Result<T> {
    let document = serde_json::from_value(envelope.signed.clone());
    document.map_err(|source| {
        let what = what.into();
        CatalogueError::Trust(towline_contract::trust::TrustError::Json { what, source })
    })
}

/// A document is made to be valid for so many days.
fn made_at(site: &Site, role: &str, header: &Header) -> Timestamp {
    let days = match role {
        "root" => site.config.valid_days.root,
        _ => days_of(role, site.config.valid_days),
    };
    let valid = SignedDuration::from_hours(i64::from(days) * 24);
    let made = header.expires.checked_sub(valid);
    made.unwrap_or(header.expires)
}

/// A key's identifier, as it begins, with the name of its file if that is known.
fn named(site: &Site, role: &str, id: &str) -> String {
    let known = keys::offline_keys(&site.keys(), role);
    let is_it = |it: &&keys::OfflineKey| it.public.as_ref().is_some_and(|it| it.id().short() == id);
    match known.iter().find(is_it) {
        Some(key) => format!("{} ({})", groups(id), key.name),
        None => groups(id),
    }
}
