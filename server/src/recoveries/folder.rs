//! The files of recoveries: `ID.json`, written whole, and `ID.events.jsonl`, appended to. Commands and a running server agree
//! by a lock that every change holds from reading to writing.
//!
//! The journal is written before the record: what a record says is in its journal already, for those who follow it.

use std::io::Write as _;
use std::path::PathBuf;

use towline_contract::Timestamp;

use super::progress::{Entry, Happened, apply};
use super::record::{RECORD_FORMAT, Recovery};
use crate::log;
use crate::private::{self, PrivateError};

/// Largest record, in bytes. A machine with 64 network interfaces makes 4 KB.
const RECORD_BYTES_MAX: u64 = 256 << 10;

/// Largest journal, in bytes. A day of restoring, with an event every 10 seconds, is 2 MB. What comes later moves the
/// recovery all the same, and is not kept.
const JOURNAL_BYTES_MAX: u64 = 16 << 20;

/// Why recoveries cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveriesError {
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] PrivateError),
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

    /// All of them as they are at `now`, the oldest first. A record that cannot be read is logged and left out: it stops no
    /// other host's recovery.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn all(&self, now: Timestamp) -> Result<Vec<Recovery>> {
        let mut all = Vec::new();
        for id in private::names(&self.dir)?.iter().filter(|id| is_id(id)) {
            match self.get(id, now) {
                Ok(found) => all.extend(found),
                Err(error) => log::say(format_args!(
                    "recovery {id} is left out: {}",
                    log::chain(&error)
                )),
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
        let Some(bytes) = private::read_bytes(&path, RECORD_BYTES_MAX)? else {
            return Ok(None);
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
        self.dir.join(journal_name(id))
    }

    /// All entries of a journal. A last line that is not complete was never finished, and is left out.
    ///
    /// # Errors
    /// See [`RecoveriesError`].
    pub fn journal(&self, id: &str) -> Result<Vec<Entry>> {
        let path = self.journal_path(id);
        // One entry more than the bound may have been written.
        let bytes = private::read_bytes(&path, 2 * JOURNAL_BYTES_MAX)?;
        Ok(entries(&bytes.unwrap_or_default()))
    }

    /// Waits until nobody else changes recoveries.
    ///
    /// # Errors
    /// See [`RecoveriesError`].
    pub fn lock(&self) -> Result<Locked<'_>> {
        Ok(Locked {
            recoveries: self,
            folder: private::lock(&self.dir)?,
        })
    }

    fn record_path(&self, id: &str) -> PathBuf {
        self.dir.join(record_name(id))
    }
}

fn record_name(id: &str) -> String {
    format!("{id}.json")
}

fn journal_name(id: &str) -> String {
    format!("{id}.events.jsonl")
}

/// Recoveries that nobody else changes.
pub struct Locked<'a> {
    recoveries: &'a Recoveries,
    folder: private::Locked,
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
        let file = self.folder.appended(&journal_name(&recovery.id))?;
        let append = || {
            let bytes = file.metadata()?.len();
            if bytes > JOURNAL_BYTES_MAX {
                return Ok(());
            }
            let mut line = serde_json::to_vec(&Entry { at, what })?;
            line.push(b'\n');
            if private::ends_within_a_line(&file, bytes)? {
                line.insert(0, b'\n');
            }
            (&file).write_all(&line)
        };
        let path = self.recoveries.journal_path(&recovery.id);
        Ok(append().map_err(private::failed("write", &path))?)
    }

    fn write(&self, recovery: &Recovery) -> Result<()> {
        let name = record_name(&recovery.id);
        Ok(self.folder.write(&name, recovery, RECORD_BYTES_MAX)?)
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

/// `r-` and 16 hex digits: nothing that could be another file.
fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix("r-").unwrap_or_default();
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    digits.len() == 16 && digits.bytes().all(hex)
}

#[cfg(test)]
mod tests;
