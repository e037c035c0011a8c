//! What a stored layer holds, path by path with the digests of its files, whatever its form: by this two layers are compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use towline_contract::Digest;
use towline_contract::digest::Hasher;
use towline_contract::lanes::{LayerItem, Owner};
use towline_contract::manifest::{Image, Manifest};

use crate::items::items;
use crate::squashfs::inode;
use crate::squashfs::walk::{Found, entries};
use crate::stored::StoredError;

/// Where an entry is in its layer. A module that must be loaded before any image can be mounted is in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// An entry of the archive.
    Archive,
    /// In the layer's image.
    Image,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its size, in bytes.
        bytes: u64,
        /// Its content.
        digest: Digest,
        /// The file's first name, of which this is another; in archives only.
        same_as: Option<Vec<u8>>,
    },
    /// A symbolic link and where it points.
    Link(Vec<u8>),
    /// A device, fifo or socket.
    Node {
        /// File type (inode(7)).
        file_type: u32,
        /// Device number: major and minor part.
        number: (u32, u32),
    },
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Owner, permission bits and time.
    pub owner: Owner,
    /// What it is.
    pub what: What,
}

/// All entries of a layer, by path.
pub type Contents = BTreeMap<(Vec<u8>, Part), Held>;

/// The entries of the layer at `path`. The image itself is none of them; what is in it is.
///
/// # Errors
/// The layer cannot be read or breaks a rule of its kind, or its image is no squashfs that can be read or has more in it than
/// its manifest says.
pub fn contents(path: &Path, manifest: &Manifest) -> Result<Contents, StoredError> {
    let mut archive = Archive::default();
    let image = items(path, manifest, |item| archive.take(item))?;
    let mut held = archive.held;
    // The way to the image is no part of the tree.
    held.retain(|(path, _), _| !path.starts_with(b"towline/") && path != b"towline");
    if let (Some(file), Some(image)) = (image, &manifest.image) {
        inside(file, image, &mut held).map_err(|cause| StoredError::Image {
            path: path.to_owned(),
            cause,
        })?;
    }
    for held in held.values_mut() {
        // A link has no mode of its own, whatever is stored.
        if matches!(held.what, What::Link(_)) {
            held.owner.mode = 0o777;
        }
    }
    Ok(held)
}

/// Collects the entries of an archive.
#[derive(Default)]
struct Archive {
    held: Contents,
    /// The file whose bytes come now.
    file: Option<(Vec<u8>, Owner, u64, Hasher)>,
}

impl Archive {
    fn take(&mut self, item: LayerItem<'_>) {
        let (path, owner, what) = match item {
            LayerItem::FileStart {
                path, owner, bytes, ..
            } => {
                let path = path.as_bytes().to_vec();
                self.file = Some((path, owner, bytes, Hasher::default()));
                return;
            }
            LayerItem::FileData(data) => {
                if let Some((.., hasher)) = &mut self.file {
                    hasher.update(data);
                }
                return;
            }
            LayerItem::FileEnd => {
                let Some((path, owner, bytes, hasher)) = self.file.take() else {
                    return;
                };
                let digest = hasher.finish();
                let what = What::File {
                    bytes,
                    digest,
                    same_as: None,
                };
                (path, owner, what)
            }
            LayerItem::Directory { path, owner } => {
                (path.as_bytes().to_vec(), owner, What::Directory)
            }
            LayerItem::Symlink {
                path,
                owner,
                target,
            } => (path.as_bytes().to_vec(), owner, What::Link(target)),
            LayerItem::Node {
                path,
                owner,
                file_type,
                major,
                minor,
            } => {
                let number = (major, minor);
                let what = What::Node { file_type, number };
                (path.as_bytes().to_vec(), owner, what)
            }
            LayerItem::Hardlink { path, target } => {
                let first = (target.as_bytes().to_vec(), Part::Archive);
                let Some(mut held) = self.held.get(&first).cloned() else {
                    return; // the reader lets none through whose first name was not there before
                };
                if let What::File { same_as, .. } = &mut held.what {
                    *same_as = Some(first.0);
                }
                (path.as_bytes().to_vec(), held.owner, held.what)
            }
        };
        self.held
            .insert((path, Part::Archive), Held { owner, what });
    }
}

/// Adds what is in a squashfs, of which the manifest says `image`.
fn inside(file: File, image: &Image, held: &mut Contents) -> io::Result<()> {
    let mut left = image.content_bytes;
    entries(file, |mut found| {
        let inode = found.inode;
        let what = match &inode.what {
            inode::What::Directory(_) => What::Directory,
            inode::What::Symlink(target) => What::Link(target.clone()),
            inode::What::File(content) => {
                let max = image.content_bytes;
                left = left.checked_sub(content.bytes).ok_or_else(|| {
                    io::Error::other(format!(
                        "its files have more than the {max} bytes that its manifest says"
                    ))
                })?;
                file_of(&mut found, content)?
            }
            inode::What::Special {
                file_type,
                major,
                minor,
            } => What::Node {
                file_type: *file_type,
                number: (*major, *minor),
            },
        };
        let owner = Owner {
            uid: inode.uid,
            gid: inode.gid,
            mode: inode.permissions,
            mtime: inode.mtime,
        };
        held.insert((found.path.to_vec(), Part::Image), Held { owner, what });
        Ok(())
    })
}

/// A file's size and digest.
fn file_of(found: &mut Found<'_>, content: &inode::Content) -> io::Result<What> {
    let mut hasher = Hasher::default();
    found.content(content, |block| {
        hasher.update(block);
        Ok(())
    })?;
    Ok(What::File {
        bytes: content.bytes,
        digest: hasher.finish(),
        same_as: None,
    })
}
