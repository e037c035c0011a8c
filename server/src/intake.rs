//! What `publish` takes in: a layer's file with its manifest beside it, verified from the first byte to the last.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use towline_contract::lanes::LayerPolicy;
use towline_contract::limits::MANIFEST_BYTES_MAX;
use towline_contract::manifest::{Manifest, ManifestError};
use towline_initramfs::stored::{self, StoredError};

use crate::catalogue::NewLayer;

/// Why a layer is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Its manifest cannot be read.
    #[error("cannot read the manifest {path}")]
    Read {
        /// The manifest's file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Its manifest is none.
    #[error("{path} is no usable manifest")]
    Manifest {
        /// The manifest's file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: ManifestError,
    },
    /// The layer is not what its manifest says, or breaks a rule of its kind.
    #[error(transparent)]
    Layer(#[from] StoredError),
}

/// Reads the manifest beside `path` and verifies the layer against it: size, digest, chunks, archive, and the rules of its
/// kind and of the site. What the manifest *says* of the layer (packages, needs) is the builder's word.
///
/// # Errors
/// See [`IntakeError`].
pub fn take(path: &Path, policy: &LayerPolicy) -> Result<NewLayer, IntakeError> {
    let beside = stored::manifest_path(path);
    let manifest_bytes = read(&beside).map_err(|cause| IntakeError::Read {
        path: beside.clone(),
        cause,
    })?;
    let mut manifest = Manifest::parse(&manifest_bytes).map_err(|cause| IntakeError::Manifest {
        path: beside,
        cause,
    })?;
    manifest.bounds = policy.bounds(manifest.kind);
    // What a layer may replace is decided where the layers below it are known: on the machine that unpacks it.
    stored::verify(path, &manifest, &[])?;
    Ok(NewLayer {
        path: path.into(),
        manifest,
        manifest_bytes,
    })
}

/// The file's bytes; of one that is too large, one byte more than a manifest may have.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MANIFEST_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
