//! The store: immutable objects named by their digest or number, and one name that moves.
//!
//! Objects are created if absent and never changed: `layers/DIGEST`, `manifests/DIGEST.json`, `metadata/N.ROLE.json`.
//! Only `metadata/timestamp.json` is replaced, as a whole. So readers need no lock, an interrupted writer leaves nothing
//! half-written, and a store in S3 can have the same shape. Writers of metadata hold [`Store::lock`].

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::FlockOperation;
use towline_contract::Digest;

use crate::private::{self, Lock};

const FOLDERS: [&str; 3] = ["layers", "manifests", "metadata"];

/// The file that writers of metadata lock, and how often who does not wait for long looks whether it is free.
const LOCK: &str = "lock";
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How the names of files begin that are not whole yet.
const HALF_WRITTEN: &str = ".new-";

/// No layer takes as long to write as this.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A store in a directory.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}")]
pub struct StoreError {
    what: &'static str,
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// What came of creating an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Created,
    /// There is one of that name already; it was left alone.
    Exists,
}

impl Store {
    /// The store in `dir`, whose folders are made if need be.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        for folder in FOLDERS {
            let path = dir.join(folder);
            fs::create_dir_all(&path).map_err(|cause| StoreError {
                what: "make",
                path,
                cause,
            })?;
        }
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Waits until no other process writes metadata, and keeps others from it until the lock is dropped.
    ///
    /// # Errors
    /// The lock's file cannot be opened.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        let lock = self.locked(FlockOperation::LockExclusive);
        lock.map_err(|cause| self.not_locked(cause))
    }

    /// The same, if it need not wait for longer than this; none if it would.
    ///
    /// # Errors
    /// The lock's file cannot be opened.
    pub fn lock_within(&self, patience: Duration) -> Result<Option<Lock>, StoreError> {
        let until = Instant::now() + patience;
        loop {
            match self.locked(FlockOperation::NonBlockingLockExclusive) {
                Ok(lock) => return Ok(Some(lock)),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(self.not_locked(error));
                }
                Err(_) if Instant::now() >= until => return Ok(None),
                Err(_) => std::thread::sleep(LOCK_PAUSE),
            }
        }
    }

    fn locked(&self, how: FlockOperation) -> io::Result<Lock> {
        private::lock_file(&File::open(&self.dir)?, LOCK, how)
    }

    fn not_locked(&self, cause: io::Error) -> StoreError {
        StoreError {
            what: "lock",
            path: self.dir.join(LOCK),
            cause,
        }
    }

    /// Removes what writers that were killed have left half-written: temporary files that nobody has touched for a day before `now`.
    ///
    /// # Errors
    /// A folder cannot be read, or such a file not be removed.
    pub fn sweep(&self, now: SystemTime) -> Result<(), StoreError> {
        for folder in FOLDERS.map(|it| self.dir.join(it)) {
            sweep_folder(&folder, now).map_err(|cause| StoreError {
                what: "remove half-written files from",
                path: folder,
                cause,
            })?;
        }
        Ok(())
    }

    /// Where a layer is or would be.
    #[must_use]
    pub fn layer_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("layers").join(digest.to_string())
    }

    /// Where a manifest is or would be.
    #[must_use]
    pub fn manifest_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("manifests").join(format!("{digest}.json"))
    }

    /// Where a metadata file is or would be.
    #[must_use]
    pub fn metadata_path(&self, file: &str) -> PathBuf {
        self.dir.join("metadata").join(file)
    }

    /// Reads an object of at most `max` bytes; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read, or is larger.
    pub fn read(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let failed = |cause| StoreError {
            what: "read",
            path: path.into(),
            cause,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > max {
            return Err(failed(io::Error::other(format!(
                "it is larger than {max} bytes"
            ))));
        }
        Ok(Some(bytes))
    }

    /// Creates the object `path` from `source`, all of it or nothing.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(&self, path: &Path, source: &mut dyn Read) -> Result<Put, StoreError> {
        if path.exists() {
            return Ok(Put::Exists);
        }
        let failed = |cause| StoreError {
            what: "write",
            path: path.into(),
            cause,
        };
        let written = write_beside(path, source).map_err(failed)?;
        match written.persist_noclobber(path) {
            Ok(_) => {
                sync_folder(path).map_err(failed)?;
                Ok(Put::Created)
            }
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(Put::Exists),
            Err(error) => Err(failed(error.error)),
        }
    }

    /// Replaces the object `path`, all of it or nothing.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |cause| StoreError {
            what: "write",
            path: path.into(),
            cause,
        };
        write_beside(path, &mut &bytes[..])
            .and_then(|written| written.persist(path).map_err(|error| error.error))
            .and_then(|_| sync_folder(path))
            .map_err(failed)
    }
}

/// A synced temporary file beside `path` with the bytes of `source`; the world may read it.
fn write_beside(path: &Path, source: &mut dyn Read) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(HALF_WRITTEN)
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)?;
    io::copy(source, file.as_file_mut())?;
    file.as_file_mut().flush()?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn sweep_folder(folder: &Path, now: SystemTime) -> io::Result<()> {
    for found in fs::read_dir(folder)? {
        let found = found?;
        if !found
            .file_name()
            .as_bytes()
            .starts_with(HALF_WRITTEN.as_bytes())
        {
            continue;
        }
        // Another writer may have ended in the meantime.
        let removed = found.metadata().and_then(|about| {
            let untouched = now.duration_since(about.modified()?).unwrap_or_default();
            if untouched > ABANDONED {
                fs::remove_file(found.path())?;
            }
            Ok(())
        });
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_created_once_and_never_changed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let path = store.metadata_path("1.root.json");
        assert_eq!(
            store.create(&path, &mut &b"first"[..]).unwrap(),
            Put::Created
        );
        assert_eq!(
            store.create(&path, &mut &b"second"[..]).unwrap(),
            Put::Exists
        );
        assert_eq!(store.read(&path, 10).unwrap().unwrap(), b"first");
    }

    #[test]
    fn a_source_that_fails_leaves_nothing_behind() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let path = store.layer_path(&Digest::of(b"x"));
        assert!(store.create(&path, &mut Fails).is_err());
        assert_eq!(fs::read_dir(dir.path().join("layers")).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_writer_left_goes_after_a_day_and_what_another_writes_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let left = dir.path().join("layers/.new-Xy12zA");
        fs::write(&left, "half").unwrap();
        let whole = store.layer_path(&Digest::of(b"x"));
        store.create(&whole, &mut &b"x"[..]).unwrap();
        let now = SystemTime::now();
        store.sweep(now).unwrap();
        assert!(left.exists());
        store.sweep(now + ABANDONED + ABANDONED).unwrap();
        assert!(!left.exists());
        assert!(whole.exists());
    }

    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let target = dir.path().join("target");
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("store/lock")).unwrap();
        assert!(store.lock().is_err());
        assert_eq!(fs::read(&target).unwrap(), b"kept");
    }

    #[test]
    fn an_object_larger_than_its_bound_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let path = store.metadata_path("timestamp.json");
        store.replace(&path, b"12345").unwrap();
        assert!(store.read(&path, 4).is_err());
    }
}
