//! The catalogue: TUF metadata in the store, read, changed and kept fresh.
//!
//! Every change writes new numbered files, verifies the whole as a machine would, and then moves `timestamp.json`; until that,
//! nothing has changed. A number left over from an interrupted change is skipped, or written over by what was signed for that
//! very number elsewhere; what a timestamp named is never written over.

mod change;
mod ever;
mod first;
mod host_view;
mod hosts;
mod placing;
mod policy;
mod publish;
mod rotate;
mod to_sign;
mod waiting;
mod written;

use std::path::PathBuf;

use towline_contract::Digest;
use towline_contract::limits::{MANIFEST_BYTES_MAX, METADATA_BYTES_MAX, ROOT_BYTES_MAX};
use towline_contract::manifest::{Manifest, ManifestError};
use towline_contract::trust::metadata::TargetFile;
use towline_contract::trust::{
    KeyId, SignedView, TIMESTAMP_FILE, TargetName, TrustError, TrustedRoot,
};
use towline_initramfs::stored::StoredError;

use crate::collisions::Collision;
use crate::keys::{AgentError, KeyError};
use crate::private::PrivateError;
use crate::review::Unmet;
use crate::store::{Store, StoreError};

pub use change::refresh;
pub use ever::ever_published;
pub use first::{FirstKeys, RoleKeys, create};
pub use host_view::{HostView, host_view, view_of};
pub use hosts::{
    HostFile, Succession, add_session, approve, approve_locked, freeze, host_file, host_layers,
    remove,
};
pub use policy::set_policy;
pub use publish::{Missing, NewLayer, Outcome, publish, publish_instead, retire};
pub use rotate::{Change, Rotated, Rotation, Size, rotate};
pub use to_sign::ToSign;
pub use waiting::{Lacking, WaitingDocument, waiting};

/// Numbers that an interrupted change may have left over before one is free.
const LEFT_OVER_MAX: u64 = 1000;

/// Why the catalogue cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Published layers that break a policy which is to be signed.
    #[error("published layers do not keep to this policy: {}", .0.join("; "))]
    Policy(Vec<String>),
    /// A file that should be there is not.
    #[error("the store has no {0}")]
    Missing(String),
    /// See the cause.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalogue in the store does not verify, or cannot be signed.
    #[error("the catalogue in the store is not trusted")]
    Trust(#[from] TrustError),
    /// See the cause.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// See the cause.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A manifest in the store cannot be read.
    #[error("the manifest of {target} in the store cannot be used")]
    Manifest {
        /// The layer.
        target: String,
        /// Why.
        #[source]
        cause: ManifestError,
    },
    /// Another layer has that name and version.
    #[error("{target} is published already with digest {published}, and this one has {found}")]
    Taken {
        /// The layer.
        target: String,
        /// Digest in the catalogue, or of the one given before it.
        published: Digest,
        /// Digest of the new one.
        found: Digest,
    },
    /// The same layer bytes with another manifest.
    #[error(
        "{target} is published already with manifest {published}, and this one has {found}: the same bytes, otherwise described"
    )]
    OtherManifest {
        /// The layer.
        target: String,
        /// Digest of the manifest in the catalogue.
        published: Digest,
        /// Digest of the new one.
        found: Digest,
    },
    /// The chain would lack something.
    #[error("machines would lack {}", unmet_list(.0))]
    Unmet(Vec<Unmet>),
    /// No machine could place the layers over one another.
    #[error("machines would refuse these layers: {}", rows_list(.0.iter().map(ToString::to_string)))]
    Collisions(Vec<Collision>),
    /// A layer that is to be looked into, new or in the store, cannot be.
    #[error(transparent)]
    Layer(#[from] StoredError),
    /// Nothing has that name and version.
    #[error("no layer {name} {version} is published")]
    Unknown {
        /// Name asked for.
        name: String,
        /// Version asked for.
        version: String,
    },
    /// The host has another key already.
    #[error("host {host} has the key {} in the catalogue, and not {}", known.fingerprint(), found.fingerprint())]
    OtherKey {
        /// The host.
        host: String,
        /// Identifier of the key in the catalogue.
        known: KeyId,
        /// Identifier of the new one.
        found: KeyId,
    },
    /// More than machines read.
    #[error(
        "the catalogue's {role} would have {found} bytes, and machines read {METADATA_BYTES_MAX}"
    )]
    TooLarge {
        /// The role.
        role: String,
        /// Size in bytes.
        found: u64,
    },
    /// Keys that are elsewhere must sign first.
    #[error("nothing has changed yet, for signatures are missing: {}", rows_list(.0.iter().map(ToString::to_string)))]
    ToSign(Vec<ToSign>),
    /// There is no such role, or it cannot be changed in this way.
    #[error("{0}")]
    Role(String),
    /// Another change waits for signatures.
    #[error("another change waits for signatures in {0}")]
    Waits(PathBuf),
    /// See the cause.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// No number is free.
    #[error("{LEFT_OVER_MAX} numbers of {0} are taken by interrupted changes")]
    NoNumber(String),
}

fn unmet_list(rows: &[Unmet]) -> String {
    let row = |row: &Unmet| format!("{} (needed by {}, over {})", row.need, row.layer, row.base);
    rows_list(rows.iter().map(row))
}

/// The first rows, and how many more there are.
fn rows_list(rows: impl ExactSizeIterator<Item = String>) -> String {
    const ROWS_MAX: usize = 12;
    let all = rows.len();
    let mut texts: Vec<_> = rows.take(ROWS_MAX).collect();
    if all > ROWS_MAX {
        texts.push(format!("and {} more", all - ROWS_MAX));
    }
    texts.join("; ")
}

type Result<T> = std::result::Result<T, CatalogueError>;

/// The catalogue as it is now: verified from the store's first root on, as a machine would.
///
/// # Errors
/// See [`CatalogueError`].
pub fn view(store: &Store) -> Result<SignedView> {
    verified(newest_root(store)?, |file, max| metadata(store, file, max))
}

/// Whether no root has followed the one that the view was read by.
#[must_use]
pub fn has_newest_root(store: &Store, view: &SignedView) -> bool {
    let next = view.root().header.version.saturating_add(1);
    !store.metadata_path(&format!("{next}.root.json")).exists()
}

/// The newest root: the store's first one, and those that follow it.
fn newest_root(store: &Store) -> Result<TrustedRoot> {
    let mut root = TrustedRoot::from_stamp(&metadata(store, "1.root.json", ROOT_BYTES_MAX)?)?;
    while let Some(bytes) = store.read(&store.metadata_path(&root.next_file()), root.max_bytes())? {
        root = root.rotate(&bytes)?;
    }
    Ok(root)
}

/// The catalogue under this root, whose other files `get` gives.
fn verified(root: TrustedRoot, get: impl Fn(&str, u64) -> Result<Vec<u8>>) -> Result<SignedView> {
    let max = root.timestamp_max_bytes();
    let timestamp = root.timestamp(&get(TIMESTAMP_FILE, max)?)?;
    let bytes = get(&timestamp.next_file(), timestamp.max_bytes())?;
    let snapshot = timestamp.snapshot(&bytes)?;
    let bytes = get(&snapshot.next_file(), snapshot.max_bytes())?;
    let mut view = snapshot.targets(&bytes)?;
    for file in view.role_files() {
        let bytes = get(&file.file(), file.max_bytes)?;
        view = view.with_role(&file.role, &bytes)?;
    }
    Ok(view)
}

/// A layer of the catalogue with its manifest.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its name.
    pub target: TargetName,
    /// What it is.
    pub manifest: Manifest,
}

/// The layers of `view` with their manifests, by kind, name and version.
///
/// # Errors
/// A manifest is missing or damaged.
pub fn layers(store: &Store, view: &SignedView) -> Result<Vec<Published>> {
    // The catalogue may hold files that are no layers; those are not ours.
    let layers = view
        .layers()
        .iter()
        .filter(|(_, file)| file.layer().is_some());
    layers
        .map(|(name, file)| published(store, name, file))
        .collect()
}

fn published(store: &Store, name: &str, file: &TargetFile) -> Result<Published> {
    let missing = |what: &str| CatalogueError::Missing(format!("{what} of {name}"));
    let custom = file.layer().ok_or_else(|| missing("manifest"))?;
    let digest = custom.manifest.sha256;
    let bytes = store
        .read(&store.manifest_path(&digest), MANIFEST_BYTES_MAX)?
        .filter(|bytes| Digest::of(bytes) == digest)
        .ok_or_else(|| missing(&format!("manifest {digest}")))?;
    let manifest = Manifest::parse(&bytes).map_err(|cause| CatalogueError::Manifest {
        target: name.into(),
        cause,
    })?;
    let target = name.parse().map_err(|_| missing("layer"))?;
    Ok(Published { target, manifest })
}

fn metadata(store: &Store, file: &str, max: u64) -> Result<Vec<u8>> {
    let bytes = store.read(&store.metadata_path(file), max)?;
    bytes.ok_or_else(|| CatalogueError::Missing(file.into()))
}

#[cfg(test)]
mod tests;
