//! Files of the site's state that only its owner can read: written whole, under a lock, in folders of mode 0700.
//!
//! The state may belong to another user, who may have been taken over, and root works in it too. So no link is followed to a
//! file or folder of the state, every file is one of its own ([`plain`]), and what root makes is given to the owner of its
//! folder ([`owner::as_folder`]).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::owner;

/// Name of the lock in each folder; names of hosts do not begin with a dot.
const LOCK: &str = ".lock";

/// How files are opened: not by a link, not in a child, and without waiting for the other end of a pipe.
const PLAIN: OFlags = OFlags::NOFOLLOW
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// Why a file of the state cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}")]
pub struct PrivateError {
    what: &'static str,
    path: PathBuf,
    #[source]
    cause: io::Error,
}

impl PrivateError {
    /// Whether somebody else has the lock.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.cause.kind() == io::ErrorKind::WouldBlock
    }
}

/// A folder of the state.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    file: File,
}

/// A folder that nobody else writes in until this is dropped.
#[derive(Debug)]
pub struct Locked {
    folder: Folder,
    _lock: Lock,
}

/// Nobody else has the lock's file locked until this is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    /// Closing alone would not do: a program that another thread is just starting may still have the file open.
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Makes the folder if need be, and waits until nobody else writes in it.
///
/// # Errors
/// It cannot be made or locked.
pub fn lock(folder: &Path) -> Result<Locked, PrivateError> {
    Folder::make(folder)?.lock()
}

impl Folder {
    /// The folder, and those above it, made if need be.
    ///
    /// # Errors
    /// It cannot be made, or is a link.
    pub fn make(path: &Path) -> Result<Self, PrivateError> {
        let above = path.parent().filter(|it| !it.as_os_str().is_empty());
        let above = above.unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or(OsStr::new("."));
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, above, flags, Mode::empty()) {
            Err(Errno::NOENT) => Self::make(above)?.within(name),
            Err(errno) => Err(failed("open", above)(errno.into())),
            Ok(file) => Self {
                path: above.into(),
                file: file.into(),
            }
            .within(name),
        }
    }

    /// The folder of this name in this one, made if need be.
    ///
    /// # Errors
    /// It cannot be made, or is a link.
    pub fn within(&self, name: impl AsRef<OsStr>) -> Result<Self, PrivateError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        let made = || {
            match mkdirat(&self.file, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(openat(&self.file, name, flags, Mode::empty())?);
            owner::as_folder(&file, &self.file)?;
            Ok(file)
        };
        let file = made().map_err(failed("make the folder", &path))?;
        Ok(Self { path, file })
    }

    /// Waits until nobody else writes in the folder.
    ///
    /// # Errors
    /// It cannot be locked.
    pub fn lock(self) -> Result<Locked, PrivateError> {
        self.locked(FlockOperation::LockExclusive)
    }

    /// Locks the folder, if nobody else writes in it.
    ///
    /// # Errors
    /// Somebody does, or it cannot be locked.
    pub fn try_lock(self) -> Result<Locked, PrivateError> {
        self.locked(FlockOperation::NonBlockingLockExclusive)
    }

    fn locked(self, how: FlockOperation) -> Result<Locked, PrivateError> {
        let lock = lock_file(&self.file, LOCK, how);
        let lock = lock.map_err(failed("lock", &self.path.join(LOCK)))?;
        Ok(Locked {
            folder: self,
            _lock: lock,
        })
    }
}

impl Locked {
    /// Writes the document, all of it or nothing, for the owner alone.
    ///
    /// # Errors
    /// It cannot be written, or takes more than the `max` bytes that are read again.
    pub fn write<T: Serialize>(
        &self,
        name: &str,
        document: &T,
        max: u64,
    ) -> Result<(), PrivateError> {
        let bytes = || {
            let mut bytes = serde_json::to_vec_pretty(document)?;
            bytes.push(b'\n');
            match bytes.len() as u64 > max {
                true => Err(larger(max)),
                false => Ok(bytes),
            }
        };
        let bytes = bytes().map_err(failed("write", &self.path(name)))?;
        self.write_from(name, &mut &bytes[..])
    }

    /// Writes the file, all of it or nothing, for the owner alone.
    ///
    /// # Errors
    /// It cannot be written, or `source` cannot be read.
    pub fn write_from(&self, name: &str, source: &mut dyn Read) -> Result<(), PrivateError> {
        let folder = &self.folder.file;
        let mut write = || {
            // The open folder itself, whatever its path leads to by now. Temporary files have mode 0600.
            let here = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
            let mut file = tempfile::Builder::new()
                .prefix(".new-")
                .tempfile_in(&here)?;
            io::copy(source, file.as_file_mut())?;
            owner::as_folder(file.as_file(), folder)?;
            file.as_file().sync_all()?;
            file.persist(here.join(name)).map_err(|error| error.error)?;
            folder.sync_all()
        };
        write().map_err(failed("write", &self.path(name)))
    }

    /// The file, made if need be, for reading and for adding to its end.
    ///
    /// # Errors
    /// It cannot be opened, or is no file of its own.
    pub fn appended(&self, name: &str) -> Result<File, PrivateError> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
        let file = plain(&self.folder.file, name, flags);
        file.map_err(failed("write", &self.path(name)))
    }

    /// Removes the file; says whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, PrivateError> {
        match unlinkat(&self.folder.file, name, rustix::fs::AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("remove", &self.path(name))(errno.into())),
        }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path.join(name)
    }
}

/// The lock of this name in an open folder.
pub(crate) fn lock_file(folder: &File, name: &str, how: FlockOperation) -> io::Result<Lock> {
    let file = plain(folder, name, OFlags::RDWR | OFlags::CREATE)?;
    flock(&file, how)?;
    Ok(Lock(file))
}

/// Opens a regular file of a folder, by no link and without another name: what is written to it, and whom it is given to,
/// concerns no file of anybody else. One that root makes is given to the owner of the folder.
fn plain(folder: &File, name: &str, flags: OFlags) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    let file = File::from(openat(folder, name, flags | PLAIN, mode)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        let what = "it is a link, has another name elsewhere, or is no regular file";
        return Err(io::Error::other(what));
    }
    owner::as_folder(&file, folder)?;
    Ok(file)
}

/// Whether the last who added a line to this file of so many bytes was interrupted, or found no room for all of it.
pub(crate) fn ends_within_a_line(file: &File, bytes: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let mut last = [0];
    match bytes.checked_sub(1) {
        None => Ok(false),
        Some(at) => file.read_exact_at(&mut last, at).map(|()| last != *b"\n"),
    }
}

/// The JSON document in the file, of at most `max` bytes; none when there is no file.
///
/// # Errors
/// It cannot be read, is larger, or is no such document.
pub fn read<T: DeserializeOwned>(path: &Path, max: u64) -> Result<Option<T>, PrivateError> {
    let Some(bytes) = read_bytes(path, max)? else {
        return Ok(None);
    };
    let document = serde_json::from_slice(&bytes);
    document.map_err(|error| failed("understand", path)(error.into()))
}

/// The file, of at most `max` bytes; none when there is no file.
///
/// # Errors
/// It cannot be read, is larger, or is a link.
pub fn read_bytes(path: &Path, max: u64) -> Result<Option<Vec<u8>>, PrivateError> {
    let file = match openat(CWD, path, PLAIN, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed("read", path)(errno.into())),
    };
    let mut bytes = Vec::new();
    let taken = file.take(max + 1).read_to_end(&mut bytes);
    taken.map_err(failed("read", path))?;
    match bytes.len() as u64 > max {
        true => Err(failed("read", path)(larger(max))),
        false => Ok(Some(bytes)),
    }
}

fn larger(max: u64) -> io::Error {
    io::Error::other(format!("it is larger than {max} bytes"))
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
mod tests;
