//! Looks into the layers of the chains that publishing would make, for entries that no machine could place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use towline_contract::Digest;
use towline_contract::manifest::{Kind, Manifest};
use towline_initramfs::places::{Place, places};

use super::publish::NewLayer;
use super::{CatalogueError, Result};
use crate::collisions::{Collision, Placed, collisions};
use crate::config::PlanConfig;
use crate::review::together;
use crate::store::Store;

/// Refuses `new` layers whose entries could not be placed over those before them, or would be in the way of others.
/// Each layer of the newest chains is read once; of published hosts none is, since they are placed last.
pub(super) fn refuse_collisions(
    store: &Store,
    published: &[Manifest],
    new: &[&NewLayer],
    plan: &PlanConfig,
) -> Result<()> {
    let manifests: Vec<_> = new.iter().map(|layer| layer.manifest.clone()).collect();
    let fresh: BTreeSet<_> = manifests.iter().map(Manifest::target_name).collect();
    let newest = together(published, &manifests);
    let chosen = |layer: &&Manifest| match layer.kind {
        // Those of single hosts never meet most of the agents.
        Kind::Kernel | Kind::Base => plan.wants(layer.kind, None, &layer.name),
        Kind::Host => fresh.contains(&layer.target_name()),
        _ => true,
    };
    let layers: Vec<&Manifest> = newest.into_values().filter(chosen).collect();
    if fresh.is_empty() || !layers.iter().any(|layer| layer.kind == Kind::Base) {
        return Ok(());
    }
    let paths: BTreeMap<Digest, &Path> = new
        .iter()
        .map(|layer| (layer.manifest.digest, layer.path.as_path()))
        .collect();
    let read = layers.iter().map(|manifest| {
        let stored = store.layer_path(&manifest.digest);
        let path = paths.get(&manifest.digest).map_or(stored, PathBuf::from);
        let places = places(&path, manifest)?;
        Ok((*manifest, places))
    });
    let read = read.collect::<Result<Vec<_>>>()?;
    let is_new = |found: &Collision| {
        [&found.layer, &found.earlier, &found.base]
            .iter()
            .any(|name| fresh.contains(*name))
    };
    let found: Vec<_> = judge(&read, plan).into_iter().filter(is_new).collect();
    if found.is_empty() {
        Ok(())
    } else {
        Err(CatalogueError::Collisions(found))
    }
}

/// The collisions over every base.
fn judge(layers: &[(&Manifest, Vec<Place>)], plan: &PlanConfig) -> Vec<Collision> {
    let placed = layers
        .iter()
        .map(|(manifest, places)| Placed { manifest, places });
    let placed: Vec<_> = placed.collect();
    let of = |kind: Kind| move |layer: &&Placed<'_>| layer.manifest.kind == kind;
    // Machines boot all the agents and extras, or those that the configuration names.
    let booted = |layer: &Manifest| plan.boots(layer.kind, &layer.name);
    let mut found = Vec::new();
    for base in placed.iter().filter(of(Kind::Base)) {
        let architecture = &base.manifest.architecture;
        let fits = |layer: &&Placed<'_>| {
            ["all", architecture].contains(&&*layer.manifest.architecture)
                && layer.manifest.kind != Kind::Base
        };
        let others = || placed.iter().filter(fits);
        let kernels: Vec<_> = others().filter(of(Kind::Kernel)).copied().collect();
        let above: Vec<_> = others()
            .filter(|layer| layer.manifest.kind != Kind::Kernel)
            .copied()
            .collect();
        found.extend(collisions(*base, &kernels, &above, booted));
    }
    found
}
