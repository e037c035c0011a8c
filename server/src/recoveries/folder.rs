//! The files of recoveries: `ID.json`, written whole, and `ID.events.jsonl`, appended to. Commands and a running server agree
//! by a lock that every change holds from reading to writing.
//!
//! The journal is written before the record: what a record says is in its journal already, for those who follow it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use towline_contract::Timestamp;

use super::progress::{Entry, Happened, apply};
use super::record::{RECORD_FORMAT, Recovery};
use crate::owner;

/// Largest record, in bytes. A machine with 64 network interfaces makes 4 KB.
const RECORD_BYTES_MAX: u64 = 256 << 10;

/// Largest journal, in bytes. A day of restoring, with an event every 10 seconds, is 2 MB. What comes later moves the
/// recovery all the same, and is not kept.
const JOURNAL_BYTES_MAX: u64 = 16 << 20;

/// Why recoveries cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveriesError {
    /// A file or folder cannot be used.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A record that this program does not understand.
    #[error("{path} is no record of a recovery that this version of Towline reads")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: serde_json::Error,
    },
    /// No such recovery.
    #[error("there is no recovery {0:?}, and no host of that name has one")]
    Unknown(String),
    /// The system has no random numbers.
    #[error("cannot get random bytes for a new code")]
    Random(#[source] getrandom::Error),
}

type Result<T> = std::result::Result<T, RecoveriesError>;

/// The recoveries of a site.
#[derive(Clone, Debug)]
pub struct Recoveries {
    dir: PathBuf,
}

impl Recoveries {
    /// The recoveries in `dir`, which is made with mode 0700 when the first is opened.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// All of them as they are at `now`, the oldest first.
    ///
    /// # Errors
    /// See [`RecoveriesError`].
    pub fn all(&self, now: Timestamp) -> Result<Vec<Recovery>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed("read", &self.dir))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("read", &self.dir))?.file_name();
            let id = name.to_str().and_then(|it| it.strip_suffix(".json"));
            if let Some(id) = id.filter(|id| is_id(id)) {
                all.extend(self.get(id, now)?);
            }
        }
        all.sort_by(|one, other| (one.opened, &one.id).cmp(&(other.opened, &other.id)));
        Ok(all)
    }

    /// The recovery with this identifier; none when there is none.
    ///
    /// # Errors
    /// See [`RecoveriesError`].
    pub fn get(&self, id: &str, now: Timestamp) -> Result<Option<Recovery>> {
        if !is_id(id) {
            return Ok(None);
        }
        let path = self.record_path(id);
        let bytes = match read(&path, RECORD_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(failed("read", &path))?,
        };
        let unreadable = |cause| RecoveriesError::Record {
            path: path.clone(),
            cause,
        };
        let recovery: Recovery = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if recovery.format != RECORD_FORMAT || recovery.id != id {
            let why = format!(
                "its format is {}, its id {:?}",
                recovery.format, recovery.id
            );
            return Err(unreadable(serde::de::Error::custom(why)));
        }
        Ok(Some(recovery.at(now)))
    }

    /// The recovery that a person means: by its identifier, or the newest of a host.
    ///
    /// # Errors
    /// There is none; see [`RecoveriesError`].
    pub fn find(&self, name: &str, now: Timestamp) -> Result<Recovery> {
        if let Some(recovery) = self.get(name, now)? {
            return Ok(recovery);
        }
        let of_host = |it: &Recovery| it.host == name;
        let newest = self.all(now)?.into_iter().rfind(of_host);
        newest.ok_or_else(|| RecoveriesError::Unknown(name.into()))
    }

    /// Where the journal of a recovery is.
    #[must_use]
    pub fn journal_path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.events.jsonl"))
    }

    /// All entries of a journal. A last line that is not complete was never finished, and is left out.
    ///
    /// # Errors
    /// See [`RecoveriesError`].
    pub fn journal(&self, id: &str) -> Result<Vec<Entry>> {
        let path = self.journal_path(id);
        // One entry more than the bound may have been written.
        let bytes = match read(&path, 2 * JOURNAL_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            bytes => bytes.map_err(failed("read", &path))?,
        };
        Ok(entries(&bytes))
    }

    /// Waits until nobody else changes recoveries.
    ///
    /// # Errors
    /// See [`RecoveriesError`].
    pub fn lock(&self) -> Result<Locked<'_>> {
        let folder = self.folder().map_err(failed("make", &self.dir))?;
        let path = self.dir.join("lock");
        let open = || {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            owner::as_folder(&file, &folder)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        };
        let file = open().map_err(failed("lock", &path))?;
        Ok(Locked {
            recoveries: self,
            folder,
            _file: file,
        })
    }

    /// The folder, made if need be.
    fn folder(&self) -> io::Result<File> {
        let made = DirBuilder::new().mode(0o700).create(&self.dir);
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::open(&self.dir),
            made => {
                made?;
                let folder = File::open(&self.dir)?;
                let parent = self.dir.parent().filter(|it| !it.as_os_str().is_empty());
                let parent = File::open(parent.unwrap_or(Path::new(".")))?;
                owner::as_folder(&folder, &parent)?;
                Ok(folder)
            }
        }
    }

    fn record_path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

/// Recoveries that nobody else changes.
pub struct Locked<'a> {
    recoveries: &'a Recoveries,
    folder: File,
    _file: File,
}

impl Locked<'_> {
    /// Adds a recovery that was opened.
    ///
    /// # Errors
    /// See [`RecoveriesError`].
    pub fn add(&self, recovery: &Recovery) -> Result<()> {
        let by = recovery.opened_by.clone();
        self.append(recovery, Happened::Opened { by }, recovery.opened)?;
        self.write(recovery)
    }

    /// Lets this happen to `recovery`, which the caller has read under this lock; what became of it.
    ///
    /// # Errors
    /// See [`RecoveriesError`].
    pub fn record(&self, recovery: &Recovery, what: Happened, now: Timestamp) -> Result<Recovery> {
        let next = apply(recovery, &what, now);
        if next == *recovery {
            return Ok(next);
        }
        self.append(recovery, what, now)?;
        self.write(&next)?;
        Ok(next)
    }

    fn append(&self, recovery: &Recovery, what: Happened, at: Timestamp) -> Result<()> {
        let path = self.recoveries.journal_path(&recovery.id);
        let append = || {
            let mut file = OpenOptions::new()
                .append(true)
                .read(true)
                .create(true)
                .mode(0o600)
                .open(&path)?;
            owner::as_folder(&file, &self.folder)?;
            let bytes = file.metadata()?.len();
            if bytes > JOURNAL_BYTES_MAX {
                return Ok(());
            }
            let mut line = serde_json::to_vec(&Entry { at, what })?;
            line.push(b'\n');
            if ends_within_a_line(&file, bytes)? {
                line.insert(0, b'\n');
            }
            file.write_all(&line)
        };
        append().map_err(failed("write", &path))
    }

    fn write(&self, recovery: &Recovery) -> Result<()> {
        let dir = &self.recoveries.dir;
        let path = self.recoveries.record_path(&recovery.id);
        let write = || {
            // Temporary files are for their owner alone.
            let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
            serde_json::to_writer_pretty(&mut file, recovery)?;
            file.write_all(b"\n")?;
            owner::as_folder(file.as_file(), &self.folder)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            self.folder.sync_all()
        };
        write().map_err(failed("write", &path))
    }
}

/// Entries in complete lines. A line that was cut off by a power cut, or that a newer version wrote, is none of ours.
#[must_use]
pub fn entries(bytes: &[u8]) -> Vec<Entry> {
    let lines = bytes.split_inclusive(|b| *b == b'\n');
    let complete = lines.filter(|line| line.ends_with(b"\n"));
    complete
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

/// Whether the last writer was interrupted.
fn ends_within_a_line(file: &File, bytes: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let mut last = [0];
    match bytes.checked_sub(1) {
        None => Ok(false),
        Some(at) => file.read_exact_at(&mut last, at).map(|()| last != *b"\n"),
    }
}

/// `r-` and 16 hex digits: nothing that could be another file.
fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix("r-").unwrap_or_default();
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    digits.len() == 16 && digits.bytes().all(hex)
}

fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max {
        true => Err(io::Error::other(format!("it is larger than {max} bytes"))),
        false => Ok(bytes),
    }
}

fn failed<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> RecoveriesError + use<'a> {
    move |cause| RecoveriesError::File {
        what,
        path: path.into(),
        cause,
    }
}

#[cfg(test)]
mod tests;
