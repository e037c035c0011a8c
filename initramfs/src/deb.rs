//! Debian packages: an `ar` archive of a control and a data tarball (deb(5)).
//!
//! Maintainer scripts are never run; a recipe supplies what they would do. File contents go to a [`Spool`].

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use towline_contract::manifest::Package;

use crate::content::Spool;
use crate::filter::Filter;
use crate::tree::{Entry, Meta, Node, Tree, TreeError, display};

/// Largest control file, in bytes. The longest of Debian 12 is 10 KB.
const CONTROL_BYTES_MAX: u64 = 1 << 20;

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
    let file = File::open(path).map_err(read)?;
    let mut archive = ar::Archive::new(BufReader::with_capacity(1 << 16, file));
    let mut package = None;
    while let Some(member) = archive.next_entry() {
        let member = member.map_err(read)?;
        let name = String::from_utf8_lossy(member.header().identifier())
            .trim_end_matches('/')
            .to_owned();
        if let Some(compression) = name.strip_prefix("control.tar") {
            let reader = decompress(compression, member).map_err(format)?;
            package = Some(
                control(reader)
                    .map_err(read)?
                    .ok_or_else(|| format("it has no control file".into()))?,
            );
        } else if let Some(compression) = name.strip_prefix("data.tar") {
            let package =
                package.ok_or_else(|| format("its data comes before its control file".into()))?;
            let reader = decompress(compression, member).map_err(format)?;
            let mut unpacker = Unpacker {
                filter,
                spool,
                tree,
                added,
            };
            unpacker.run(reader).map_err(|fault| match fault {
                Fault::Read(cause) => read(cause),
                Fault::Tree(cause) => DebError::Tree {
                    package: package.name.clone(),
                    cause,
                },
            })?;
            return Ok(package);
        }
    }
    Err(format("it has no data".into()))
}

/// The member's tarball, by the end of its name.
fn decompress<'a>(compression: &str, member: impl Read + 'a) -> Result<Box<dyn Read + 'a>, String> {
    Ok(match compression {
        "" => Box::new(member),
        ".gz" => Box::new(flate2::read::GzDecoder::new(member)),
        ".xz" => Box::new(lzma_rust2::XzReader::new(member, true)),
        ".zst" => Box::new(zstd::Decoder::new(member).map_err(|cause| cause.to_string())?),
        other => return Err(format!("members compressed as {other} are not known")),
    })
}

/// Name, version and architecture in a control tarball.
fn control(reader: impl Read) -> io::Result<Option<Package>> {
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path_bytes().as_ref() != b"./control" && entry.path_bytes().as_ref() != b"control"
        {
            continue;
        }
        let mut text = String::new();
        entry.take(CONTROL_BYTES_MAX).read_to_string(&mut text)?;
        let field = |name: &str| {
            let line = text
                .lines()
                .find(|line| line.split(':').next() == Some(name))?;
            Some(line[name.len() + 1..].trim().to_owned())
        };
        return Ok((|| {
            Some(Package {
                name: field("Package")?,
                version: field("Version")?,
                architecture: field("Architecture")?,
            })
        })());
    }
    Ok(None)
}

enum Fault {
    Read(io::Error),
    Tree(TreeError),
}

impl From<io::Error> for Fault {
    fn from(cause: io::Error) -> Self {
        Self::Read(cause)
    }
}

impl From<TreeError> for Fault {
    fn from(cause: TreeError) -> Self {
        Self::Tree(cause)
    }
}

struct Unpacker<'a> {
    filter: &'a Filter,
    spool: &'a mut Spool,
    tree: &'a mut Tree,
    added: &'a mut dyn FnMut(Vec<u8>),
}

impl Unpacker<'_> {
    fn run(&mut self, reader: impl Read) -> Result<(), Fault> {
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries()? {
            self.entry(entry?)?;
        }
        Ok(())
    }

    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), Fault> {
        let path = entry.path_bytes().into_owned();
        let header = entry.header();
        let number = |n: u64| u32::try_from(n).map_err(io::Error::other);
        let meta = Meta {
            mode: header.mode()? & 0o7777,
            uid: number(header.uid()?)?,
            gid: number(header.gid()?)?,
            mtime: Some(number(header.mtime()?)?),
        };
        let kind = header.entry_type();
        if !kind.is_dir() && !self.filter.keeps(&path) {
            return Ok(());
        }
        let link = entry
            .link_name_bytes()
            .map(std::borrow::Cow::into_owned)
            .unwrap_or_default();
        let real = if kind.is_dir() {
            // A directory that only holds what is left out is left out too: parents are made when they are needed.
            if self.filter.keeps(&path) {
                let node = Node::Directory { implied: false };
                self.tree.insert(&path, Entry { meta, node })?;
            }
            return Ok(());
        } else if kind.is_file() {
            let content = self.spool.add(&mut entry)?;
            let node = Node::File(Arc::new(content));
            self.tree.insert(&path, Entry { meta, node })?
        } else if kind.is_symlink() {
            self.tree.symlink(&path, meta, &link)?
        } else if kind.is_hard_link() {
            self.tree.hardlink(&path, &link)?
        } else {
            let what = format!(
                "{} is of tar type {kind:?}, which no package should have",
                display(&path)
            );
            return Err(io::Error::other(what).into());
        };
        (self.added)(real);
        Ok(())
    }
}
