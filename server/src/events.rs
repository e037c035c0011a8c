//! Events of booting machines: one JSON line each, appended to a file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use towline_contract::Timestamp;
use towline_contract::event::Event;

/// Largest file of events, in bytes; what comes after is refused until an operator moves it away.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// When the server received it.
    pub received: Timestamp,
    /// Who sent it.
    pub peer: IpAddr,
    /// What they sent.
    pub event: Event,
}

/// Appends to the file of events.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    writing: Mutex<()>,
}

impl Log {
    /// The log in `path`, which is made with mode 0640 when the first event comes.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            writing: Mutex::new(()),
        }
    }

    /// Appends one line.
    ///
    /// # Errors
    /// It cannot be written, or the file is full.
    pub fn append(&self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let _one_at_a_time = self
            .writing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)?;
        if file.metadata()?.len() > FILE_BYTES_MAX {
            return Err(io::Error::other(format!(
                "it has more than {FILE_BYTES_MAX} bytes: move it away"
            )));
        }
        file.write_all(&text)
    }
}
