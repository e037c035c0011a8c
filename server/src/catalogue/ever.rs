//! Names that were ever published: the numbered documents of the roles stay in the store, and say so.

use std::collections::BTreeSet;

use towline_contract::limits::METADATA_BYTES_MAX;
use towline_contract::manifest::Kind;
use towline_contract::trust::metadata::Targets;
use towline_contract::trust::{Envelope, SignedView, TargetName, layer_role};

use super::Result;
use super::change::TARGETS;
use super::waiting::{current_version, read};
use super::written::numbered;
use crate::store::Store;

/// The versions of this layer that were ever published, whatever was taken out since. What an interrupted change has left of a
/// document that is yet to come does not count: no machine was ever given it, and the next change writes over it.
///
/// # Errors
/// A document in the store cannot be read.
pub fn ever_published(
    store: &Store,
    view: &SignedView,
    of: (Kind, &str, &str),
) -> Result<BTreeSet<String>> {
    let (kind, name, _) = of;
    // A site of before roles by kind had all layers in its targets.
    let roles = layer_role(kind, name).into_iter().chain([TARGETS.into()]);
    let mut found = BTreeSet::new();
    for role in roles {
        for version in 1..=current_version(view, &role) {
            let file = numbered(&role, version);
            let path = store.metadata_path(&file);
            let Some(bytes) = store.read(&path, METADATA_BYTES_MAX)? else {
                continue;
            };
            let envelope = Envelope::parse(&bytes, &file, METADATA_BYTES_MAX)?;
            let document: Targets = read(&envelope, &file)?;
            let targets = document.targets.keys().filter_map(|it| it.parse().ok());
            let is_one = |it: &TargetName| (it.kind, &*it.name, &*it.architecture) == of;
            found.extend(targets.filter(is_one).map(|it| it.version));
        }
    }
    Ok(found)
}
