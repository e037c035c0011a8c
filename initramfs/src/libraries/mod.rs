//! Libraries and interpreters: what programs need to start, found the way the dynamic loader finds it.
//!
//! [`closure()`] collects what one program needs, to take it along; [`survey`] looks at a finished tree, to say in the
//! manifest what it brings and needs, and to refuse what would not start. Both go the way of the loader (`walk`, `loader`),
//! the first adds what no header tells (`rules`). A library of another machine or class does not count.

mod cache;
mod closure;
mod configured;
mod folder;
mod interpreter;
mod links;
mod loader;
mod root;
mod rules;
mod survey;
mod system;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

pub use closure::{Closure, Use, closure, loaded};
pub use folder::Folder;
pub(crate) use interpreter::{FirstLine, first_line};
pub use links::link_sonames;
pub use root::{Machine, Root};
pub use survey::{Findings, survey};

/// Directories of programs, in the order of the rescue's `PATH`.
pub(crate) const PROGRAM_DIRS: [&str; 6] = [
    "usr/local/sbin",
    "usr/local/bin",
    "usr/sbin",
    "usr/bin",
    "sbin",
    "bin",
];

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
    /// A library of that name which is there, where their loader does not look.
    pub elsewhere: Option<String>,
}

impl Missing {
    fn note(missing: &mut BTreeMap<String, Self>, what: &str, library: bool, user: &str) {
        let entry = missing.entry(what.to_owned()).or_insert_with(|| Self {
            what: what.to_owned(),
            library,
            needed_by: BTreeSet::new(),
            elsewhere: None,
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
            0 => {}
            more => write!(f, " and {more} more")?,
        }
        match &self.elsewhere {
            Some(path) => write!(f, "; there is {path}, where their loader does not look)"),
            None => f.write_str(")"),
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

/// Where a program is, relative to the root: by its absolute path, or by its name in one of the directories of programs.
pub(crate) fn program(root: &dyn Root, name: &str) -> Option<String> {
    let mut paths = match name.strip_prefix('/') {
        Some(path) => vec![path.to_owned()],
        None => PROGRAM_DIRS.map(|dir| format!("{dir}/{name}")).into(),
    };
    paths.retain(|path| root.find(path).is_some());
    paths.into_iter().next()
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
