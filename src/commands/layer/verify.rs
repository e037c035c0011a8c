//! `towline layer verify`: a layer against its manifest and the rules of its kind.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use towline_contract::manifest::{Kind, Manifest};
use towline_initramfs::stored::{self, StoredError};

use crate::exit::{Exit, Failure, Outcome};

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// The layer
    layer: PathBuf,
    /// Its manifest [default: the file of the same name with .manifest.json]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> Outcome {
    let manifest = manifest(&args.layer, args.manifest.as_deref())?;
    // Alone, a base may replace its own list; what other layers may replace is known in a chain only.
    let replaceable = if manifest.kind == Kind::Base {
        manifest.replaceable.as_slice()
    } else {
        &[]
    };
    let verified = stored::verify(&args.layer, &manifest, replaceable);
    if args.json {
        let fault = verified.as_ref().err().map(ToString::to_string);
        println!(
            "{}",
            json!({ "target": manifest.target_name(), "ok": fault.is_none(), "fault": fault })
        );
    }
    verified.map_err(failure)?;
    if !args.json {
        println!(
            "{} is whole: {} bytes, {} entries, digest {}",
            manifest.target_name(),
            manifest.stored_bytes,
            manifest.entries,
            manifest.digest
        );
    }
    Ok(())
}

/// The manifest of the layer.
pub(super) fn manifest(layer: &Path, chosen: Option<&Path>) -> Result<Manifest, Failure> {
    let path = chosen.map_or_else(|| stored::manifest_path(layer), Path::to_owned);
    stored::read_manifest(&path).map_err(|error| {
        Failure::new(Exit::Usage, error)
            .next("a layer's manifest lies beside it, or is named with --manifest")
    })
}

fn failure(error: StoredError) -> Failure {
    let exit = match &error {
        StoredError::Read { .. } => Exit::Usage,
        _ => Exit::NotTrusted,
    };
    Failure::new(exit, error).next("do not publish this layer; build it again from its recipe")
}
