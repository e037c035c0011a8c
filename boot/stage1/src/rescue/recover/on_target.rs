//! Layers for the target: fetched when there are disks for them, each into a folder of its own on the recreated root file
//! system, and removed after the restore, whether it succeeded or not.
//!
//! ```text
//! /mnt/local/.towline/layers/NN-NAME     NN is the layer's place in the chain; mode 0700
//! ```

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use towline_contract::event::What;
use towline_contract::handover::HandOverNote;
use towline_contract::manifest::Manifest;
use towline_contract::trust::Verified;

use super::agent::{Recovering, TARGET};
use super::error::{RecoverError, file};
use super::reports::Reports;
use crate::clock;
use crate::console::Console;
use crate::fetch::{Client, FetchError, Mirrors, TlsTime};
use crate::place::layer_in;
use crate::progress::Progress as _;

/// The folders that are made for all of them, from the root file system down.
const FOLDERS: &[&str] = &[".towline", ".towline/layers"];

/// Where the layer with this index and target name lies on the target.
pub(super) fn folder(index: usize, target: &str) -> PathBuf {
    let name = target.split('/').nth(1).unwrap_or_default();
    let folder = format!("{TARGET}/.towline/layers/{index:02}-{name}");
    PathBuf::from(folder)
}

/// Fetches and unpacks the chain's layers for the target. Nothing of them stays after an error.
///
/// # Errors
/// There is no room, no mirror has them, or one holds what it may not.
pub(super) async fn place(
    console: &Console,
    it: &Recovering<'_>,
    note: &HandOverNote,
    reports: &Reports,
) -> Result<(), RecoverError> {
    let mut wanted = Vec::new();
    for (index, layer) in note.layers.iter().enumerate() {
        let untrusted = |cause| {
            failed(
                &layer.target,
                FetchError::Trust {
                    server: "the hand-over note".into(),
                    cause: Box::new(cause),
                },
            )
        };
        if let Some(manifest) = layer.for_target().map_err(untrusted)? {
            wanted.push((folder(index, &layer.target), manifest));
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let manifests: Vec<&Manifest> = wanted.iter().map(|(_, manifest)| &**manifest).collect();
    room(&manifests, free(Path::new(TARGET))?)?;
    let time = TlsTime::Proven {
        time: clock::now(),
        since: Instant::now(),
    };
    let client = Client::new(&note.ca, time).map_err(|cause| failed("of the chain", cause))?;
    let mirrors = Mirrors::named(client, &note.mirrors, console);
    for (folder, manifest) in &wanted {
        if let Err(error) = one(console, &mirrors, reports, folder, manifest).await {
            remove(console, it);
            return Err(error);
        }
    }
    Ok(())
}

async fn one(
    console: &Console,
    mirrors: &Mirrors,
    reports: &Reports,
    folder: &Path,
    manifest: &Verified<Manifest>,
) -> Result<(), RecoverError> {
    let (started, target) = (Instant::now(), manifest.target_name());
    console.step(format_args!(
        "fetching {target} onto the disk, into {}",
        folder.display()
    ));
    fresh(Path::new(TARGET), folder).map_err(file("make", folder))?;
    let fetched = async {
        let mut sink = layer_in(folder, manifest)?;
        mirrors
            .layer(manifest, &mut |chunk| sink.chunk(chunk), console)
            .await?;
        sink.finish().map_err(FetchError::from)
    };
    fetched.await.map_err(|cause| failed(&target, cause))?;
    reports.tell_meanwhile(What::LayerPlaced {
        target,
        bytes: manifest.stored_bytes,
        milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    Ok(())
}

/// Removes the layers' folders, and those above them as far as they are empty.
pub(super) fn remove(console: &Console, it: &Recovering<'_>) {
    for folder in &it.on_target {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                console.warn(format_args!("cannot remove {}: {error}", folder.display()));
            }
            _ => {}
        }
    }
    for folder in FOLDERS.iter().rev() {
        // What else is in it is another's.
        let _ = fs::remove_dir(Path::new(TARGET).join(folder));
    }
}

/// An empty `folder` below `root`, in place of what an interrupted recovery left there. Never through a link.
fn fresh(root: &Path, folder: &Path) -> io::Result<()> {
    for parent in FOLDERS {
        let parent = root.join(parent);
        match DirBuilder::new().mode(0o700).create(&parent) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !fs::symlink_metadata(&parent)?.is_dir() {
            let why = format!("{} is no folder", parent.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, why));
        }
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(folder)
}

fn free(root: &Path) -> Result<u64, RecoverError> {
    let found = rustix::fs::statvfs(root).map_err(io::Error::from);
    let found = found.map_err(file("look at", root))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Whether the layers find room; they are unpacked while they download, and not stored beside that.
fn room(manifests: &[&Manifest], free: u64) -> Result<(), RecoverError> {
    let need: u64 = manifests.iter().map(|it| it.unpacked_bytes).sum();
    if need <= free {
        return Ok(());
    }
    let stored: u64 = manifests.iter().map(|it| it.stored_bytes).sum();
    let mib = |bytes: u64| bytes >> 20;
    let what = format!(
        "the layers for the target ({} MiB to download) need {} MiB on the recreated root file system, and {} MiB are free",
        mib(stored),
        mib(need),
        mib(free)
    );
    let next = "publish a smaller agent layer, or one with placement \"ram\"";
    Err(RecoverError::refused(what, next))
}

fn failed(layer: &str, cause: FetchError) -> RecoverError {
    RecoverError::Layer {
        layer: layer.to_owned(),
        cause: Box::new(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn what_an_interrupted_recovery_left_is_replaced_by_an_empty_private_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(".towline/layers/02-restic");
        fs::create_dir_all(folder.join("usr/bin")).unwrap();
        fs::write(folder.join("usr/bin/restic"), "half").unwrap();
        fresh(root.path(), &folder).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
    }

    #[test]
    fn a_link_of_the_target_never_leads_a_layer_elsewhere() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(elsewhere.path().join("layers/02-restic/keep")).unwrap();
        symlink(elsewhere.path(), root.path().join(".towline")).unwrap();
        assert!(fresh(root.path(), &root.path().join(".towline/layers/02-restic")).is_err());
        assert!(elsewhere.path().join("layers/02-restic/keep").exists());
    }

    #[test]
    fn too_little_room_on_the_target_is_told_with_both_figures() {
        let base = include_str!("../../../../contract/tests/golden/v1/base.manifest.json");
        let mut manifest = Manifest::parse(base.as_bytes()).unwrap();
        manifest.unpacked_bytes = 900 << 20;
        assert!(room(&[&manifest], 900 << 20).is_ok());
        let error = room(&[&manifest], 7 << 20).unwrap_err().to_string();
        assert!(
            error.contains("900 MiB") && error.contains("7 MiB are free"),
            "{error}"
        );
    }
}
