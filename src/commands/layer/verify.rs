//! `towline layer verify`: a layer against its manifest, the rules of its kind, and its sources.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use towline_contract::manifest::{Kind, Manifest};
use towline_initramfs::diff::Difference;
use towline_initramfs::stored::{self, StoredError};

use super::build::BuildWith;
use super::sources;
use crate::exit::{Exit, Failure, Outcome};

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// The layer
    layer: PathBuf,
    /// Its manifest [default: the file of the same name with .manifest.json]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Build this recipe again, aside, and compare. Exit status 1 when its
    /// sources give another layer
    #[arg(long, value_name = "RECIPE")]
    sources: Option<PathBuf>,
    #[command(flatten)]
    with: BuildWith,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl VerifyArgs {
    /// Whether it builds a recipe.
    pub(super) fn builds(&self) -> bool {
        self.sources.is_some()
    }
}

pub(super) fn run(args: &VerifyArgs, quiet: bool) -> Outcome {
    if args.sources.is_none() && !args.with.is_empty() {
        let error = anyhow!("--set, --cache and --for-kernel are for building a recipe again");
        return Err(Failure::new(Exit::Usage, error).next("name the recipe: --sources RECIPE"));
    }
    let manifest = manifest(&args.layer, args.manifest.as_deref())?;
    // Alone, a base may replace its own list; what other layers may replace is known in a chain only.
    let replaceable = if manifest.kind == Kind::Base {
        manifest.replaceable.as_slice()
    } else {
        &[]
    };
    let verified = stored::verify(&args.layer, &manifest, replaceable);
    let target = manifest.target_name();
    let report = |fault: Option<String>, sources: Option<&Difference>| {
        if args.json {
            let same = sources.map(Difference::is_none);
            let ok = fault.is_none() && same != Some(false);
            println!(
                "{:#}",
                json!({ "target": target, "ok": ok, "fault": fault, "sources": sources })
            );
        }
    };
    if let Err(error) = verified {
        report(Some(error.to_string()), None);
        return Err(failure(error));
    }
    if !args.json {
        println!(
            "{target} is whole: {} bytes, {} entries, digest {}",
            manifest.stored_bytes, manifest.entries, manifest.digest
        );
    }
    let Some(recipe) = &args.sources else {
        report(None, None);
        return Ok(());
    };
    let found = sources::compare(&args.layer, &manifest, recipe, &args.with, quiet)?;
    report(None, Some(&found));
    if !args.json {
        sources::print(recipe, &found);
    }
    sources::outcome(recipe, &found)
}

/// The manifest of the layer.
pub(super) fn manifest(layer: &Path, chosen: Option<&Path>) -> Result<Manifest, Failure> {
    let path = chosen.map_or_else(|| stored::manifest_path(layer), Path::to_owned);
    stored::read_manifest(&path).map_err(|error| {
        Failure::new(Exit::Usage, error)
            .next("a layer's manifest lies beside it, or is named with --manifest")
    })
}

/// The failure of a layer that is not what its manifest says.
pub(super) fn failure(error: StoredError) -> Failure {
    let exit = match &error {
        StoredError::Read { .. } => Exit::Usage,
        _ => Exit::NotTrusted,
    };
    Failure::new(exit, error).next("do not publish this layer; build it again from its recipe")
}
