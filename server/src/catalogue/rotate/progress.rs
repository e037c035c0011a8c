//! How far a change of several roles came that waits for signatures: run again, it goes on with the others.
//!
//! A file beside the documents that wait, and of no use without them: a change that was given up begins anew.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use towline_contract::Digest;

use super::{Rotation, remove};
use crate::catalogue::Result;
use crate::private;
use crate::site::Site;

/// Its name in `to-sign/`, without `.json`. Documents that wait have a dot in theirs.
const NAME: &str = "rotation";

/// Largest such file, in bytes: a digest and the names of roles.
const BYTES_MAX: u64 = 64 << 10;

#[derive(Serialize, Deserialize)]
struct Document {
    /// Of what was asked for.
    command: Digest,
    /// Roles that have it.
    done: Vec<String>,
}

/// The progress of one change.
pub(super) struct Progress<'a> {
    site: &'a Site,
    document: Document,
}

impl<'a> Progress<'a> {
    /// That of the same change, if it waits, or none.
    pub(super) fn open(site: &'a Site, rotation: &Rotation<'_>) -> Result<Self> {
        let keys: Vec<_> = rotation.new_keys.iter().map(|it| it.id()).collect();
        let asked = (rotation.roles, &rotation.change, keys, rotation.size);
        let command = Digest::of(format!("{asked:?}").as_bytes());
        let waiting = private::names(&site.to_sign())?;
        let found = match waiting.iter().any(|it| it.contains('.')) {
            true => private::read::<Document>(&file(site), BYTES_MAX)?,
            false => None,
        };
        let found = found.filter(|it| it.command == command);
        let document = found.unwrap_or(Document {
            command,
            done: Vec::new(),
        });
        Ok(Self { site, document })
    }

    /// Whether the role has what was asked for.
    pub(super) fn has(&self, role: &str) -> bool {
        self.document.done.iter().any(|it| it == role)
    }

    /// These roles have it now, of `all` that are to have it.
    pub(super) fn did(&mut self, roles: &[&str], all: &[&str]) -> Result<()> {
        let roles = roles.iter().map(|it| (*it).to_owned());
        self.document.done.extend(roles);
        if all.iter().all(|it| self.has(it)) {
            return remove(&file(self.site));
        }
        let folder = private::lock(&self.site.to_sign())?;
        Ok(folder.write(&format!("{NAME}.json"), &self.document, BYTES_MAX)?)
    }
}

fn file(site: &Site) -> PathBuf {
    site.to_sign().join(format!("{NAME}.json"))
}
