//! `docs/formats/layer.md`, "What a layer may contain", over whole lists of entries.

use std::collections::{BTreeMap, BTreeSet};

use towline_contract::manifest::{Kind, Manifest};
use towline_contract::newc::{Entry, mode};

use super::Yield;
use crate::newc::File;

/// Whether a layer of these entries in an archive of so many bytes keeps to all rules.
pub(super) fn accepts(manifest: &Manifest, archive_bytes: usize, files: &[File]) -> bool {
    let (mut directories, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut inodes = BTreeSet::new();
    for (entry, body) in files {
        let name = &entry.name;
        let parent = name.rsplitn(2, |byte| *byte == b'/').nth(1);
        let in_order = parent.is_none_or(|it| directories.contains(it)) && names.insert(name);
        if !in_order || !is_named_well(name) || !is_of_a_type(entry, body) {
            return false;
        }
        let image = is_image(manifest, entry);
        if name.split(|byte| *byte == b'/').next() == Some(b"towline") && !image {
            let way = [b"towline".as_slice(), b"towline/images"].contains(&name.as_slice());
            let has = matches!(manifest.kind, Kind::Base | Kind::Kernel);
            if !(way && is(entry, mode::S_IFDIR) && manifest.image.is_some() && has) {
                return false;
            }
        }
        if is(entry, mode::S_IFREG) && entry.links > 1 {
            let again = !inodes.insert(inode(entry));
            if again && (entry.bytes != 0 || image) {
                return false;
            }
        }
        if is(entry, mode::S_IFDIR) {
            directories.insert(name.as_slice());
        }
        if !image && !may_have(manifest.kind, entry, body) {
            return false;
        }
    }
    let has_image = files.iter().any(|(entry, _)| is_image(manifest, entry));
    manifest.unpacked_bytes == archive_bytes as u64
        && manifest.entries == files.len() as u64
        && has_image == manifest.image.is_some()
}

/// What a reader yields of a layer that keeps to the rules.
pub(super) fn yields(files: &[File]) -> Vec<Yield> {
    let mut inodes = BTreeMap::new();
    let of = |(entry, body): &File| {
        let name = entry.name.clone();
        if !is(entry, mode::S_IFREG) {
            let what = match entry.file_type() {
                mode::S_IFDIR => "directory",
                mode::S_IFLNK => "link",
                _ => "node",
            };
            return (what, name, body.clone());
        }
        let first = (entry.links > 1)
            .then(|| inodes.insert(inode(entry), name.clone()))
            .flatten();
        match first {
            None => ("file", name, body.clone()),
            Some(first) => {
                inodes.insert(inode(entry), first.clone());
                ("another name", name, first)
            }
        }
    };
    files.iter().map(of).collect()
}

fn is(entry: &Entry, file_type: u32) -> bool {
    entry.file_type() == file_type
}

fn inode(entry: &Entry) -> (u32, u32, u32) {
    (entry.device_major, entry.device_minor, entry.inode)
}

fn is_named_well(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'/')
        .all(|part| ![b"".as_slice(), b".", b".."].contains(&part))
}

fn is_of_a_type(entry: &Entry, body: &[u8]) -> bool {
    let known = entry.mode < 0o200_000;
    known
        && match entry.file_type() {
            mode::S_IFREG => true,
            mode::S_IFLNK => (1..=4095).contains(&body.len()) && !body.contains(&0),
            0o040_000 | 0o060_000 | 0o020_000 | 0o010_000 | 0o140_000 => body.is_empty(),
            _ => false,
        }
}

fn is_image(manifest: &Manifest, entry: &Entry) -> bool {
    let image = manifest.image.as_ref();
    matches!(manifest.kind, Kind::Base | Kind::Kernel)
        && is(entry, mode::S_IFREG)
        && image.is_some_and(|it| {
            it.path.as_bytes() == entry.name && it.bytes == u64::from(entry.bytes)
        })
}

/// The table of kinds.
fn may_have(kind: Kind, entry: &Entry, body: &[u8]) -> bool {
    let plain = matches!(
        entry.file_type(),
        mode::S_IFDIR | mode::S_IFREG | mode::S_IFLNK
    ) && entry.mode & 0o6000 == 0;
    let root = (entry.uid, entry.gid) == (0, 0);
    match kind {
        Kind::Base => true,
        Kind::Kernel => {
            let places = [
                "boot",
                "lib/modules",
                "lib/firmware",
                "usr/lib/modules",
                "usr/lib/firmware",
                "towline/images",
            ];
            is_way(entry, &places) || (plain && is_in(&entry.name, &places))
        }
        Kind::Agent | Kind::Extra => {
            let others = [
                "dev",
                "etc/rear",
                "init",
                "proc",
                "run/towline",
                "sys",
                "towline",
            ];
            plain && !is_in(&entry.name, &others)
        }
        Kind::Host => {
            let places = [
                "etc/hostname",
                "etc/rear",
                "usr/lib/towline/rear",
                "usr/sbin/rear",
                "usr/share/rear",
                "var/lib/rear",
            ];
            let stays = !is(entry, mode::S_IFLNK) || link_stays(&entry.name, body, &places);
            is_way(entry, &places) || (plain && is_in(&entry.name, &places) && stays)
        }
        Kind::Credentials => {
            let places = ["run/towline/credentials"];
            let secret = match entry.file_type() {
                mode::S_IFDIR => entry.mode & 0o7077 == 0,
                mode::S_IFREG => entry.mode & 0o7177 == 0,
                _ => false,
            };
            is_way(entry, &places) || (secret && root && is_in(&entry.name, &places))
        }
    }
}

fn is_in(name: &[u8], places: &[&str]) -> bool {
    let below = |place: &&str| name.starts_with(format!("{place}/").as_bytes());
    places
        .iter()
        .any(|place| name == place.as_bytes() || below(place))
}

fn is_way(entry: &Entry, places: &[&str]) -> bool {
    let name = [&entry.name[..], b"/"].concat();
    let way = places
        .iter()
        .any(|place| place.as_bytes().starts_with(&name));
    way && !is_in(&entry.name, places) && (entry.mode, entry.uid, entry.gid) == (0o040_755, 0, 0)
}

fn link_stays(name: &[u8], target: &[u8], places: &[&str]) -> bool {
    let mut at: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
    at.pop();
    if target.starts_with(b"/") {
        at.clear();
    }
    let parts = target.split(|byte| *byte == b'/');
    let parts: Vec<_> = parts.filter(|it| !matches!(*it, b"" | b".")).collect();
    let ups = parts.iter().take_while(|it| **it == b"..").count();
    let (ups_of, rest) = (at.len().checked_sub(ups), &parts[ups..]);
    let Some(left) = ups_of.filter(|_| !rest.contains(&b"..".as_slice())) else {
        return false;
    };
    at.truncate(left);
    at.extend(rest);
    is_in(&at.join(&b'/'), places)
}
