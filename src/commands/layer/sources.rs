//! A layer against its sources: its recipe is built again, aside, and both are compared.

use std::path::Path;

use anyhow::{Context, anyhow};
use towline_contract::manifest::Manifest;
use towline_initramfs::diff::Difference;

use super::build::{self, BuildWith};
use super::diff;
use crate::exit::{Exit, Failure, Outcome};

/// In what the layer differs from what its recipe gives now.
///
/// # Errors
/// The recipe cannot be built, or makes another layer.
pub(super) fn compare(
    layer: &Path,
    manifest: &Manifest,
    recipe: &Path,
    with: &BuildWith,
    quiet: bool,
) -> Result<Difference, Failure> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let built = build::build_again(manifest, recipe, with, folder.path(), quiet)?;
    let of = |it: &Manifest| (it.kind, it.name.clone(), it.architecture.clone());
    if of(&built.manifest) != of(manifest) {
        let (recipe, made) = (recipe.display(), built.manifest.target_name());
        let target = manifest.target_name();
        let error = anyhow!("recipe {recipe} makes {made}, and the layer is {target}");
        return Err(Failure::new(Exit::Usage, error).next("name the recipe that it was built from"));
    }
    if built.manifest == *manifest {
        return Ok(Difference {
            same_bytes: true,
            ..Difference::default()
        });
    }
    diff::compare((layer, manifest), (&built.layer, &built.manifest))
}

/// Says what was found.
pub(super) fn print(recipe: &Path, found: &Difference) {
    if found.is_none() {
        println!("{} gives the same bytes again", recipe.display());
    } else {
        println!("{} gives another layer now:", recipe.display());
        diff::print(found);
    }
}

/// Status 1 when the sources give another layer.
pub(super) fn outcome(recipe: &Path, found: &Difference) -> Outcome {
    if found.is_none() {
        return Ok(());
    }
    let recipe = recipe.display();
    let error = anyhow!("the sources of {recipe} give another layer than this one");
    let next = "when that is newer packages, build and publish it; otherwise see who changed what";
    Err(Failure::new(Exit::No, error).next(next))
}
