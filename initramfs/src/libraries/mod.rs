//! Libraries and interpreters: what programs need to start, found the way the dynamic loader finds it.
//!
//! [`closure`] collects what one program needs, to take it along; [`survey`] looks at a finished tree, to say in the
//! manifest what it brings and needs, and to refuse what would not start. A library of another machine or class does
//! not count.

mod closure;
mod folder;
mod loader;
mod root;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::content::Content;

pub use closure::closure;
pub use folder::Folder;
pub use root::{Machine, Root};
pub use survey::{Findings, survey};

/// Longest first line of a script that the kernel reads, in bytes (`BINPRM_BUF_SIZE`, linux/binfmts.h).
const SCRIPT_LINE_BYTES_MAX: u64 = 256;

/// Most names in a message.
const NAMES_SHOWN: usize = 3;

/// Something needed that is not there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// The library's name or the program's path.
    pub what: String,
    /// Whether it is a library.
    pub library: bool,
    /// The files that need it.
    pub needed_by: BTreeSet<String>,
}

impl Missing {
    fn note(missing: &mut BTreeMap<String, Self>, what: &str, user: &str) {
        let entry = missing.entry(what.to_owned()).or_insert_with(|| Self {
            what: what.to_owned(),
            library: true,
            needed_by: BTreeSet::new(),
        });
        entry.needed_by.insert(user.to_owned());
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<_> = self
            .needed_by
            .iter()
            .take(NAMES_SHOWN)
            .map(String::as_str)
            .collect();
        write!(f, "{} (needed by {}", self.what, shown.join(", "))?;
        match self.needed_by.len() - shown.len() {
            0 => f.write_str(")"),
            more => write!(f, " and {more} more)"),
        }
    }
}

/// Several missing things in one line.
#[must_use]
pub fn list(missing: &[Missing]) -> String {
    missing
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Why needs cannot be found out or met.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A file that cannot be read, or is damaged ELF.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A program that is asked for and is not there.
    #[error("there is no program {0}")]
    NoProgram(String),
    /// Libraries that are nowhere.
    #[error("libraries are missing: {}", list(.0))]
    Missing(Vec<Missing>),
}

/// The interpreter in a script's first line: an absolute path, or a bare name after `env`.
fn script_interpreter(path: &str, content: &Content) -> Result<Option<String>, LibraryError> {
    let bytes = usize::try_from(content.len().min(SCRIPT_LINE_BYTES_MAX)).unwrap_or(0);
    let mut start = vec![0; bytes];
    let read = content
        .open()
        .and_then(|open| open.read_exact_at(&mut start, 0));
    read.map_err(|cause| LibraryError::Read {
        path: path.to_owned(),
        cause,
    })?;
    let line = start
        .strip_prefix(b"#!")
        .and_then(|rest| rest.split(|b| *b == b'\n').next());
    let Some(line) = line else { return Ok(None) };
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let Some(interpreter) = words.next() else {
        return Ok(None);
    };
    if interpreter.ends_with("/env") {
        let name = words.find(|word| !word.starts_with('-') && !word.contains('='));
        return Ok(name.map(str::to_owned));
    }
    Ok(Some(interpreter.to_owned()))
}

/// An absolute path with the directories that a merged `/usr` has: `/bin/sh` and `/usr/bin/sh` are one program there, and
/// manifests name it once.
#[must_use]
pub fn canonical(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let merged = ["bin/", "sbin/", "lib/", "lib64/"]
        .iter()
        .any(|dir| path.starts_with(dir));
    if merged {
        format!("/usr/{path}")
    } else {
        format!("/{path}")
    }
}
