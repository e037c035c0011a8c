//! Debian packages: an `ar` archive of a control and a data tarball (deb(5)).
//!
//! Maintainer scripts are never run; a recipe supplies what they would do. File contents go to a [`Spool`].

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use towline_contract::manifest::Package;

use crate::compressed::{Bounded, all_members, finish};
use crate::content::Spool;
use crate::filter::Filter;
use crate::tarball::{TarError, Unpacker};
use crate::tree::{Tree, TreeError};

/// Largest control file, in bytes. The longest of Debian 12 is 10 KB.
const CONTROL_BYTES_MAX: u64 = 1 << 20;

/// Largest control tarball, in bytes, unpacked: the lists of a package of 100,000 files have 20 MB.
const CONTROL_TARBALL_BYTES_MAX: u64 = 64 << 20;

/// Ends of the members' names, by their compression.
const COMPRESSIONS: [&str; 4] = ["", ".gz", ".xz", ".zst"];

/// Why a package cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// Reading failed.
    #[error("cannot read package {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Not a Debian package, or one of a form we do not know.
    #[error("{path} is no usable Debian package: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// An entry that does not fit into the layer.
    #[error("package {package} does not fit into the layer")]
    Tree {
        /// Name of the package.
        package: String,
        /// Why.
        #[source]
        cause: TreeError,
    },
}

/// Adds the files of the package at `path` that pass the filter to `tree` and says their real paths to `added`; gives the
/// package's name, version and architecture.
///
/// # Errors
/// See [`DebError`].
pub fn unpack(
    path: &Path,
    filter: &Filter,
    spool: &mut Spool,
    tree: &mut Tree,
    added: &mut dyn FnMut(Vec<u8>),
) -> Result<Package, DebError> {
    let read = |cause| DebError::Read {
        path: path.to_owned(),
        cause,
    };
    let format = |what: String| DebError::Format {
        path: path.to_owned(),
        what,
    };
    let unknown = |name: &str| format(format!("members compressed as {name} are not known"));
    let file = File::open(path).map_err(read)?;
    let mut archive = ar::Archive::new(BufReader::with_capacity(1 << 16, file));
    let mut package = None;
    while let Some(member) = archive.next_entry() {
        let member = member.map_err(read)?;
        let name = String::from_utf8_lossy(member.header().identifier())
            .trim_end_matches('/')
            .to_owned();
        if let Some(compression) = name.strip_prefix("control.tar") {
            let reader = decompress(compression, member).map_err(read)?;
            let reader = reader.ok_or_else(|| unknown(compression))?;
            package = Some(
                control(reader)
                    .map_err(read)?
                    .ok_or_else(|| format("it has no control file".into()))?,
            );
        } else if let Some(compression) = name.strip_prefix("data.tar") {
            let package =
                package.ok_or_else(|| format("its data comes before its control file".into()))?;
            let reader = decompress(compression, member).map_err(read)?;
            let reader = reader.ok_or_else(|| unknown(compression))?;
            let mut unpacker = Unpacker {
                filter,
                spool,
                tree,
                added,
                to: "",
                strip: 0,
                owners: true,
            };
            unpacker.run(reader).map_err(|fault| match fault {
                TarError::Read(cause) => read(cause),
                TarError::Tree(cause) => DebError::Tree {
                    package: package.name.clone(),
                    cause,
                },
            })?;
            return Ok(package);
        }
    }
    Err(format("it has no data".into()))
}

/// The member's tarball, if the end of its name is one that `dpkg-deb` writes; how it is compressed, its first bytes tell.
fn decompress<'a>(compression: &str, member: impl Read + 'a) -> io::Result<Option<Bounded<'a>>> {
    match COMPRESSIONS.contains(&compression) {
        true => all_members(BufReader::new(member)).map(Some),
        false => Ok(None),
    }
}

/// Name, version and architecture in a control tarball.
fn control(reader: impl Read) -> io::Result<Option<Package>> {
    let mut archive = tar::Archive::new(reader.take(CONTROL_TARBALL_BYTES_MAX));
    let Some(text) = control_text(&mut archive)? else {
        return Ok(None);
    };
    finish(&mut archive.into_inner())?;
    let field = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        Some(line[name.len() + 1..].trim().to_owned())
    };
    let package = || {
        Some(Package {
            name: field("Package")?,
            version: field("Version")?,
            architecture: field("Architecture")?,
        })
    };
    Ok(package())
}

fn control_text(archive: &mut tar::Archive<impl Read>) -> io::Result<Option<String>> {
    for entry in archive.entries()? {
        let entry = entry?;
        if [&b"./control"[..], b"control"].contains(&entry.path_bytes().as_ref()) {
            let mut text = String::new();
            entry.take(CONTROL_BYTES_MAX).read_to_string(&mut text)?;
            return Ok(Some(text));
        }
    }
    Ok(None)
}
