//! The squashfs of a live system as a source: made by `mksquashfs`, which everybody makes them with.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use proptest::sample::Index;
use towline_initramfs::content::Spool;
use towline_initramfs::filter::Filter;
use towline_initramfs::squashfs::{self, SquashfsError, Unpacked};
use towline_initramfs::stored;
use towline_initramfs::tree::{Node, Tree};

use crate::support::{Workshop, messages, noise, output};

/// A folder with every kind of file, of sizes that are stored in all ways: whole blocks, their ends, holes.
fn sample(workshop: &Workshop) {
    let program = workshop.write("in/bin/program", "#!/bin/sh\n");
    fs::set_permissions(&program, PermissionsExt::from_mode(0o4750)).unwrap();
    workshop.write("in/data/empty", "");
    workshop.write("in/data/one", "one and the same\n");
    fs::hard_link(workshop.path("in/data/one"), workshop.path("in/data/two")).unwrap();
    symlink("../data/one", workshop.path("in/bin/link")).unwrap();
    output(Command::new("mkfifo").arg(workshop.path("in/data/pipe")));
    // Blocks have 8 KiB here.
    workshop.write("in/data/whole", noise(3 * 8192));
    workshop.write("in/data/whole-and-end", noise(2 * 8192 + 77));
    workshop.write("in/data/text", "line\n".repeat(10_000));
    let holes = [noise(8192), vec![0; 2 * 8192 + 5], noise(9000)].concat();
    workshop.write("in/data/holes", holes);
    for number in 0..600 {
        workshop.write(
            &format!("in/many/file-with-a-name-{number}"),
            number.to_string(),
        );
    }
}

/// Packs `in` with these options.
fn pack(workshop: &Workshop, options: &[&str]) -> PathBuf {
    let image = workshop.path("live.squashfs");
    let mut command = Command::new("mksquashfs");
    command.arg(workshop.path("in")).arg(&image).args([
        "-quiet",
        "-no-progress",
        "-noappend",
        "-b",
        "8192",
    ]);
    output(command.args(options));
    image
}

fn unpack(image: &Path) -> Result<(Tree, Unpacked), SquashfsError> {
    let (mut spool, mut tree) = (Spool::new().unwrap(), Tree::new());
    let unpacked = squashfs::unpack(image, &Filter::default(), &mut spool, &mut tree)?;
    Ok((tree, unpacked))
}

/// Path, type and permissions, owner, size and time of each entry, and what is in it.
type Row = (String, u32, (u32, u32), u32, Vec<u8>);

fn rows(tree: &Tree) -> Vec<Row> {
    let row = |path: &[u8], entry: &towline_initramfs::tree::Entry| {
        let (kind, content) = match &entry.node {
            Node::Directory { .. } => (0o040_000, Vec::new()),
            Node::File(content) => (0o100_000, content.read().unwrap()),
            Node::Symlink(target) => (0o120_000, target.clone()),
            Node::Special {
                file_type,
                major,
                minor,
            } => (*file_type, format!("{major}:{minor}").into()),
        };
        let meta = entry.meta;
        let path = String::from_utf8(path.to_vec()).unwrap();
        (
            path,
            kind | meta.mode,
            (meta.uid, meta.gid),
            meta.mtime.unwrap(),
            content,
        )
    };
    tree.iter().map(|(path, entry)| row(path, entry)).collect()
}

/// The same of a folder.
fn rows_of_folder(root: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = match metadata.mode() & 0o170_000 {
                0o100_000 => fs::read(&path).unwrap(),
                0o120_000 => path
                    .read_link()
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes(),
                0o040_000 => Vec::new(),
                _ => b"0:0".to_vec(),
            };
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let owner = (metadata.uid(), metadata.gid());
            rows.push((
                name,
                metadata.mode(),
                owner,
                u32::try_from(metadata.mtime()).unwrap(),
                content,
            ));
        }
    }
    rows.sort();
    rows
}

#[test]
fn live_images_of_every_compression_give_what_was_packed() {
    let workshop = Workshop::new();
    sample(&workshop);
    let mut wanted = rows_of_folder(&workshop.path("in"));
    wanted.sort();
    assert!(wanted.len() > 600);
    let ways: [&[&str]; 7] = [
        &["-comp", "gzip"],
        &["-comp", "xz"],
        // As SystemRescue is packed.
        &["-comp", "xz", "-Xbcj", "x86"],
        &["-comp", "zstd"],
        &["-comp", "zstd", "-no-fragments"],
        &["-comp", "zstd", "-always-use-fragments"],
        // All as it is: inodes, data, fragments, ids.
        &["-noI", "-noD", "-noF", "-no-exports"],
    ];
    for way in ways {
        let (tree, unpacked) = unpack(&pack(&workshop, way)).unwrap();
        let mut found = rows(&tree);
        found.sort();
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!(
                found == wanted,
                "{way:?}: {} is not as {}",
                found.0,
                wanted.0
            );
        }
        assert_eq!(found.len(), wanted.len(), "{way:?}");
        let (one, two) = (tree.get(b"data/one"), tree.get(b"data/two"));
        let (Node::File(one), Node::File(two)) = (&one.unwrap().node, &two.unwrap().node) else {
            panic!("files")
        };
        assert!(Arc::ptr_eq(one, two), "hard links stay hard links");
        let newest = wanted
            .iter()
            .filter(|it| it.1 & 0o170_000 == 0o100_000)
            .map(|it| it.3)
            .max();
        assert_eq!(Some(unpacked.newest), newest);
    }
}

#[test]
fn owners_and_devices_come_as_unsquashfs_lists_them() {
    let workshop = Workshop::new();
    workshop.write("in/file", "of somebody\n");
    let options = [
        "-p",
        "dev d 755 0 0",
        "-p",
        "dev/disk b 660 7 70000 259 300000",
        "-p",
        "dev/null c 666 0 0 1 3",
    ];
    let image = pack(
        &workshop,
        &[&options[..], &["-force-uid", "1000", "-force-gid", "65534"]].concat(),
    );
    let (tree, _) = unpack(&image).unwrap();
    let special = |path: &[u8]| match tree.get(path).unwrap().node {
        Node::Special {
            file_type,
            major,
            minor,
        } => (file_type, major, minor),
        ref other => panic!("{other:?}"),
    };
    assert_eq!(special(b"dev/disk"), (0o060_000, 259, 300_000));
    assert_eq!(special(b"dev/null"), (0o020_000, 1, 3));
    let meta = tree.get(b"file").unwrap().meta;
    assert_eq!((meta.uid, meta.gid), (1000, 65534));
    let listed = output(Command::new("unsquashfs").args(["-lln"]).arg(&image));
    let listed = String::from_utf8(listed).unwrap();
    let paths = listed
        .lines()
        .filter_map(|line| line.split_once("squashfs-root/"));
    let mut paths: Vec<_> = paths.map(|(_, path)| path.as_bytes().to_vec()).collect();
    paths.sort();
    assert!(
        tree.iter()
            .map(|(path, _)| path)
            .eq(paths.iter().map(Vec::as_slice)),
        "{listed}"
    );
}

#[test]
fn a_recipe_takes_of_a_live_image_what_its_globs_leave_to_a_place_of_its_own() {
    let workshop = Workshop::new();
    sample(&workshop);
    pack(&workshop, &[]);
    let source = "[[source]]\ntype = \"live-image\"\nfile = \"live.squashfs\"\nto = \"live\"\n\
                  exclude = [\"live/many\", \"live/data\"]\ninclude = [\"live/data/one\"]\n";
    let recipe = format!(
        "kind = \"extra\"\nname = \"test\"\nversion = \"1\"\nform = \"files\"\nlevel = 1\nfrom-earlier-layers = [\"/**\"]\n{source}"
    );
    let built = workshop.build(&recipe).unwrap();
    let mut names = Vec::new();
    stored::list(&built.layer, |entry, _| {
        names.push(entry.display_name().to_string());
    })
    .unwrap();
    let wanted = [
        "live",
        "live/bin",
        "live/bin/link",
        "live/bin/program",
        "live/data",
        "live/data/one",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn entries_with_extended_attributes_are_told_and_come_without_them() {
    use rustix::fs::{XattrFlags, setxattr};
    let workshop = Workshop::new();
    workshop.write("in/capable", "of something\n");
    workshop.write("in/plain", "of nothing\n");
    for name in ["in/capable", "in"] {
        let path = workshop.path(name);
        setxattr(
            &path,
            "user.note",
            b"kept by the file system",
            XattrFlags::empty(),
        )
        .expect("file systems for temporary files have them (Linux 6.6 for tmpfs)");
    }
    let (tree, unpacked) = unpack(&pack(&workshop, &[])).unwrap();
    assert_eq!((tree.len(), unpacked.with_attributes), (2, 1));
}

/// What unpacking a file says of it.
fn refusal(path: &Path) -> String {
    messages(&unpack(path).unwrap_err())
}

#[test]
fn what_is_no_squashfs_or_is_packed_by_another_compression_is_refused_with_what_to_do() {
    let workshop = Workshop::new();
    sample(&workshop);
    let short = workshop.write("short", "hsqs");
    assert!(
        refusal(&short).contains("is no live image"),
        "{}",
        refusal(&short)
    );
    let mut iso = vec![0; 0x9000];
    iso[0x8001..0x8006].copy_from_slice(b"CD001");
    let iso = workshop.write("live.iso", iso);
    assert!(
        refusal(&iso).contains("take the squashfs out of it"),
        "{}",
        refusal(&iso)
    );
    for compression in ["lz4", "lzo"] {
        let refused = refusal(&pack(&workshop, &["-comp", compression]));
        assert!(
            refused.contains(&format!("its compression is {compression}")),
            "{refused}"
        );
    }
}

#[test]
fn an_image_that_was_cut_off_is_refused() {
    let workshop = Workshop::new();
    sample(&workshop);
    let whole = fs::read(pack(&workshop, &["-comp", "zstd"])).unwrap();
    for length in [100, whole.len() / 2, whole.len() - 4096] {
        let cut = workshop.write("cut", &whole[..length]);
        let refused = refusal(&cut);
        assert!(
            refused.contains(&format!("it has {length} of"))
                && refused.contains("bytes: fetch it again"),
            "{refused}"
        );
    }
}

/// Options for images whose tables are not compressed, so that damage reaches what they say.
const AS_IT_IS: &[&str] = &["-noI", "-noD", "-noF", "-noId", "-nopad"];

/// A small image.
fn small(options: &[&str]) -> Vec<u8> {
    let workshop = Workshop::new();
    workshop.write("in/a/file", noise(10_000));
    workshop.write("in/a/b/c/deep", "deep\n".repeat(100));
    fs::hard_link(workshop.path("in/a/file"), workshop.path("in/a/other")).unwrap();
    symlink("a/file", workshop.path("in/link")).unwrap();
    fs::read(pack(&workshop, options)).unwrap()
}

/// As it is, and in each compression.
static SMALL: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
    let compressed = |name| small(&["-nopad", "-comp", name]);
    [
        small(AS_IT_IS),
        compressed("gzip"),
        compressed("xz"),
        compressed("zstd"),
    ]
});

/// The superblock and all behind the contents, where each byte means something.
fn telling(image: &[u8]) -> Vec<usize> {
    let inodes = u64::from_le_bytes(image[64..72].try_into().unwrap());
    (0..96)
        .chain(usize::try_from(inodes).unwrap()..image.len())
        .collect()
}

#[test]
fn a_directory_that_lies_in_itself_is_refused() {
    let workshop = Workshop::new();
    let image = small(AS_IT_IS);
    let (root, _) = unpack(&workshop.write("whole", &image)).unwrap();
    assert!(root.get(b"a/b/c/deep").is_some());
    // In the list of a: the inode of b becomes that of a. The names are one letter, their entries nine bytes.
    let number = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
    let lists = usize::try_from(number(72)).unwrap();
    let entry = |name: u8| {
        let end = image.len();
        let found = (lists..end - 9).find(|at| image[at + 4..at + 9] == [1, 0, 0, 0, name]);
        found.unwrap()
    };
    let mut damaged = image.clone();
    let (a, b) = (entry(b'a'), entry(b'b'));
    damaged.copy_within(a..a + 2, b);
    let refused = refusal(&workshop.write("circle", &damaged));
    assert!(
        refused.contains("a directory lies in two others"),
        "{refused}"
    );
}

/// Makes `a/file` larger than a layer may be.
fn enlarge(image: &mut [u8]) {
    // Only files with several names have sizes of 64 bits.
    let size = 10_000_u64.to_le_bytes();
    let at = image.windows(8).rposition(|it| *it == size).unwrap();
    image[at..at + 8].copy_from_slice(&(17_u64 << 30).to_le_bytes());
}

#[test]
fn a_file_that_is_said_to_be_larger_than_a_layer_is_refused_before_it_is_read() {
    let workshop = Workshop::new();
    let mut image = small(AS_IT_IS);
    enlarge(&mut image);
    let refused = refusal(&workshop.write("bomb", &image));
    assert!(
        refused.contains("a/file") && refused.contains("that a layer may have"),
        "{refused}"
    );
}

#[test]
fn a_file_that_is_left_out_may_be_larger_than_a_layer() {
    let workshop = Workshop::new();
    let mut image = small(AS_IT_IS);
    enlarge(&mut image);
    let image = workshop.write("large", &image);
    let filter = Filter::new(&[], &["a/file".into(), "a/other".into()]).unwrap();
    let (mut spool, mut tree) = (Spool::new().unwrap(), Tree::new());
    squashfs::unpack(&image, &filter, &mut spool, &mut tree).unwrap();
    assert!(tree.get(b"a/b/c/deep").is_some() && tree.get(b"a/file").is_none());
}

/// An image as it is, in which `from` stands but once behind the contents, with `to` in its place.
fn changed(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut image = small(AS_IT_IS);
    let start = telling(&image)[96];
    let places: Vec<_> = (start..=image.len() - from.len())
        .filter(|at| image[*at..].starts_with(from))
        .collect();
    let [at] = places[..] else {
        panic!("{from:?} is at {places:?}")
    };
    image[at..at + to.len()].copy_from_slice(to);
    image
}

#[test]
fn links_that_lead_to_what_is_no_path_are_refused() {
    let workshop = Workshop::new();
    // Number of names, length, target.
    let empty = changed(b"\x01\0\0\0\x06\0\0\0a/file", b"\x01\0\0\0\0\0\0\0");
    let with_nul = changed(b"\x06\0\0\0a/file", b"\x06\0\0\0a\0file");
    for image in [empty, with_nul] {
        let refused = refusal(&workshop.write("link", &image));
        assert!(
            refused.contains("link") && refused.contains("what is no path"),
            "{refused}"
        );
    }
}

#[test]
fn a_directory_with_a_name_twice_or_out_of_order_is_refused() {
    let workshop = Workshop::new();
    // In the root are `a` and `link`, in `a` are `b`, `file` and `other`: length less one, and name.
    let twice = changed(b"\x03\0link", b"\0\0a");
    let out_of_order = changed(b"\x04\0other", b"\x04\0aaaaa");
    for image in [twice, out_of_order] {
        let refused = refusal(&workshop.write("names", &image));
        assert!(refused.contains("twice, or not in its place"), "{refused}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_image_is_read_or_refused(
        image in 0..SMALL.len(),
        changes in proptest::collection::vec((any::<Index>(), prop_oneof![any::<u8>(), Just(0), Just(255)]), 1..4),
    ) {
        let mut image = SMALL[image].clone();
        let places = telling(&image);
        for (place, byte) in changes {
            image[*place.get(&places)] = byte;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &image).unwrap();
        // No panic; and what is read is not more than there was.
        if let Ok((tree, _)) = unpack(file.path()) {
            prop_assert!(tree.len() < 100);
        }
    }
}
