//! Files of the site's state that only its owner can read: written whole, under a lock, in folders of mode 0700.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Name of the lock in each folder; names of hosts do not begin with a dot.
const LOCK: &str = ".lock";

/// Why a file of the state cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}")]
pub struct PrivateError {
    what: &'static str,
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// Excludes other writers of a folder until dropped.
pub struct Lock(#[expect(dead_code, reason = "the lock ends when the file is closed")] File);

/// Makes the folder if need be, and waits until nobody else writes in it.
///
/// # Errors
/// It cannot be made or locked.
pub fn lock(folder: &Path) -> Result<Lock, PrivateError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(failed("make", folder))?;
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(failed("lock", &path))?;
    let locked = flock(&file, FlockOperation::LockExclusive);
    locked.map_err(|errno| failed("lock", &path)(errno.into()))?;
    Ok(Lock(file))
}

/// The JSON document in the file, of at most `max` bytes; none when there is no file.
///
/// # Errors
/// It cannot be read, is larger, or is no such document.
pub fn read<T: DeserializeOwned>(path: &Path, max: u64) -> Result<Option<T>, PrivateError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let mut bytes = Vec::new();
    let taken = file.take(max + 1).read_to_end(&mut bytes);
    taken.map_err(failed("read", path))?;
    if bytes.len() as u64 > max {
        let larger = io::Error::other(format!("it is larger than {max} bytes"));
        return Err(failed("read", path)(larger));
    }
    let document = serde_json::from_slice(&bytes);
    document.map_err(|error| failed("understand", path)(error.into()))
}

/// Writes the document, all of it or nothing, for the owner alone.
///
/// # Errors
/// It cannot be written.
pub fn write<T: Serialize>(path: &Path, document: &T) -> Result<(), PrivateError> {
    let write = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        // Temporary files have mode 0600.
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(folder)?;
        serde_json::to_writer_pretty(file.as_file_mut(), document)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(failed("write", path))
}

/// Removes the file; says whether there was one.
///
/// # Errors
/// It cannot be removed.
pub fn remove(path: &Path) -> Result<bool, PrivateError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

/// Names of the documents in the folder; none when there is no folder.
///
/// # Errors
/// It cannot be read.
pub fn names(folder: &Path) -> Result<Vec<String>, PrivateError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed("read", folder))?.file_name();
        let name = name.to_string_lossy();
        if let Some(name) = name.strip_suffix(".json").filter(|it| !it.starts_with('.')) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Makes the error of a file.
pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateError {
    let path = path.to_owned();
    move |cause| PrivateError { what, path, cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_document_is_its_owners_alone_and_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state/hosts");
        let _lock = lock(&folder).unwrap();
        let path = folder.join("web1.json");
        write(&path, &"first").unwrap();
        write(&path, &"second").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
        assert_eq!(read::<String>(&path, 100).unwrap().unwrap(), "second");
        assert_eq!(names(&folder).unwrap(), ["web1"]);
        assert!(remove(&path).unwrap() && !remove(&path).unwrap());
        assert_eq!(read::<String>(&path, 100).unwrap(), None);
    }

    #[test]
    fn a_document_larger_than_its_bound_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web1.json");
        write(&path, &"x".repeat(100)).unwrap();
        assert!(read::<String>(&path, 99).is_err());
    }
}
