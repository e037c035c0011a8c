//! The reader: newc entries in, entries that keep to the rules out.

use std::collections::HashMap;

use super::item::{EntryPath, LayerItem, Owner};
use super::policy::{self, Shape};
use super::rule::{LaneError, Rule};
use super::site::Bounds;
use crate::Digest;
use crate::limits::LINK_BYTES_MAX;
use crate::manifest::{Kind, Manifest};
use crate::newc::{Decoder, Entry, Item, mode};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Directory,
    Other,
}

/// What happens with the body of the current entry.
enum Body {
    None,
    File,
    Link {
        path: EntryPath,
        owner: Owner,
        target: Vec<u8>,
    },
}

/// Reads one unpacked layer that arrives in pieces of any size.
///
/// Memory: 33 bytes of table for every entry, and the names of files that have several.
pub struct LayerReader {
    layer: String,
    kind: Kind,
    unpacked_bytes: u64,
    entries: u64,
    image: Option<(Vec<u8>, u64)>,
    replaceable: Vec<Vec<u8>>,
    bounds: Bounds,
    decoder: Decoder,
    bytes_seen: u64,
    entries_seen: u64,
    image_seen: bool,
    /// Names by their digests, so that a million long ones fit in memory.
    names: HashMap<Digest, Seen>,
    /// First names of files with several, by inode number and its device, as Linux tells them apart.
    inodes: HashMap<[u32; 3], EntryPath>,
    current: Option<String>,
    body: Body,
}

impl LayerReader {
    /// A reader for the layer with this manifest. `replaceable` is the list in the chain's *base* manifest.
    #[must_use]
    pub fn new(manifest: &Manifest, replaceable: &[String]) -> Self {
        let image = manifest.image.as_ref();
        Self {
            layer: manifest.target_name(),
            kind: manifest.kind,
            unpacked_bytes: manifest.unpacked_bytes,
            entries: manifest.entries,
            image: image.map(|image| (image.path.clone().into_bytes(), image.bytes)),
            replaceable: replaceable.iter().map(|p| p.clone().into_bytes()).collect(),
            bounds: manifest.bounds.clone(),
            decoder: Decoder::new(),
            bytes_seen: 0,
            entries_seen: 0,
            image_seen: false,
            names: HashMap::new(),
            inodes: HashMap::new(),
            current: None,
            body: Body::None,
        }
    }

    /// Whether an entry of this layer may replace a file, link or node of an earlier one: base and host layers within
    /// their lanes, others only what the base's manifest lists as replaceable.
    #[must_use]
    pub fn may_replace(&self, path: &EntryPath) -> bool {
        policy::replaces_freely(self.kind) || self.replaceable.iter().any(|p| p == path.as_bytes())
    }

    /// Takes unpacked bytes from the front of `input` until an item is complete; `None` once `input` is used up.
    ///
    /// # Errors
    /// The layer breaks a rule; the reader is of no use afterwards.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<LayerItem<'a>>, LaneError> {
        self.step(input).map_err(|rule| self.error(rule))
    }

    /// Ends the layer.
    ///
    /// # Errors
    /// The archive is not complete, or not as large as its manifest says.
    pub fn finish(mut self) -> Result<(), LaneError> {
        self.current = None;
        let result = self.check_end();
        result.map_err(|rule| self.error(rule))
    }

    fn error(&self, rule: Rule) -> LaneError {
        LaneError {
            layer: self.layer.clone(),
            entry: self.current.clone(),
            rule,
        }
    }

    fn check_end(&self) -> Result<(), Rule> {
        self.decoder.finish()?;
        if self.bytes_seen != self.unpacked_bytes {
            return Err(Rule::FewerBytes {
                found: self.bytes_seen,
                wanted: self.unpacked_bytes,
            });
        }
        if self.entries_seen != self.entries {
            return Err(Rule::FewerEntries {
                found: self.entries_seen,
                wanted: self.entries,
            });
        }
        if self.image.is_some() && !self.image_seen {
            return Err(Rule::NoImage);
        }
        Ok(())
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<LayerItem<'a>>, Rule> {
        loop {
            let before = input.len();
            let item = self.decoder.next(input)?;
            self.bytes_seen += (before - input.len()) as u64;
            if self.bytes_seen > self.unpacked_bytes {
                return Err(Rule::MoreBytes(self.unpacked_bytes));
            }
            let Some(item) = item else { return Ok(None) };
            let item = match item {
                Item::Entry(entry) => self.entry(entry)?,
                Item::Data(data) => self.data(data),
                Item::EntryEnd => self.entry_end()?,
            };
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    fn data<'a>(&mut self, data: &'a [u8]) -> Option<LayerItem<'a>> {
        match &mut self.body {
            Body::File => Some(LayerItem::FileData(data)),
            Body::Link { target, .. } => {
                target.extend_from_slice(data);
                None
            }
            Body::None => None, // not reached: such an entry has no bytes
        }
    }

    fn entry_end(&mut self) -> Result<Option<LayerItem<'static>>, Rule> {
        match std::mem::replace(&mut self.body, Body::None) {
            Body::None => Ok(None),
            Body::File => Ok(Some(LayerItem::FileEnd)),
            Body::Link {
                path,
                owner,
                target,
            } => {
                if target.is_empty() || target.contains(&0) {
                    return Err(Rule::LinkTarget);
                }
                policy::check_link(self.kind, &path, &target)?;
                Ok(Some(LayerItem::Symlink {
                    path,
                    owner,
                    target,
                }))
            }
        }
    }

    /// Checks an entry's header; gives its item, unless that needs the body.
    fn entry(&mut self, entry: Entry) -> Result<Option<LayerItem<'static>>, Rule> {
        self.current = Some(entry.display_name());
        self.entries_seen += 1;
        if self.entries_seen > self.entries {
            return Err(Rule::MoreEntries(self.entries));
        }
        if u64::from(entry.bytes) > self.unpacked_bytes - self.bytes_seen {
            return Err(Rule::MoreBytes(self.unpacked_bytes));
        }
        let shape = Shape::of(&entry)?;
        let owner = Owner {
            uid: entry.uid,
            gid: entry.gid,
            mode: entry.mode & 0o7777,
            mtime: entry.mtime,
        };
        let path = EntryPath::parse(entry.name).ok_or(Rule::Name)?;
        let bytes = u64::from(entry.bytes);
        let inode = [entry.device_major, entry.device_minor, entry.inode];
        let image = self.check_image(&path, shape, bytes)?;
        policy::check_entry(self.kind, &path, shape, &owner, image)?;
        if !image {
            let is_directory = shape == Shape::Directory;
            self.bounds.check(self.kind, &path, is_directory)?;
        }
        self.remember(&path, shape)?;
        match shape {
            Shape::Directory => Ok(Some(LayerItem::Directory { path, owner })),
            Shape::Regular => self.regular(path, owner, bytes, inode, entry.links, image),
            Shape::Link if bytes > LINK_BYTES_MAX => Err(Rule::LinkTarget),
            Shape::Link => {
                let target = Vec::new();
                self.body = Body::Link {
                    path,
                    owner,
                    target,
                };
                Ok(None)
            }
            Shape::Node(_) => Ok(Some(LayerItem::Node {
                path,
                owner,
                file_type: entry.mode & mode::S_IFMT,
                major: entry.rdev_major,
                minor: entry.rdev_minor,
            })),
        }
    }

    /// A file, or another name of one: the first entry with an inode number has the bytes, later ones have none.
    fn regular(
        &mut self,
        path: EntryPath,
        owner: Owner,
        bytes: u64,
        inode: [u32; 3],
        links: u32,
        image: bool,
    ) -> Result<Option<LayerItem<'static>>, Rule> {
        if links > 1 {
            match self.inodes.get(&inode) {
                Some(first) if bytes == 0 && !image => {
                    let target = first.clone();
                    return Ok(Some(LayerItem::Hardlink { path, target }));
                }
                Some(_) => return Err(Rule::Hardlink),
                None => self.inodes.insert(inode, path.clone()),
            };
        }
        self.body = Body::File;
        Ok(Some(LayerItem::FileStart {
            path,
            owner,
            bytes,
            image,
        }))
    }

    /// Whether this is the image. Nothing else may be under `towline/` in any layer.
    fn check_image(&mut self, path: &EntryPath, shape: Shape, found: u64) -> Result<bool, Rule> {
        if path.components().next() != Some(b"towline") {
            return Ok(false);
        }
        if !policy::may_have_image(self.kind) {
            return Err(Rule::Outside(self.kind));
        }
        let way = [b"towline".as_slice(), b"towline/images"].contains(&path.as_bytes());
        match &self.image {
            Some(_) if way && shape == Shape::Directory => Ok(false),
            Some((name, wanted)) if name == path.as_bytes() => {
                let wanted = *wanted;
                if shape != Shape::Regular || found != wanted {
                    return Err(Rule::ImageSize { found, wanted });
                }
                self.image_seen = true;
                Ok(true)
            }
            _ => Err(Rule::NotTheImage),
        }
    }

    /// Every parent must have come before as a directory, and the name must not have.
    fn remember(&mut self, path: &EntryPath, shape: Shape) -> Result<(), Rule> {
        let (parent, _) = path.split();
        if !parent.is_empty() && self.names.get(&Digest::of(parent)) != Some(&Seen::Directory) {
            return Err(Rule::Parent);
        }
        let seen = match shape {
            Shape::Directory => Seen::Directory,
            _ => Seen::Other,
        };
        match self.names.insert(Digest::of(path.as_bytes()), seen) {
            None => Ok(()),
            Some(_) => Err(Rule::Duplicate),
        }
    }
}
