//! Initramfs images as sources: what the kernel's own unpacking makes of them, such as ReaR's rescue system.
//!
//! An image is a row of newc archives, each plain or compressed by itself, with zeros between them; the later file wins
//! (Linux Documentation/driver-api/early-userspace/buffer-format.rst).

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use towline_contract::newc::NewcError;

use crate::compressed::one_member;
use crate::content::Spool;
use crate::cpio::{Fault, Unpacker};
use crate::filter::Filter;
use crate::tree::{Tree, TreeError};

/// Bytes read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Why an image cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// Reading or decompressing failed.
    #[error("cannot read initramfs {path}, archive {archive}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Number of the archive in it, counted from 1.
        archive: usize,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Not newc where an archive should be.
    #[error("initramfs {path}, archive {archive} is not what the kernel unpacks")]
    Newc {
        /// The file.
        path: PathBuf,
        /// Number of the archive in it, counted from 1.
        archive: usize,
        /// Why.
        #[source]
        cause: NewcError,
    },
    /// An entry that does not fit into the layer.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Adds the entries of all archives in the image at `path` that pass the filter to `tree`; gives their newest time.
///
/// # Errors
/// See [`InitrdError`].
pub fn unpack(
    path: &Path,
    filter: &Filter,
    spool: &mut Spool,
    tree: &mut Tree,
) -> Result<u32, InitrdError> {
    let mut archive = 1;
    let read = |cause, archive| InitrdError::Read {
        path: path.to_owned(),
        archive,
        cause,
    };
    let file = File::open(path).map_err(|cause| read(cause, archive))?;
    let mut stored = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut added = |_| {};
    let mut unpacker = Unpacker::new(filter, spool, tree, &mut added, &|entry| {
        (entry.uid, entry.gid)
    });
    while skip_zeros(&mut stored).map_err(|cause| read(cause, archive))? {
        let run = member(&mut unpacker, &mut stored);
        run.map_err(|fault| match fault {
            Fault::Read(cause) => read(cause, archive),
            Fault::Tree(cause) => cause.into(),
            Fault::Newc(cause) => InitrdError::Newc {
                path: path.to_owned(),
                archive,
                cause,
            },
        })?;
        archive += 1;
    }
    Ok(unpacker.newest())
}

/// Whether another archive follows the zeros.
fn skip_zeros(stored: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = stored.fill_buf()?;
        if bytes.is_empty() {
            return Ok(false);
        }
        match bytes.iter().position(|byte| *byte != 0) {
            Some(at) => {
                stored.consume(at);
                return Ok(true);
            }
            None => {
                let length = bytes.len();
                stored.consume(length);
            }
        }
    }
}

/// Unpacks one archive, or one compressed member with archives in it, and leaves `stored` behind it.
fn member(unpacker: &mut Unpacker<'_>, stored: &mut BufReader<File>) -> Result<(), Fault> {
    if stored.fill_buf()?.starts_with(b"0707") {
        return unpacker.archive(stored);
    }
    let mut inner = BufReader::with_capacity(BUFFER_BYTES, one_member(stored)?);
    while skip_zeros(&mut inner)? {
        unpacker.archive(&mut inner)?;
    }
    Ok(())
}
