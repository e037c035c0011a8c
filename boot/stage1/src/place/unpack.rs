//! Plain entries into a tree of earlier layers, without ever following a link of theirs.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat, fchmod,
    fchown, futimens, linkat, makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;
use towline_contract::lanes::{EntryPath, LayerItem, LayerReader, Owner};
use towline_contract::newc::mode;

use super::PlaceError;
use super::layer::Placer;

const OVER_A_LINK: &str =
    "lies behind a symbolic link of an earlier layer; build it with the link's target as its path";
const DIRECTORY_OVER: &str = "is a directory where an earlier layer has something else";
const OVER_DIRECTORY: &str = "takes the place of a directory of an earlier layer";
const OVER_FILE: &str =
    "takes the place of a file of an earlier layer, which the base does not allow";

/// What becomes of the entries that may lie where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// They are there as the layer has them.
    Whole,
    /// Only their names are: files and nodes are empty files, nothing has its owner, mode or time. Another kernel unpacks
    /// the layer; this tree only shows what lies where, so that later entries are judged like those placed here.
    Names,
}

/// Unpacks one layer below an open directory.
pub(super) struct Unpacker {
    tree: OwnedFd,
    layer: String,
    fill: Fill,
    /// Only root may give files away.
    owners: bool,
    current: Option<(EntryPath, Owner, File)>,
}

impl Unpacker {
    pub(super) fn new(tree: OwnedFd, layer: String, fill: Fill) -> Self {
        Self {
            tree,
            layer,
            fill,
            owners: rustix::process::geteuid().is_root(),
            current: None,
        }
    }

    /// The directory that `path` lies in, reached without following any link, and its name there.
    pub(super) fn parent<'p>(
        &self,
        path: &'p EntryPath,
    ) -> Result<(OwnedFd, &'p [u8]), PlaceError> {
        let (dir, name) = path.split();
        let dir: &[u8] = if dir.is_empty() { b"." } else { dir };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat2(&self.tree, dir, flags, Mode::empty(), resolve) {
            Ok(dir) => Ok((dir, name)),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(self.over(path, OVER_A_LINK)),
            Err(errno) => Err(self.failed("open the folder of", path, errno)),
        }
    }

    /// What is at `name` in `dir`.
    pub(super) fn existing(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        path: &EntryPath,
    ) -> Result<Option<FileType>, PlaceError> {
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("look at", path, errno)),
        }
    }

    /// Makes room for an entry that is no directory.
    fn clear<'p>(
        &self,
        path: &'p EntryPath,
        reader: &LayerReader,
    ) -> Result<(OwnedFd, &'p [u8]), PlaceError> {
        let (dir, name) = self.parent(path)?;
        match self.existing(&dir, name, path)? {
            None => {}
            Some(FileType::Directory) => return Err(self.over(path, OVER_DIRECTORY)),
            Some(_) if reader.may_replace(path) => {
                unlinkat(&dir, name, AtFlags::empty())
                    .map_err(|errno| self.failed("replace", path, errno))?;
            }
            Some(_) => return Err(self.over(path, OVER_FILE)),
        }
        Ok((dir, name))
    }

    pub(super) fn directory(&self, path: &EntryPath, owner: Owner) -> Result<(), PlaceError> {
        let (dir, name) = self.parent(path)?;
        match self.existing(&dir, name, path)? {
            Some(FileType::Directory) => return Ok(()),
            Some(_) => return Err(self.over(path, DIRECTORY_OVER)),
            None => {}
        }
        let failed = |errno| self.failed("make", path, errno);
        mkdirat(&dir, name, Mode::RWXU).map_err(failed)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(&dir, name, flags, Mode::empty()).map_err(failed)?;
        self.settle(&made, path, owner)
    }

    fn file(
        &mut self,
        path: EntryPath,
        owner: Owner,
        reader: &LayerReader,
    ) -> Result<(), PlaceError> {
        let (dir, name) = self.clear(&path, reader)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&dir, name, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(|errno| self.failed("make", &path, errno))?;
        self.current = Some((path, owner, file.into()));
        Ok(())
    }

    /// Owner, then mode (a change of owner clears set-id bits), then time.
    pub(super) fn settle(
        &self,
        file: impl AsFd,
        path: &EntryPath,
        owner: Owner,
    ) -> Result<(), PlaceError> {
        if self.fill == Fill::Names {
            return Ok(());
        }
        let failed = |errno| self.failed("set owner, mode and time of", path, errno);
        if self.owners {
            let (uid, gid) = ids(owner);
            fchown(&file, Some(uid), Some(gid)).map_err(failed)?;
        }
        fchmod(&file, Mode::from_raw_mode(owner.mode)).map_err(failed)?;
        let time = Timespec {
            tv_sec: owner.mtime.into(),
            tv_nsec: 0,
        };
        futimens(
            &file,
            &Timestamps {
                last_access: time,
                last_modification: time,
            },
        )
        .map_err(failed)
    }

    fn symlink(
        &self,
        path: &EntryPath,
        owner: Owner,
        target: &[u8],
        reader: &LayerReader,
    ) -> Result<(), PlaceError> {
        let (dir, name) = self.clear(path, reader)?;
        symlinkat(target, &dir, name).map_err(|errno| self.failed("make", path, errno))?;
        if !self.owners || self.fill == Fill::Names {
            return Ok(());
        }
        let (uid, gid) = ids(owner);
        chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed("set the owner of", path, errno))
    }

    fn hardlink(
        &self,
        path: &EntryPath,
        target: &EntryPath,
        reader: &LayerReader,
    ) -> Result<(), PlaceError> {
        let (from, from_name) = self.parent(target)?;
        let (dir, name) = self.clear(path, reader)?;
        linkat(&from, from_name, &dir, name, AtFlags::empty())
            .map_err(|errno| self.failed("link", path, errno))
    }

    fn node(
        &self,
        path: &EntryPath,
        owner: Owner,
        (file_type, major, minor): (u32, u32, u32),
        reader: &LayerReader,
    ) -> Result<(), PlaceError> {
        let (dir, name) = self.clear(path, reader)?;
        let failed = |errno| self.failed("make", path, errno);
        let kind = FileType::from_raw_mode(file_type & mode::S_IFMT);
        mknodat(
            &dir,
            name,
            kind,
            Mode::from_raw_mode(owner.mode),
            makedev(major, minor),
        )
        .map_err(failed)?;
        let (uid, gid) = ids(owner);
        chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    pub(super) fn over(&self, path: &EntryPath, rule: &'static str) -> PlaceError {
        PlaceError::Over {
            layer: self.layer.clone(),
            path: path.to_string(),
            rule,
        }
    }

    pub(super) fn failed(
        &self,
        what: &'static str,
        path: &EntryPath,
        cause: impl Into<io::Error>,
    ) -> PlaceError {
        PlaceError::Write {
            what,
            path: path.to_string(),
            layer: self.layer.clone(),
            cause: cause.into(),
        }
    }
}

impl Placer for Unpacker {
    fn item(&mut self, item: LayerItem<'_>, reader: &LayerReader) -> Result<(), PlaceError> {
        match item {
            LayerItem::Directory { path, owner } => self.directory(&path, owner),
            LayerItem::FileStart { path, owner, .. } => self.file(path, owner, reader),
            LayerItem::FileData(_) if self.fill == Fill::Names => Ok(()),
            LayerItem::FileData(bytes) => {
                let Some((path, _, file)) = &mut self.current else {
                    return Ok(());
                };
                let written = file.write_all(bytes);
                let path = path.clone();
                written.map_err(|cause| self.failed("write", &path, cause))
            }
            LayerItem::FileEnd => match self.current.take() {
                Some((path, owner, file)) => self.settle(&file, &path, owner),
                None => Ok(()),
            },
            LayerItem::Symlink {
                path,
                owner,
                target,
            } => self.symlink(&path, owner, &target, reader),
            LayerItem::Hardlink { path, target } => self.hardlink(&path, &target, reader),
            // An empty file stands for a node, which not everyone may make.
            LayerItem::Node { path, owner, .. } if self.fill == Fill::Names => {
                self.file(path, owner, reader)?;
                self.current = None;
                Ok(())
            }
            LayerItem::Node {
                path,
                owner,
                file_type,
                major,
                minor,
            } => self.node(&path, owner, (file_type, major, minor), reader),
        }
    }
}

fn ids(owner: Owner) -> (Uid, Gid) {
    (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid))
}
