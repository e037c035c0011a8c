//! What programs find by themselves while they run, and no header tells: known by the functions that they call and the libraries
//! that they load.

mod gconv;
mod nss;
mod pam;

use super::closure::Use;
use super::loader::Loader;
use super::root::Root;
use super::walk::Walk;
use super::{LibraryError, loader::Flavour, loader::User};
use crate::elf::{Symbols, symbols};

/// Largest configuration file that is read for a rule, in bytes. nsswitch.conf and files of PAM have 2 KB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Something that a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A file that is there.
    File {
        /// Its path.
        path: String,
        /// What it is for.
        what: Use,
    },
    /// Something that is not.
    Missing {
        /// Name of the library, or path.
        what: String,
        /// Who asks for it.
        needed_by: String,
    },
}

/// What the rules ask for, for the program at `path`.
///
/// # Errors
/// A file cannot be read, or is damaged.
pub(super) fn wanted(
    loader: &mut Loader<'_>,
    path: &str,
    walk: &Walk,
) -> Result<Vec<Wanted>, LibraryError> {
    let mut calls = Symbols::default();
    for (_, real) in &walk.files {
        let Some((_, content)) = loader.root.find(real) else {
            continue;
        };
        let interesting = |name: &str| nss::is_interesting(name) || gconv::is_interesting(name);
        // A program whose symbols cannot be read, for its table of sections was cut off, starts all the same.
        let found = symbols(&content, interesting).unwrap_or_default();
        calls.imports.extend(found.imports);
        calls.exports.extend(found.exports);
    }
    let mut wanted = nss::wanted(loader, path, walk, &calls)?;
    wanted.extend(gconv::wanted(loader.root, &calls));
    wanted.extend(pam::wanted(loader.root, path, walk)?);
    Ok(wanted)
}

/// The text of a configuration file; none when it is not there.
fn text(root: &dyn Root, path: &str) -> Result<Option<String>, LibraryError> {
    let Some((real, content)) = root.find(path) else {
        return Ok(None);
    };
    let failed = |cause| LibraryError::Read { path: real, cause };
    if content.len() > FILE_BYTES_MAX {
        let what = format!("{} bytes are too much for a configuration", content.len());
        return Err(failed(std::io::Error::other(what)));
    }
    let bytes = content.read().map_err(failed)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Where the program's loader finds a library that is loaded by name.
fn library(
    loader: &mut Loader<'_>,
    name: &str,
    walk: &Walk,
) -> Result<Option<String>, LibraryError> {
    let (Some((_, real)), Some(elf)) = (walk.files.first(), walk.elves.first()) else {
        return Ok(None);
    };
    let user = User {
        path: real.clone(),
        elf: elf.clone(),
        inherited: Vec::new(),
    };
    let found = loader.find(name, &user, &Flavour::Glibc)?;
    Ok(found.map(|it| it.path))
}
