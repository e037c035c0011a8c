//! Small layers with any content, well-formed or not.

use std::collections::BTreeSet;
use std::io::Write as _;

use backhand::compression::Compressor;
use backhand::{FilesystemCompressor, FilesystemWriter, NodeHeader};
use towline_contract::lanes::Bounds;
use towline_contract::limits::CHUNK_BYTES;
use towline_contract::manifest::{
    Compression, Image, Kind, MANIFEST_FORMAT, Manifest, Needs, Placement,
};
use towline_contract::newc::{Entry, mode, padding, trailer};
use towline_contract::{Digest, Timestamp};

/// A layer's stored bytes and its manifest.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What it is.
    pub manifest: Manifest,
    /// The bytes.
    pub stored: Vec<u8>,
}

/// A file of a layer: path, mode, content. A path that ends with `/` is a directory.
pub type File<'a> = (&'a str, u32, &'a [u8]);

/// A layer of plain files; directories on the way to them are added. What it holds is not checked.
///
/// # Panics
/// A path that newc cannot hold.
#[must_use]
pub fn layer(kind: Kind, name: &str, compression: Compression, files: &[File<'_>]) -> Layer {
    let files = files
        .iter()
        .map(|(path, mode, content)| match path.strip_suffix('/') {
            Some(path) => Item::directory(path, 0o755),
            None => Item::file(path, *mode, content),
        });
    of_items(kind, name, compression, &with_parents(files.collect()))
}

/// A layer of the `image` form: the squashfs as `towline/images/NUMBER-NAME.squashfs`, and these files beside it.
///
/// # Panics
/// A path that newc cannot hold.
#[must_use]
pub fn image_layer(
    kind: Kind,
    (number, name): (u8, &str),
    squashfs: &[u8],
    beside: &[File<'_>],
) -> Layer {
    let path = format!("towline/images/{number:02}-{name}.squashfs");
    let mut items = vec![Item::file(&path, 0o644, squashfs)];
    items.extend(
        beside
            .iter()
            .map(|(path, mode, content)| Item::file(path, *mode, content)),
    );
    let mut layer = of_items(kind, name, Compression::None, &with_parents(items));
    layer.manifest.image = Some(Image {
        path,
        bytes: squashfs.len() as u64,
        content_bytes: squashfs.len() as u64,
    });
    layer
}

/// A squashfs of these files, and symbolic links with their targets.
///
/// # Panics
/// It cannot be made.
#[must_use]
pub fn squashfs(files: &[(&str, &str)], links: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = FilesystemWriter::default();
    let compressor = FilesystemCompressor::new(Compressor::Zstd, None).expect("zstd");
    writer.set_compressor(compressor);
    let header = NodeHeader {
        permissions: 0o755,
        ..NodeHeader::default()
    };
    for (path, content) in files {
        let parent = std::path::Path::new(path).parent().expect("a folder");
        writer.push_dir_all(parent, header).expect("a folder");
        let content = std::io::Cursor::new(content.as_bytes().to_vec());
        writer.push_file(content, path, header).expect("a file");
    }
    for (path, target) in links {
        writer.push_symlink(target, path, header).expect("a link");
    }
    let mut image = std::io::Cursor::new(Vec::new());
    writer.write(&mut image).expect("an image");
    image.into_inner()
}

/// One entry of a layer.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its header; the number of bytes is that of the body.
    pub entry: Entry,
    /// Its body.
    pub body: Vec<u8>,
}

impl Item {
    /// A regular file of root's.
    #[must_use]
    pub fn file(path: &str, permissions: u32, content: &[u8]) -> Self {
        Self::new(path, mode::S_IFREG | permissions, content)
    }

    /// A directory of root's.
    #[must_use]
    pub fn directory(path: &str, permissions: u32) -> Self {
        Self::new(path, mode::S_IFDIR | permissions, &[])
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(path: &str, target: &str) -> Self {
        Self::new(path, mode::S_IFLNK | 0o777, target.as_bytes())
    }

    /// One of several names of a file: equal `inode`s belong together, and the first has the content.
    #[must_use]
    pub fn hard(path: &str, inode: u32, content: &[u8]) -> Self {
        let mut item = Self::file(path, 0o644, content);
        (item.entry.inode, item.entry.links) = (inode, 2);
        item
    }

    fn new(path: &str, mode: u32, body: &[u8]) -> Self {
        let entry = Entry {
            name: path.as_bytes().to_vec(),
            mode,
            links: 1,
            mtime: 1_700_000_000,
            ..Entry::default()
        };
        let body = body.to_vec();
        Self { entry, body }
    }
}

/// The items with the directories on the way to them, each before what is in it.
#[must_use]
pub fn with_parents(items: Vec<Item>) -> Vec<Item> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for item in items {
        let path = String::from_utf8_lossy(&item.entry.name).into_owned();
        for (at, _) in path.match_indices('/') {
            if seen.insert(path[..at].to_owned()) {
                all.push(Item::directory(&path[..at], 0o755));
            }
        }
        if item.entry.file_type() != mode::S_IFDIR || seen.insert(path) {
            all.push(item);
        }
    }
    all
}

/// A layer of exactly these entries.
///
/// # Panics
/// A path that newc cannot hold.
#[must_use]
pub fn of_items(kind: Kind, name: &str, compression: Compression, items: &[Item]) -> Layer {
    let mut archive = Vec::new();
    for Item { entry, body } in items {
        let bytes = u32::try_from(body.len()).expect("a small file");
        let entry = Entry {
            bytes,
            ..entry.clone()
        };
        archive.extend(entry.encode().expect("a name"));
        archive.extend_from_slice(body);
        archive.extend_from_slice(padding(body.len() as u64));
    }
    archive.extend(trailer());
    let mut stored = compress(compression, &archive);
    stored.resize(stored.len().next_multiple_of(4), 0);
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        kind,
        name: name.into(),
        version: "1".into(),
        architecture: "amd64".into(),
        created: Timestamp::UNIX_EPOCH,
        digest: Digest::of(&stored),
        stored_bytes: stored.len() as u64,
        unpacked_bytes: archive.len() as u64,
        entries: items.len() as u64,
        compression,
        chunks: stored
            .chunks(usize::try_from(CHUNK_BYTES).expect("usize"))
            .map(Digest::of)
            .collect(),
        placement: Placement::Ram,
        image: None,
        kernel_release: (kind == Kind::Kernel).then(|| "6.1.0-test".into()),
        provides: Needs {
            programs: programs(items),
            ..Needs::default()
        },
        requires: Needs::default(),
        replaceable: vec![],
        packages: vec![],
        checks: vec![],
        agent: None,
        session: None,
        bounds: Bounds::default(),
    };
    Layer { manifest, stored }
}

/// The absolute paths of files that may be executed, sorted.
fn programs(items: &[Item]) -> Vec<String> {
    let is_program =
        |it: &&Item| it.entry.file_type() == mode::S_IFREG && it.entry.mode & 0o111 != 0;
    let programs = items.iter().filter(is_program);
    let mut programs: Vec<_> = programs
        .map(|it| format!("/{}", it.entry.display_name()))
        .collect();
    programs.sort();
    programs
}

fn compress(compression: Compression, archive: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => archive.to_vec(),
        Compression::Zstd => zstd::encode_all(archive, 3).expect("zstd"),
        Compression::Gzip => {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(archive).expect("gzip");
            encoder.finish().expect("gzip")
        }
    }
}

/// Bytes that do not compress, the same for the same seed.
#[must_use]
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next)
        .flatten()
        .take(bytes)
        .collect()
}
