//! The rules of each kind: DESIGN's column "what its layers may contain", as functions of one entry.

use super::item::{EntryPath, Owner};
use super::rule::Rule;
use crate::manifest::Kind;
use crate::newc::{Entry, mode};

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Directory,
    Regular,
    Link,
    /// A device, fifo or socket, by its name.
    Node(&'static str),
}

impl Shape {
    /// The shape in the entry's mode; its body must suit it.
    pub(super) fn of(entry: &Entry) -> Result<Self, Rule> {
        let shape = match entry.file_type() {
            _ if entry.mode & !(mode::S_IFMT | 0o7777) != 0 => return Err(Rule::Mode(entry.mode)),
            mode::S_IFDIR => Self::Directory,
            mode::S_IFREG => Self::Regular,
            mode::S_IFLNK => Self::Link,
            mode::S_IFBLK | mode::S_IFCHR => Self::Node("device node"),
            mode::S_IFIFO => Self::Node("fifo"),
            mode::S_IFSOCK => Self::Node("socket"),
            _ => return Err(Rule::Mode(entry.mode)),
        };
        match shape {
            Self::Directory | Self::Node(_) if entry.bytes != 0 => Err(Rule::Body(shape.name())),
            _ => Ok(shape),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Regular => "regular file",
            Self::Link => "symbolic link",
            Self::Node(name) => name,
        }
    }
}

/// Where the layers of a kind may put things.
enum Lane {
    /// Anywhere but at or below these.
    AllBut(&'static [&'static str]),
    /// At or below these, and plain directories on the way to them.
    Only(&'static [&'static str]),
}

/// Paths that belong to the kernel, to stage 1, or to the host's layer.
const NOT_FOR_AGENTS: &[&str] = &[
    "dev",
    "etc/rear",
    "init",
    "proc",
    "run/towline",
    "sys",
    "towline",
];

const KERNEL: &[&str] = &[
    "boot",
    "lib/firmware",
    "lib/modules",
    "towline/images",
    "usr/lib/firmware",
    "usr/lib/modules",
];

const HOST: &[&str] = &[
    "etc/hostname",
    "etc/rear",
    "usr/lib/towline/rear",
    "usr/sbin/rear",
    "usr/share/rear",
    "var/lib/rear",
];

fn lane(kind: Kind) -> Lane {
    match kind {
        Kind::Base => Lane::AllBut(&[]),
        Kind::Kernel => Lane::Only(KERNEL),
        Kind::Agent | Kind::Extra => Lane::AllBut(NOT_FOR_AGENTS),
        Kind::Host => Lane::Only(HOST),
        Kind::Credentials => Lane::Only(&["run/towline/credentials"]),
    }
}

/// Whether layers of this kind may hold an image, whose content no lane can check.
pub(super) fn may_have_image(kind: Kind) -> bool {
    matches!(kind, Kind::Base | Kind::Kernel)
}

/// Whether layers of this kind may replace files of earlier layers within their lane.
pub(super) fn replaces_freely(kind: Kind) -> bool {
    match kind {
        Kind::Base | Kind::Kernel | Kind::Host | Kind::Credentials => true,
        Kind::Agent | Kind::Extra => false,
    }
}

/// Checks an entry by its name, type, owner and mode. `image` is set for the image itself.
pub(super) fn check_entry(
    kind: Kind,
    path: &EntryPath,
    shape: Shape,
    owner: &Owner,
    image: bool,
) -> Result<(), Rule> {
    if kind == Kind::Base || image {
        return Ok(());
    }
    match lane(kind) {
        Lane::AllBut(not) if not.iter().any(|lane| is_below(path.as_bytes(), lane)) => {
            return Err(Rule::Outside(kind));
        }
        Lane::Only(lanes) if !lanes.iter().any(|lane| is_below(path.as_bytes(), lane)) => {
            return check_ancestor(kind, path, shape, owner, lanes);
        }
        Lane::AllBut(_) | Lane::Only(_) => {}
    }
    match (kind, shape) {
        (_, Shape::Node(name)) => return Err(Rule::Type(kind, name)),
        (Kind::Credentials, Shape::Link) => return Err(Rule::Type(kind, shape.name())),
        _ => {}
    }
    if owner.mode & (mode::S_ISUID | mode::S_ISGID) != 0 {
        return Err(Rule::SetId(kind));
    }
    let widest = if shape == Shape::Directory {
        0o700
    } else {
        0o600
    };
    let secret = owner.mode & !widest == 0 && owner.uid == 0 && owner.gid == 0;
    if kind == Kind::Credentials && !secret {
        return Err(Rule::Secret(kind));
    }
    Ok(())
}

/// A directory on the way to one of the lanes, such as `var` and `var/lib`: plain, and nothing else.
fn check_ancestor(
    kind: Kind,
    path: &EntryPath,
    shape: Shape,
    owner: &Owner,
    lanes: &[&str],
) -> Result<(), Rule> {
    let on_the_way = lanes.iter().any(|lane| {
        let rest = lane.as_bytes().strip_prefix(path.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"/"))
    });
    if !on_the_way || shape != Shape::Directory {
        return Err(Rule::Outside(kind));
    }
    match (owner.mode, owner.uid, owner.gid) {
        (0o755, 0, 0) => Ok(()),
        _ => Err(Rule::Ancestor(kind)),
    }
}

/// Checks where a symbolic link points. Only a host's must stay within its lane.
pub(super) fn check_link(kind: Kind, path: &EntryPath, target: &[u8]) -> Result<(), Rule> {
    let (Kind::Host, Lane::Only(lanes)) = (kind, lane(kind)) else {
        return Ok(());
    };
    let resolved = resolve(path, target).ok_or(Rule::LinkLeaves(kind))?;
    if lanes.iter().any(|lane| is_below(&resolved, lane)) {
        Ok(())
    } else {
        Err(Rule::LinkLeaves(kind))
    }
}

/// The path a link names, from the root. `..` counts only at the start, where the directories passed are real ones of
/// this layer: after a name, which may be a link itself, it could lead anywhere.
fn resolve(path: &EntryPath, target: &[u8]) -> Option<Vec<u8>> {
    let mut at: Vec<&[u8]> = match target.strip_prefix(b"/") {
        Some(_) => Vec::new(),
        None => path.components().collect(),
    };
    at.pop(); // the link's own name
    let mut named = false;
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if named => return None,
            b".." => {
                at.pop()?;
            }
            name => {
                named = true;
                at.push(name);
            }
        }
    }
    Some(at.join(b"/".as_slice()))
}

/// Whether `path` is `lane` or lies below it.
pub(super) fn is_below(path: &[u8], lane: &str) -> bool {
    let rest = path.strip_prefix(lane.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
