//! The `image` form: most of the tree as one squashfs, kept compressed in memory by the rescue system.
//!
//! `mksquashfs` (squashfs-tools ≥ 4.5, `-tar`) makes it from a tar stream, so that owners, modes and device nodes need no root.
//! Why not a crate: docs/decisions/0010-squashfs.md.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use towline_contract::newc::mode;

use crate::content::Content;
use crate::tree::{Entry, Node, Tree, display};

/// Size of the blocks that are compressed one by one, in bytes. Larger blocks pack better and cost more to read a
/// small piece of; 256 KiB is 3 % smaller than squashfs' own 128 KiB for the Debian base.
const BLOCK_BYTES: u32 = 256 << 10;

/// Why an image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// `mksquashfs` cannot be run.
    #[error("cannot run mksquashfs: install squashfs-tools 4.5 or newer")]
    NoMksquashfs(#[source] io::Error),
    /// `mksquashfs` says no.
    #[error("mksquashfs ended with {status}: {talk}")]
    Failed {
        /// Exit status.
        status: std::process::ExitStatus,
        /// Its errors.
        talk: String,
    },
    /// A file cannot be read, or `mksquashfs` went away.
    #[error("cannot add {path} to the image")]
    Content {
        /// Its path in the layer.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The finished image cannot be read.
    #[error("cannot use the image {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// Writes `tree` to a squashfs at `path` (which must not exist). Entries without a time get `time`. Gives the sum of the
/// files' sizes.
///
/// # Errors
/// See [`ImageError`].
pub fn write(tree: &Tree, time: u32, level: i32, path: &Path) -> Result<u64, ImageError> {
    let mut child = start(level, time, path)?;
    let written = write_tar(tree, time, &mut child);
    drop(child.stdin.take());
    let mut talk = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut talk);
    }
    let status = child.wait().map_err(ImageError::NoMksquashfs)?;
    if !status.success() {
        let talk = talk.trim().to_owned();
        return Err(ImageError::Failed { status, talk });
    }
    written
}

fn start(level: i32, time: u32, path: &Path) -> Result<Child, ImageError> {
    Command::new("mksquashfs")
        .arg("-")
        .arg(path)
        .args([
            "-tar",
            "-quiet",
            "-no-progress",
            "-exit-on-error",
            "-reproducible",
            "-no-xattrs",
        ])
        .args(["-comp", "zstd", "-Xcompression-level", &level.to_string()])
        .args(["-b", &BLOCK_BYTES.to_string(), "-mem", "256M"])
        .args([
            "-mkfs-time",
            &time.to_string(),
            "-root-time",
            &time.to_string(),
        ])
        .args(["-root-mode", "755", "-root-uid", "0", "-root-gid", "0"])
        .env_remove("SOURCE_DATE_EPOCH") // it would contradict the times given
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ImageError::NoMksquashfs)
}

fn write_tar(tree: &Tree, time: u32, child: &mut Child) -> Result<u64, ImageError> {
    let Some(stdin) = child.stdin.as_mut() else {
        return Ok(0);
    };
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(1 << 18, stdin));
    let mut first_names: HashMap<*const Content, &[u8]> = HashMap::new();
    let mut content_bytes = 0;
    for (path, entry) in tree.iter() {
        let first = match &entry.node {
            Node::File(content) => Some(*first_names.entry(Arc::as_ptr(content)).or_insert(path)),
            _ => None,
        };
        let first = first.filter(|first| *first != path);
        content_bytes +=
            append(&mut tar, path, entry, time, first).map_err(|cause| ImageError::Content {
                path: display(path),
                cause,
            })?;
    }
    let end = |cause| ImageError::Content {
        path: "the end".into(),
        cause,
    };
    tar.into_inner()
        .and_then(|mut out| out.flush())
        .map_err(end)?;
    Ok(content_bytes)
}

/// Appends one entry; gives the size of its content.
fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &[u8],
    entry: &Entry,
    time: u32,
    first: Option<&[u8]>,
) -> io::Result<u64> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.meta.mode);
    header.set_uid(entry.meta.uid.into());
    header.set_gid(entry.meta.gid.into());
    header.set_mtime(entry.meta.mtime.unwrap_or(time).into());
    header.set_size(0);
    let name = Path::new(OsStr::from_bytes(path));
    match &entry.node {
        Node::Directory { .. } => {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, name, io::empty())?;
        }
        Node::File(content) => {
            if let Some(first) = first {
                header.set_entry_type(tar::EntryType::Link);
                tar.append_link(&mut header, name, OsStr::from_bytes(first))?;
                return Ok(0);
            }
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(content.len());
            tar.append_data(&mut header, name, content.reader()?)?;
            return Ok(content.len());
        }
        Node::Symlink(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, name, OsStr::from_bytes(target))?;
        }
        Node::Special {
            file_type,
            major,
            minor,
        } => {
            header.set_entry_type(match *file_type {
                mode::S_IFBLK => tar::EntryType::Block,
                mode::S_IFCHR => tar::EntryType::Char,
                mode::S_IFIFO => tar::EntryType::Fifo,
                _ => return Err(io::Error::other("an image cannot hold a socket")),
            });
            header.set_device_major(*major)?;
            header.set_device_minor(*minor)?;
            tar.append_data(&mut header, name, io::empty())?;
        }
    }
    Ok(0)
}
