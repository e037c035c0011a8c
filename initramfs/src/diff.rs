//! In what two layers differ: what their manifests say, their packages, their files. A pure function.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use towline_contract::manifest::Manifest;
use towline_contract::newc::mode;

use crate::contents::{Contents, Held, Part, What};
use crate::tree::display;

/// What of a manifest differs whenever bytes do, or is compared by itself.
const TOLD_OTHERWISE: &[&str] = &[
    "digest",
    "chunks",
    "stored_bytes",
    "unpacked_bytes",
    "entries",
    "image",
    "packages",
];

/// One of the two layers.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// What it says of itself.
    pub manifest: &'a Manifest,
    /// What it holds.
    pub contents: &'a Contents,
}

/// In what two layers differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Fields of the manifests with other values, but for sizes, digests and packages, sorted.
    pub fields: Vec<String>,
    /// Packages, sorted.
    pub packages: Vec<PackageChange>,
    /// Entries, sorted by path.
    pub files: Vec<FileChange>,
    /// Whether the stored bytes are the same ones.
    pub same_bytes: bool,
}

/// A package that only one has, or both in other versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Name.
    pub name: String,
    /// Architecture.
    pub architecture: String,
    /// Version in the first layer.
    pub from: Option<String>,
    /// Version in the second.
    pub to: Option<String>,
}

/// An entry that only one has, or that is not alike in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its path, escaped for people.
    pub path: String,
    /// Whether it lies in the layer's image.
    pub in_image: bool,
    /// What is not alike, when both have it: `type`, `content`, `target`, `number`, `link`, `mode`, `owner`, `time`.
    pub differs: Vec<&'static str>,
    /// The entry in the first layer.
    pub from: Option<Row>,
    /// The entry in the second.
    pub to: Option<Row>,
}

/// One entry as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `directory`, `file`, `link`, `block device`, `character device`, `fifo` or `socket`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Permission bits, octal.
    pub mode: String,
    /// Owner, as `uid:gid`.
    pub owner: String,
    /// Modification time, in seconds since 1970.
    pub mtime: u32,
    /// Size of a file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// SHA-256 of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where a link points, escaped for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl Difference {
    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.same_bytes && self.fields.is_empty() && self.packages.is_empty()
    }
}

impl FileChange {
    /// Whether the entries differ in nothing but their times.
    #[must_use]
    pub fn is_of_time_only(&self) -> bool {
        self.differs == ["time"]
    }
}

/// Compares two layers.
#[must_use]
pub fn diff(from: Side<'_>, to: Side<'_>) -> Difference {
    Difference {
        fields: fields(from.manifest, to.manifest),
        packages: packages(from.manifest, to.manifest),
        files: files(from.contents, to.contents),
        same_bytes: from.manifest.digest == to.manifest.digest,
    }
}

fn fields(from: &Manifest, to: &Manifest) -> Vec<String> {
    let object = |it: &Manifest| match serde_json::to_value(it) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (from, to) = (object(from), object(to));
    let names: BTreeSet<_> = from.keys().chain(to.keys()).collect();
    let differs = |name: &&&String| from.get(**name) != to.get(**name);
    let told = |name: &&String| !TOLD_OTHERWISE.contains(&name.as_str());
    let names = names.into_iter().filter(told);
    names.filter(|it| differs(&it)).cloned().collect()
}

fn packages(from: &Manifest, to: &Manifest) -> Vec<PackageChange> {
    let by_name = |manifest: &Manifest| {
        let mut versions: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for package in &manifest.packages {
            let key = (package.name.clone(), package.architecture.clone());
            let version = package.version.clone();
            versions.entry(key).or_default().insert(version);
        }
        versions
    };
    let (from, to) = (by_name(from), by_name(to));
    let keys: BTreeSet<_> = from.keys().chain(to.keys()).cloned().collect();
    let mut changes = Vec::new();
    for key in keys {
        let (from, to) = (from.get(&key), to.get(&key));
        if from == to {
            continue;
        }
        let joined = |it: &BTreeSet<String>| it.iter().cloned().collect::<Vec<_>>().join(", ");
        let (name, architecture) = key;
        changes.push(PackageChange {
            name,
            architecture,
            from: from.map(joined),
            to: to.map(joined),
        });
    }
    changes
}

fn files(from: &Contents, to: &Contents) -> Vec<FileChange> {
    let keys: BTreeSet<_> = from.keys().chain(to.keys()).collect();
    let mut changes = Vec::new();
    for key in keys {
        let (from, to) = (from.get(key), to.get(key));
        let differs = match (from, to) {
            (Some(from), Some(to)) if from == to => continue,
            (Some(from), Some(to)) => differs(from, to),
            _ => Vec::new(),
        };
        let (path, part) = key;
        changes.push(FileChange {
            path: display(path),
            in_image: *part == Part::Image,
            differs,
            from: from.map(row),
            to: to.map(row),
        });
    }
    changes
}

fn differs(from: &Held, to: &Held) -> Vec<&'static str> {
    let what = match (&from.what, &to.what) {
        (from, to) if from == to => None,
        (
            What::File {
                digest: a,
                bytes: b,
                ..
            },
            What::File {
                digest: c,
                bytes: d,
                ..
            },
        ) => Some(if (a, b) == (c, d) { "link" } else { "content" }),
        (What::Link(_), What::Link(_)) => Some("target"),
        (What::Node { file_type: a, .. }, What::Node { file_type: b, .. }) if a == b => {
            Some("number")
        }
        _ => Some("type"),
    };
    let (from, to) = (&from.owner, &to.owner);
    let rest = [
        ("mode", from.mode != to.mode),
        ("owner", (from.uid, from.gid) != (to.uid, to.gid)),
        ("time", from.mtime != to.mtime),
    ];
    let rest = rest.into_iter().filter(|(_, differs)| *differs);
    what.into_iter().chain(rest.map(|(name, _)| name)).collect()
}

fn row(held: &Held) -> Row {
    let kind = match &held.what {
        What::Directory => "directory",
        What::File { .. } => "file",
        What::Link(_) => "link",
        What::Node { file_type, .. } => match *file_type {
            mode::S_IFBLK => "block device",
            mode::S_IFCHR => "character device",
            mode::S_IFIFO => "fifo",
            _ => "socket",
        },
    };
    let owner = &held.owner;
    let mut row = Row {
        kind,
        mode: format!("{:04o}", owner.mode),
        owner: format!("{}:{}", owner.uid, owner.gid),
        mtime: owner.mtime,
        bytes: None,
        sha256: None,
        target: None,
    };
    match &held.what {
        What::File { bytes, digest, .. } => {
            (row.bytes, row.sha256) = (Some(*bytes), Some(digest.to_string()));
        }
        What::Link(target) => row.target = Some(display(target)),
        _ => {}
    }
    row
}
