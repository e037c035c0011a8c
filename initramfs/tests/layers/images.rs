//! Squashfs images as `unsquashfs` and our own reader find them. (That Linux does too, every recovery in QEMU shows.)

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;
use towline_initramfs::content::{Content, Spool};
use towline_initramfs::filter::Filter;
use towline_initramfs::image::{self, ImageError, Making, Place};
use towline_initramfs::squashfs;
use towline_initramfs::tree::{Entry, Meta, Node, Tree};

use crate::support::{Workshop, messages, noise, output};

/// Time of entries without one.
const TIME: u32 = 1_700_000_000;

/// Level whose blocks are as full as they can be, and one whose blocks are kept for the next build.
const LEVELS: [i32; 2] = [3, 6];

/// Size of a block, in bytes.
const BLOCK: usize = 256 << 10;

fn making(level: i32) -> Making<'static> {
    Making {
        time: TIME,
        level,
        kept: None,
    }
}

fn write(tree: &Tree, level: i32, path: &Path) -> Result<(), ImageError> {
    let place = Place {
        file: &File::create(path).unwrap(),
        at: 0,
    };
    image::write(tree, making(level), place).map(drop)
}

fn read(path: &Path) -> Tree {
    let (mut spool, mut tree) = (Spool::new().unwrap(), Tree::new());
    squashfs::unpack(path, &Filter::default(), &mut spool, &mut tree).unwrap();
    tree
}

/// What an entry is, with the first name of its file.
#[derive(Debug, PartialEq)]
enum What {
    Directory,
    File(Vec<u8>, Vec<u8>),
    Other(u32, Vec<u8>),
}

/// Path, permissions, owner and time of an entry, and what it is.
type Row = (Vec<u8>, (u32, u32, u32, u32), What);

fn rows(tree: &Tree) -> Vec<Row> {
    let mut first: HashMap<*const Content, Vec<u8>> = HashMap::new();
    let row = |(path, entry): (&[u8], &Entry)| {
        let Meta {
            uid, gid, mtime, ..
        } = entry.meta;
        let mut mode = entry.meta.mode;
        let what = match &entry.node {
            Node::Directory { .. } => What::Directory,
            Node::File(content) => {
                let first = first.entry(Arc::as_ptr(content)).or_insert(path.to_vec());
                What::File(content.read().unwrap(), first.clone())
            }
            Node::Symlink(target) => {
                mode = 0o777;
                What::Other(0o120_000, target.clone())
            }
            Node::Special {
                file_type,
                major,
                minor,
            } => What::Other(*file_type, format!("{major}:{minor}").into()),
        };
        (path.to_vec(), (mode, uid, gid, mtime.unwrap_or(TIME)), what)
    };
    tree.iter().map(row).collect()
}

/// Compared row by row: a message with all of them helps nobody.
fn assert_same(one: &Tree, other: &Tree) {
    let (one, other) = (rows(one), rows(other));
    for (one, other) in one.iter().zip(&other) {
        assert!(
            one == other,
            "{} is not {}",
            one.0.escape_ascii(),
            other.0.escape_ascii()
        );
    }
    assert_eq!(one.len(), other.len());
}

/// Every kind of entry, and files of every way to be stored.
fn sample() -> Tree {
    let mut tree = Tree::new();
    let sizes = [
        0,
        1,
        100,
        65_535,
        65_536,
        BLOCK - 1,
        BLOCK,
        BLOCK + 1,
        3 * BLOCK + 5,
    ];
    for (number, bytes) in sizes.into_iter().enumerate() {
        let mtime = Some(u32::try_from(bytes).unwrap());
        let meta = Meta {
            mode: 0o4750,
            uid: 1000,
            gid: 70_000,
            mtime,
        };
        let mut content = b"line of text\n".repeat(bytes / 13 + 1);
        content.truncate(bytes);
        let path = format!("sizes/text-{bytes}");
        tree.file(path.as_bytes(), meta, Content::from_bytes(content))
            .unwrap();
        // Noise is stored as it is.
        let noise = noise(bytes + number)[number..].to_vec();
        let path = format!("sizes/noise-{bytes}");
        tree.file(path.as_bytes(), meta, Content::from_bytes(noise.clone()))
            .unwrap();
        let path = format!("zopies/noise-{bytes}");
        tree.file(
            path.as_bytes(),
            Meta::root(0o600),
            Content::from_bytes(noise),
        )
        .unwrap();
    }
    let holes = [vec![0; BLOCK], noise(BLOCK), vec![0; 2 * BLOCK + 9]].concat();
    let zeros = vec![0; 2 * BLOCK];
    for (name, content) in [
        ("holes", holes),
        ("zeros", zeros),
        ("small-zeros", vec![0; 99]),
    ] {
        tree.file(
            name.as_bytes(),
            Meta::root(0o644),
            Content::from_bytes(content),
        )
        .unwrap();
    }
    let linked = Arc::new(Content::from_bytes(&b"one and the same\n"[..]));
    for (name, mode) in [("a/one", 0o644), ("b/two", 0o644), ("b/other-mode", 0o755)] {
        let node = Node::File(Arc::clone(&linked));
        let entry = Entry {
            meta: Meta::root(mode),
            node,
        };
        tree.insert(name.as_bytes(), entry).unwrap();
    }
    tree.symlink(b"a/link", Meta::root(0o700), b"../b/two")
        .unwrap();
    tree.file(
        b"a/\xFF\xFE not text",
        Meta::root(0o644),
        Content::from_bytes(&b"x"[..]),
    )
    .unwrap();
    // The list of this directory is longer than a short inode can say, and its inodes lie in many blocks.
    for number in 0..3000 {
        let meta = Meta {
            uid: number,
            ..Meta::root(0o644)
        };
        let path = format!("many/a-file-with-a-rather-long-name-{number}");
        tree.file(
            path.as_bytes(),
            meta,
            Content::from_bytes(number.to_string().into_bytes()),
        )
        .unwrap();
    }
    tree
}

#[test]
fn our_own_reader_finds_what_was_written() {
    let workshop = Workshop::new();
    let mut tree = sample();
    for (number, file_type) in [0o060_000, 0o020_000, 0o010_000, 0o140_000]
        .into_iter()
        .enumerate()
    {
        let (major, minor) = match number {
            0 => (259, 300_000),
            1 => (1, 3),
            _ => (0, 0),
        };
        let node = Node::Special {
            file_type,
            major,
            minor,
        };
        let meta = Meta::root(0o660);
        tree.insert(format!("dev/{number}").as_bytes(), Entry { meta, node })
            .unwrap();
    }
    for level in LEVELS {
        let path = workshop.path("image");
        write(&tree, level, &path).unwrap();
        let read = read(&path);
        // A file whose names have different modes is two, with one content.
        let other = read.get(b"b/other-mode").unwrap().meta.mode;
        assert_eq!(
            (other, read.get(b"b/two").unwrap().meta.mode),
            (0o755, 0o644)
        );
        let mut wanted = tree.clone();
        let content = Content::from_bytes(&b"one and the same\n"[..]);
        wanted
            .file(b"b/other-mode", Meta::root(0o755), content)
            .unwrap();
        assert_same(&read, &wanted);
    }
}

#[test]
fn unsquashfs_unpacks_what_was_written() {
    let workshop = Workshop::new();
    let tree = sample();
    for level in LEVELS {
        let (path, into) = (
            workshop.path("image"),
            workshop.path(&format!("out-{level}")),
        );
        write(&tree, level, &path).unwrap();
        assert_eq!(path.metadata().unwrap().len() % 4096, 0);
        let mut unsquashfs = Command::new("unsquashfs");
        unsquashfs.args(["-quiet", "-no-progress", "-dest"]);
        output(unsquashfs.arg(&into).arg(&path));
        for (path, (mode, uid, _, mtime), what) in rows(&tree) {
            let file = into.join(std::ffi::OsStr::from_bytes(&path));
            let metadata = file.symlink_metadata().unwrap();
            let shown = path.escape_ascii();
            match what {
                What::Directory => assert!(metadata.is_dir(), "{shown}"),
                What::File(content, _) => assert!(fs::read(&file).unwrap() == content, "{shown}"),
                What::Other(_, target) => {
                    assert_eq!(fs::read_link(&file).unwrap().as_os_str().as_bytes(), target);
                    continue;
                }
            }
            assert_eq!(metadata.mode() & 0o7777, mode, "{shown}");
            assert_eq!(metadata.mtime(), i64::from(mtime), "{shown}");
            // Only root may give files away.
            let is_root = workshop.dir.path().metadata().unwrap().uid() == 0;
            let owner = if is_root { uid } else { metadata.uid() };
            assert_eq!(metadata.uid(), owner, "{shown}");
        }
        let inode = |name: &str| into.join(name).metadata().unwrap().ino();
        assert_eq!(inode("a/one"), inode("b/two"));
        assert_ne!(inode("a/one"), inode("b/other-mode"));
        let holes = into.join("holes").metadata().unwrap();
        assert!(
            holes.blocks() * 512 < holes.len(),
            "{} blocks",
            holes.blocks()
        );
    }
}

#[test]
fn a_copy_takes_no_room() {
    let workshop = Workshop::new();
    let bytes = |copies: usize, level| {
        let mut tree = Tree::new();
        for number in 0..copies {
            let content = Content::from_bytes(noise(100_000));
            tree.file(
                format!("copy-{number}").as_bytes(),
                Meta::root(0o644),
                content,
            )
            .unwrap();
        }
        let path = workshop.path("image");
        write(&tree, level, &path).unwrap();
        path.metadata().unwrap().len()
    };
    for level in LEVELS {
        assert_eq!(bytes(9, level), bytes(1, level));
    }
}

#[test]
fn an_image_of_nothing_can_be_read() {
    let workshop = Workshop::new();
    let path = workshop.path("image");
    write(&Tree::new(), 6, &path).unwrap();
    assert!(read(&path).is_empty());
    output(Command::new("unsquashfs").arg("-ls").arg(&path));
}

#[test]
fn what_squashfs_has_no_room_for_is_named() {
    let workshop = Workshop::new();
    let refused = |path: &[u8], node: Node| {
        let mut tree = Tree::new();
        let meta = Meta::root(0o644);
        tree.insert(path, Entry { meta, node }).unwrap();
        messages(&write(&tree, 6, &workshop.path("image")).unwrap_err())
    };
    let long = [b"folder/".as_slice(), &[b'n'; 257]].concat();
    let message = refused(&long, Node::Symlink(b"to".to_vec()));
    assert!(message.contains("folder/nnn"), "{message}");
    assert!(message.contains("257 bytes"), "{message}");
    let node = |major, minor| Node::Special {
        file_type: 0o060_000,
        major,
        minor,
    };
    let message = refused(b"dev/big", node(4096, 1));
    assert!(
        message.contains("dev/big") && message.contains("4096:1"),
        "{message}"
    );
    let message = refused(b"dev/big", node(1, 1 << 20));
    assert!(message.contains("1:1048576"), "{message}");
}

fn meta() -> impl Strategy<Value = Meta> {
    let numbers = (
        0..0o10_000_u32,
        any::<u32>(),
        any::<u32>(),
        any::<Option<u32>>(),
    );
    numbers.prop_map(|(mode, uid, gid, mtime)| Meta {
        mode,
        uid,
        gid,
        mtime,
    })
}

/// A tree whose files and links have random names in random folders. (No link leads to itself, which the reader leaves out.)
fn any_tree() -> impl Strategy<Value = Tree> {
    let path = proptest::collection::vec("[a-c\\-]{1,3}", 1..5);
    let bytes = prop_oneof![0..200_usize, 0..3 * BLOCK];
    let entry = (path, meta(), bytes, any::<u8>());
    proptest::collection::vec(entry, 0..60).prop_map(|entries| {
        let mut tree = Tree::new();
        for (path, meta, bytes, byte) in entries {
            let node = match byte % 5 {
                0 => Node::Symlink(vec![b'A' + byte % 26; bytes % 100 + 1]),
                1 => Node::Directory { implied: false },
                _ => Node::File(Arc::new(Content::from_bytes(vec![byte % 3; bytes]))),
            };
            // One that has no place there is left out.
            let _ = tree.insert(path.join("/").as_bytes(), Entry { meta, node });
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_comes_out_as_it_went_in(tree in any_tree(), level in proptest::sample::select(&LEVELS)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        write(&tree, level, &path).unwrap();
        assert_same(&read(&path), &tree);
    }
}
