//! Layers for the target: fetched when there are disks for them, and gone when the restore is over, whether it succeeded or not.
//!
//! ```text
//! /mnt/local/.towline-layers-RECOVERY/NN-NAME   what the files of a layer hold; NN is its place in the chain
//! /usr/bin/restic, …                            its names in the rescue system: links to those files ([`crate::place::OnDisk`])
//! ```
//! The folder has the name of the recovery, which is random: nothing of the host's has it, and what lies there is what an
//! interrupted try of the same recovery left. The links stay when it is gone, and lead nowhere; the next try finds them again.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use towline_contract::handover::HandOverNote;
use towline_contract::manifest::Manifest;
use towline_contract::trust::{TrustError, Verified};

use crate::fetch::{FetchError, Mirrors};
use crate::place::{OnDisk, PlaceError};
use crate::progress::Progress;

/// Room that a file or folder may take beside what it holds, in bytes: the rest of its last block, on the file systems that
/// hosts have.
const BLOCK_BYTES: u64 = 4096;

/// Why a layer is not on the target.
#[derive(Debug, thiserror::Error)]
pub enum OnTargetError {
    /// The hand-over note says what it may not say.
    #[error("the hand-over note is refused")]
    Note(#[source] Box<TrustError>),
    /// The hand-over note has no usable name for the recovery.
    #[error("the hand-over note is refused: the recovery's name {0:?} is none for a folder")]
    Name(String),
    /// Something is there that is no folder.
    #[error("{0} is there already, and is no folder of an earlier try")]
    Occupied(String),
    /// The layers are larger than the disk.
    #[error(
        "the layers for the target need {need_mib} MiB on the recreated root file system, and {free_mib} MiB are free"
    )]
    Room {
        /// What they need, in MiB, rounded up.
        need_mib: u64,
        /// What is free, in MiB.
        free_mib: u64,
    },
    /// The folder cannot be looked at or made.
    #[error("cannot {what} {path}")]
    Folder {
        /// What was done.
        what: &'static str,
        /// The folder.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A layer cannot be fetched, or not be placed.
    #[error("layer {layer} cannot be put onto the recreated file systems")]
    Layer {
        /// Target name.
        layer: String,
        /// Why.
        #[source]
        cause: Box<FetchError>,
    },
}

impl OnTargetError {
    /// What the person at the machine can do.
    #[must_use]
    pub fn next(&self) -> &'static str {
        match self {
            Self::Note(_) | Self::Name(_) => "restart, and start the recovery again",
            Self::Occupied(_) => "look at it in the shell, remove it, and try again",
            Self::Room { .. } => {
                "publish a smaller agent layer, or one with placement \"ram\", and start the recovery again"
            }
            Self::Folder { .. } => "read the kernel's messages about the disk, then try again",
            Self::Layer { cause, .. } => match &**cause {
                FetchError::Place(refused) if is_the_layers_fault(refused) => {
                    "tell whoever publishes this layer, and start the recovery again when there is a newer one"
                }
                FetchError::Place(_) => {
                    "look at the disk and its room in the shell, then try again"
                }
                _ => "check that the mirrors have the layer, and the network, then try again",
            },
        }
    }
}

/// The layers of one recovery that go onto its target.
pub struct OnTarget {
    root: PathBuf,
    target: PathBuf,
    /// On the target, of this recovery alone.
    folder: PathBuf,
    layers: Vec<(PathBuf, Verified<Manifest>)>,
    replaceable: Vec<String>,
}

impl OnTarget {
    /// Those that the note leaves to the rescue system whose tree is `root`, for file systems mounted at `target`.
    ///
    /// # Errors
    /// The note contradicts itself.
    pub fn of(note: &HandOverNote, root: &Path, target: &Path) -> Result<Self, OnTargetError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if note.recovery.is_empty() || !note.recovery.bytes().all(is_plain) {
            return Err(OnTargetError::Name(note.recovery.clone()));
        }
        let folder = target.join(format!(".towline-layers-{}", note.recovery));
        let mut layers = Vec::new();
        for (index, layer) in note.layers.iter().enumerate() {
            if let Some(manifest) = layer.for_target().map_err(note_refused)? {
                let own = folder.join(format!("{index:02}-{}", manifest.name));
                layers.push((own, manifest));
            }
        }
        Ok(Self {
            root: root.to_owned(),
            target: target.to_owned(),
            folder,
            layers,
            replaceable: note.replaceable.clone(),
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Fetches, verifies and places all of them, in the order of the chain. `placed` hears of each, with the time it took.
    ///
    /// # Errors
    /// There is no room, no mirror has a layer, or it holds what it may not. What is there then goes by [`Self::remove`].
    pub async fn place(
        &self,
        mirrors: &Mirrors,
        progress: &dyn Progress,
        placed: &mut dyn FnMut(&Manifest, Duration),
    ) -> Result<(), OnTargetError> {
        if self.is_empty() {
            return Ok(());
        }
        self.make_folder()?;
        self.check_room()?;
        for (folder, manifest) in &self.layers {
            let started = Instant::now();
            let layer = manifest.target_name();
            progress.step(format_args!("fetching {layer} onto the disk"));
            make(folder)?;
            let done = self.fetch(mirrors, progress, folder, manifest).await;
            done.map_err(|cause| OnTargetError::Layer {
                layer,
                cause: Box::new(cause),
            })?;
            placed(manifest, started.elapsed());
        }
        Ok(())
    }

    /// Asks the mirrors for the beginning of each layer: before the disks are written is the time to hear that none has it.
    ///
    /// # Errors
    /// No mirror has a layer.
    pub async fn are_there(
        &self,
        mirrors: &Mirrors,
        progress: &dyn Progress,
    ) -> Result<(), OnTargetError> {
        for (_, manifest) in &self.layers {
            let layer = manifest.target_name();
            progress.step(format_args!("asking the mirrors for {layer}"));
            let found = mirrors.has(manifest, progress).await;
            found.map_err(|cause| OnTargetError::Layer {
                layer,
                cause: Box::new(cause),
            })?;
        }
        Ok(())
    }

    /// Where all of them lie; nothing of it is the host's.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    async fn fetch(
        &self,
        mirrors: &Mirrors,
        progress: &dyn Progress,
        folder: &Path,
        manifest: &Verified<Manifest>,
    ) -> Result<(), FetchError> {
        let on_disk = OnDisk {
            root: &self.root,
            target: &self.target,
            folder,
            replaceable: &self.replaceable,
        };
        let mut sink = on_disk.layer(manifest)?;
        mirrors
            .layer(manifest, &mut |chunk| sink.chunk(chunk), progress)
            .await?;
        Ok(sink.finish()?)
    }

    /// Removes what [`Self::place`] put onto the target, if anything.
    ///
    /// # Errors
    /// A part of it cannot be removed.
    pub fn remove(&self) -> Result<(), OnTargetError> {
        if self.is_empty() || !self.is_there()? {
            return Ok(());
        }
        fs::remove_dir_all(&self.folder).map_err(failed("remove", &self.folder))
    }

    /// Whether the folder is there; anything else in its place is somebody's.
    fn is_there(&self) -> Result<bool, OnTargetError> {
        match fs::symlink_metadata(&self.folder) {
            Ok(found) if found.is_dir() => Ok(true),
            Ok(_) => Err(OnTargetError::Occupied(self.folder.display().to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("look at", &self.folder)(error)),
        }
    }

    /// An empty folder, in place of what an interrupted try left.
    fn make_folder(&self) -> Result<(), OnTargetError> {
        self.remove()?;
        make(&self.folder)
    }

    fn check_room(&self) -> Result<(), OnTargetError> {
        let found = rustix::fs::statvfs(&self.folder).map_err(io::Error::from);
        let found = found.map_err(failed("look at", &self.folder))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        room(self.layers.iter().map(|(_, manifest)| &**manifest), free)
    }
}

/// Whether the layers find room; they are unpacked while they download, and not stored beside that.
fn room<'a>(
    manifests: impl Iterator<Item = &'a Manifest>,
    free_bytes: u64,
) -> Result<(), OnTargetError> {
    let bytes = |it: &Manifest| it.unpacked_bytes + it.entries.saturating_mul(BLOCK_BYTES);
    let need_bytes: u64 = manifests.map(bytes).sum();
    if need_bytes <= free_bytes {
        return Ok(());
    }
    Err(OnTargetError::Room {
        need_mib: need_bytes.div_ceil(1 << 20),
        free_mib: free_bytes >> 20,
    })
}

fn is_the_layers_fault(refused: &PlaceError) -> bool {
    matches!(
        refused,
        PlaceError::Over { .. } | PlaceError::Lane(_) | PlaceError::Decompress { .. }
    )
}

fn note_refused(cause: TrustError) -> OnTargetError {
    OnTargetError::Note(Box::new(cause))
}

fn make(folder: &Path) -> Result<(), OnTargetError> {
    let made = DirBuilder::new().mode(0o755).create(folder);
    made.map_err(failed("make", folder))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OnTargetError {
    let path = path.display().to_string();
    move |cause| OnTargetError::Folder { what, path, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_on_the_target_is_told_with_both_figures() {
        let base = include_str!("../../../contract/tests/golden/v1/base.manifest.json");
        let mut manifest = Manifest::parse(base.as_bytes()).unwrap();
        (manifest.unpacked_bytes, manifest.entries) = (900 << 20, 256);
        assert!(room([&manifest].into_iter(), 901 << 20).is_ok());
        let error = room([&manifest].into_iter(), 7 << 20).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("901 MiB") && error.contains("7 MiB are free"),
            "{error}"
        );
    }
}
