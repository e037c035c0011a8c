//! A layer whose names are in the rescue system, and what its new files hold on a disk.
//!
//! Each entry is judged and made in the rescue system's tree like one of a layer in memory; only a file that is new there
//! becomes a link to one on the disk, at the same path below a folder of the layer's own. On the disk are folders and files
//! with one name each, and nothing else: a restore that clears away links, special files and files with several names before it
//! begins leaves the layer as it is. What replaces a file of the base is small, and stays in memory: it must be there after
//! the disk's folder is gone.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, readlinkat, symlinkat};
use rustix::io::Errno;
use towline_contract::lanes::{EntryPath, LayerItem, LayerReader, Owner};
use towline_contract::manifest::Manifest;
use towline_contract::trust::Verified;

use super::layer::Placer;
use super::root::open_tree;
use super::unpack::{Fill, Unpacker};
use super::{LayerSink, PlaceError};

const ON_THE_TARGET: &str = "lies where the recreated file systems are mounted";
const SECOND_NAME: &str =
    "takes the place of an earlier layer's file, and is a second name of a file of its own layer";

/// Mode of the folders on the disk; programs find the files by the links.
const FOLDER_MODE: u32 = 0o755;

/// Where a layer for a disk goes.
#[derive(Clone, Copy, Debug)]
pub struct OnDisk<'a> {
    /// The rescue system's tree.
    pub root: &'a Path,
    /// Where the recreated file systems are mounted, below `root`; no entry may lie there.
    pub target: &'a Path,
    /// The layer's own folder on them: it exists, is empty, and no link leads to it. The links in `root` have this path.
    pub folder: &'a Path,
    /// What the base says may be replaced in `root`.
    pub replaceable: &'a [String],
}

impl OnDisk<'_> {
    /// Takes the layer with this manifest.
    ///
    /// # Errors
    /// A folder cannot be opened, or the layer's compression is unknown.
    pub fn layer(&self, manifest: &Verified<Manifest>) -> Result<LayerSink<'static>, PlaceError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let disk = rustix::fs::open(self.folder, flags, Mode::empty());
        let disk = disk.map_err(|errno| PlaceError::Mount {
            what: "open",
            path: self.folder.display().to_string(),
            cause: errno.into(),
        })?;
        let names = Unpacker::new(open_tree(self.root)?, manifest.target_name(), Fill::Whole);
        let target = self.target.strip_prefix(self.root).unwrap_or(self.target);
        let placer = DiskPlacer {
            names,
            disk,
            folder: self.folder.to_owned(),
            target: target.to_owned(),
            current: None,
        };
        LayerSink::new(manifest, self.replaceable, Box::new(placer))
    }
}

struct DiskPlacer {
    names: Unpacker,
    disk: OwnedFd,
    /// Path of `disk`.
    folder: PathBuf,
    /// Relative to the tree of `names`.
    target: PathBuf,
    /// The file on the disk that is being written; none while one is written in memory.
    current: Option<(EntryPath, Owner, File)>,
}

/// What an entry that is no folder becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// There is nothing yet.
    New,
    /// A try before has made the very link that is to be made now.
    AsBefore,
    /// Something else is there: what is in memory decides what becomes of it.
    Memory,
}

impl DiskPlacer {
    /// What is at `path` in the tree, seen by who wants to make a link to `link` there.
    fn there(&self, path: &EntryPath, link: &[u8]) -> Result<Where, PlaceError> {
        let (dir, name) = self.names.parent(path)?;
        match self.names.existing(&dir, name, path)? {
            None => Ok(Where::New),
            Some(FileType::Symlink) => {
                let found = readlinkat(&dir, name, Vec::new());
                let found = found.map_err(|errno| self.names.failed("look at", path, errno))?;
                match found.as_bytes() == link {
                    true => Ok(Where::AsBefore),
                    false => Ok(Where::Memory),
                }
            }
            Some(_) => Ok(Where::Memory),
        }
    }

    /// Path of the file on the disk that stands for `path`.
    fn on_disk(&self, path: &EntryPath) -> Vec<u8> {
        let mut link = self.folder.as_os_str().as_bytes().to_vec();
        link.push(b'/');
        link.extend_from_slice(path.as_bytes());
        link
    }

    /// The link in the tree, if there is none yet.
    fn link(&self, path: &EntryPath, link: &[u8], there: Where) -> Result<(), PlaceError> {
        if there == Where::AsBefore {
            return Ok(());
        }
        let (dir, name) = self.names.parent(path)?;
        symlinkat(link, &dir, name).map_err(|errno| self.names.failed("make", path, errno))
    }

    fn file(&mut self, path: EntryPath, owner: Owner, there: Where) -> Result<(), PlaceError> {
        let failed = |errno: Errno| self.names.failed("make on the disk", &path, errno);
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            openat(&self.disk, path.as_bytes(), flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        self.link(&path, &self.on_disk(&path), there)?;
        self.current = Some((path, owner, file.into()));
        Ok(())
    }

    /// Where a second name of the file `path` leads: to what stands for it on the disk, or else to the file in memory. It is a
    /// link either way, which the next try knows again; the file in memory is then another one.
    fn first_name(&self, path: &EntryPath) -> Vec<u8> {
        match rustix::fs::statat(&self.disk, path.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => self.on_disk(path),
            Err(_) => [b"/", path.as_bytes()].concat(),
        }
    }

    /// The tree is that of a running system: what is mounted in it is not the layer's to fill.
    fn refuse_target(&self, item: &LayerItem<'_>) -> Result<(), PlaceError> {
        let (path, is_folder) = match item {
            LayerItem::FileData(_) | LayerItem::FileEnd => return Ok(()),
            LayerItem::Directory { path, .. } => (path, true),
            LayerItem::FileStart { path, .. }
            | LayerItem::Symlink { path, .. }
            | LayerItem::Hardlink { path, .. }
            | LayerItem::Node { path, .. } => (path, false),
        };
        let at = Path::new(OsStr::from_bytes(path.as_bytes()));
        if !at.starts_with(&self.target) || (is_folder && at == self.target) {
            return Ok(());
        }
        Err(self.names.over(path, ON_THE_TARGET))
    }

    /// A folder in the tree, and one for the layer's files on the disk.
    fn folder(&self, path: &EntryPath, owner: Owner) -> Result<(), PlaceError> {
        self.names.directory(path, owner)?;
        let mode = Mode::from_raw_mode(FOLDER_MODE);
        mkdirat(&self.disk, path.as_bytes(), mode)
            .map_err(|errno| self.names.failed("make on the disk", path, errno))
    }
}

impl Placer for DiskPlacer {
    fn item(&mut self, item: LayerItem<'_>, reader: &LayerReader) -> Result<(), PlaceError> {
        self.refuse_target(&item)?;
        match item {
            LayerItem::Directory { path, owner } => self.folder(&path, owner),
            LayerItem::FileStart {
                ref path, owner, ..
            } => match self.there(path, &self.on_disk(path))? {
                Where::Memory => self.names.item(item, reader),
                there => self.file(path.clone(), owner, there),
            },
            LayerItem::FileData(bytes) => match &mut self.current {
                None => self.names.item(LayerItem::FileData(bytes), reader),
                Some((path, _, file)) => {
                    let written = file.write_all(bytes);
                    written.map_err(|cause| self.names.failed("write on the disk", path, cause))
                }
            },
            LayerItem::FileEnd => match self.current.take() {
                None => self.names.item(LayerItem::FileEnd, reader),
                Some((path, owner, file)) => self.names.settle(&file, &path, owner),
            },
            LayerItem::Hardlink { path, target } => {
                let link = self.first_name(&target);
                match self.there(&path, &link)? {
                    Where::Memory => Err(self.names.over(&path, SECOND_NAME)),
                    there => self.link(&path, &link, there),
                }
            }
            LayerItem::Symlink {
                ref path,
                ref target,
                ..
            } => match self.there(path, target)? {
                Where::AsBefore => Ok(()),
                _ => self.names.item(item, reader),
            },
            other => self.names.item(other, reader),
        }
    }
}
