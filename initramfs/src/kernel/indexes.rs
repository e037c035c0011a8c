//! The indexes that loaders of modules read, written by `depmod` (kmod) for exactly the modules that are taken.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::KernelError;
use crate::content::Content;

/// Writes `files` (modules, and the lists that came with the kernel) to a temporary folder, runs `depmod` over it, and
/// gives the `modules.*` files by name.
pub(super) fn by_depmod<'a>(
    release: &str,
    files: impl Iterator<Item = (&'a str, &'a Content)>,
) -> Result<BTreeMap<String, Content>, KernelError> {
    let root = tempfile::tempdir().map_err(KernelError::Temporary)?;
    let dir = root.path().join("lib/modules").join(release);
    for (path, content) in files {
        put(&dir.join(path), content).map_err(KernelError::Temporary)?;
    }
    depmod(root.path(), release)?;
    read(&dir).map_err(KernelError::Temporary)
}

fn put(path: &Path, content: &Content) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = fs::File::create(path)?;
    io::copy(&mut content.reader()?, &mut file).map(drop)
}

fn read(dir: &Path) -> io::Result<BTreeMap<String, Content>> {
    let mut indexes = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && name.starts_with("modules.") {
            indexes.insert(name, Content::from_bytes(fs::read(entry.path())?));
        }
    }
    Ok(indexes)
}

fn depmod(root: &Path, release: &str) -> Result<(), KernelError> {
    // An ordinary user's PATH often lacks the directories of system programs.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new("depmod")
        .arg("-b")
        .arg(root)
        .arg(release)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| KernelError::Depmod(cause.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(KernelError::Depmod(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}
