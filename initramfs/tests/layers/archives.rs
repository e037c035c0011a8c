//! Archives as sources: made by the programs that everybody makes them with.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use towline_initramfs::content::Spool;
use towline_initramfs::filter::Filter;
use towline_initramfs::initrd::{self, InitrdError};
use towline_initramfs::stored;
use towline_initramfs::tree::{Node, Tree};

use crate::support::{Workshop, filter, messages, noise, output};

/// A folder with a program, two names of one file, a link and a fifo.
fn sample(workshop: &Workshop) {
    let program = workshop.write("in/top/bin/program", "#!/bin/sh\n");
    fs::set_permissions(&program, PermissionsExt::from_mode(0o750)).unwrap();
    workshop.write("in/top/data/one", "one and the same\n");
    fs::hard_link(
        workshop.path("in/top/data/one"),
        workshop.path("in/top/data/two"),
    )
    .unwrap();
    symlink("../data/one", workshop.path("in/top/bin/link")).unwrap();
    output(Command::new("mkfifo").arg(workshop.path("in/top/data/pipe")));
}

/// Names and types of a built layer's entries.
fn entries(layer: &std::path::Path) -> Vec<String> {
    let mut rows = Vec::new();
    stored::list(layer, |entry, target| {
        rows.push(format!(
            "{} {:o} {}",
            entry.display_name(),
            entry.mode,
            String::from_utf8_lossy(target)
        ));
    })
    .unwrap();
    rows
}

fn recipe(source: &str) -> String {
    format!(
        "kind = \"extra\"\nname = \"test\"\nversion = \"1\"\nform = \"files\"\nlevel = 1\n\
         from-earlier-layers = [\"*\", \"/**\"]\n[[source]]\n{source}"
    )
}

#[test]
fn tar_archives_of_every_compression_give_the_same_entries() {
    let workshop = Workshop::new();
    sample(&workshop);
    let mut found = Vec::new();
    for option in ["--no-auto-compress", "--gzip", "--xz", "--zstd", "--bzip2"] {
        let file = format!("a{option}.tar");
        let option = option.replace("--no-auto-compress", "--numeric-owner");
        output(
            Command::new("tar")
                .args(["--create", "--sort=name", &option, "--file"])
                .arg(workshop.path(&file))
                .arg("--directory")
                .arg(workshop.path("in"))
                .arg("top"),
        );
        let source = format!("type = \"tar\"\nfile = \"{file}\"\nto = \"opt/agent\"\nstrip = 1\n");
        found.push(entries(&workshop.build(&recipe(&source)).unwrap().layer));
        fs::remove_dir_all(workshop.path("out")).unwrap();
    }
    let names: Vec<_> = found[0]
        .iter()
        .map(|row| row.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "opt",
            "opt/agent",
            "opt/agent/bin",
            "opt/agent/bin/link",
            "opt/agent/bin/program",
            "opt/agent/data",
            "opt/agent/data/one",
            "opt/agent/data/pipe",
            "opt/agent/data/two"
        ]
    );
    assert!(found[0][3].ends_with("../data/one"), "{found:?}");
    assert!(found[0][4].contains("100750"), "{found:?}");
    assert!(found.iter().all(|other| *other == found[0]), "{found:?}");
}

#[test]
fn a_tar_archive_that_ends_early_is_refused_with_its_name() {
    let workshop = Workshop::new();
    workshop.write("in/noise", noise(100_000));
    let tar = output(
        Command::new("tar")
            .args(["--create", "--gzip", "--directory"])
            .arg(workshop.path("in"))
            .arg("noise"),
    );
    workshop.write("short.tar.gz", &tar[..tar.len() / 2]);
    let found = workshop.build(&recipe("type = \"tar\"\nfile = \"short.tar.gz\"\n"));
    let text = messages(&found.unwrap_err());
    assert!(
        text.contains("short.tar.gz") && text.contains("in entry noise"),
        "{text}"
    );
    assert!(
        !workshop
            .path("out")
            .read_dir()
            .unwrap()
            .any(|e| { e.unwrap().path().extension().is_some_and(|e| e == "layer") })
    );
}

#[test]
fn a_tar_entry_cannot_leave_the_layer() {
    let workshop = Workshop::new();
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..7].copy_from_slice(b"../evil");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_mtime(1);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, std::io::empty()).unwrap();
    workshop.write("evil.tar", builder.into_inner().unwrap());
    let found = workshop.build(&recipe("type = \"tar\"\nfile = \"evil.tar\"\n"));
    let text = messages(&found.unwrap_err());
    assert!(text.contains("../evil"), "{text}");
}

/// A tar archive, compressed, of an entry of this type with `bytes` bytes, which describes the next, and a file.
fn described(kind: tar::EntryType, bytes: u64) -> Vec<u8> {
    let mut builder = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    for size in [bytes, 0] {
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(1);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        builder
            .append(&header, std::io::repeat(b'x').take(size))
            .unwrap();
        header.set_entry_type(tar::EntryType::Regular);
    }
    builder.into_inner().unwrap().finish().unwrap()
}

#[test]
fn a_tar_archive_whose_names_unpack_without_end_is_refused_before_they_take_memory() {
    let workshop = Workshop::new();
    let recipe = recipe("type = \"tar\"\nfile = \"long.tar.zst\"\n");
    workshop.write(
        "long.tar.zst",
        described(tar::EntryType::GNULongName, 4_000),
    );
    workshop.build(&recipe).unwrap();
    for kind in [
        tar::EntryType::GNULongName,
        tar::EntryType::GNULongLink,
        tar::EntryType::XHeader,
    ] {
        let small = described(kind, 64 << 20);
        assert!(small.len() < 100_000, "{}", small.len());
        workshop.write("long.tar.zst", small);
        let text = messages(&workshop.build(&recipe).unwrap_err());
        assert!(
            text.contains("describes an entry has more than 262144 bytes"),
            "{kind:?}: {text}"
        );
    }
    workshop.write(
        "long.tar.zst",
        described(tar::EntryType::GNULongName, 5_000),
    );
    let text = messages(&workshop.build(&recipe).unwrap_err());
    assert!(text.contains("has more than 4095 bytes"), "{text}");
}

#[test]
fn a_file_that_is_left_out_may_be_of_any_size() {
    let workshop = Workshop::new();
    workshop.write("in/large", vec![b'x'; 1 << 20]);
    let holes = fs::File::create(workshop.path("in/holes")).unwrap();
    holes.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, &[b'x'; 600_000], 1 << 30).unwrap();
    workshop.write("in/small", "kept");
    output(
        Command::new("tar")
            .args(["--create", "--sparse", "--format=gnu", "--file"])
            .arg(workshop.path("a.tar"))
            .arg("--directory")
            .arg(workshop.path("in"))
            .args(["holes", "large", "small"]),
    );
    let source = "type = \"tar\"\nfile = \"a.tar\"\nexclude = [\"holes\", \"large\"]\n";
    let built = workshop.build(&recipe(source)).unwrap();
    assert_eq!(entries(&built.layer), ["small 100644 "]);
}

/// What GNU cpio makes of the folder `name`.
fn cpio(workshop: &Workshop, name: &str) -> Vec<u8> {
    let list = output(
        Command::new("sh")
            .args(["-c", "find . | sort"])
            .current_dir(workshop.path(name)),
    );
    filter(
        Command::new("cpio")
            .args(["--quiet", "-o", "-H", "newc"])
            .current_dir(workshop.path(name)),
        &list,
    )
}

fn unpack(workshop: &Workshop, image: &[u8]) -> Result<Tree, InitrdError> {
    let path = workshop.write("image", image);
    let mut tree = Tree::new();
    initrd::unpack(
        &path,
        &Filter::default(),
        &mut Spool::new().unwrap(),
        &mut tree,
    )?;
    Ok(tree)
}

fn text(tree: &Tree, path: &str) -> String {
    match &tree
        .get(path.as_bytes())
        .unwrap_or_else(|| panic!("{path}"))
        .node
    {
        Node::File(content) => String::from_utf8(content.read().unwrap()).unwrap(),
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn an_initramfs_of_several_archives_is_what_the_kernel_makes_of_it() {
    let workshop = Workshop::new();
    sample(&workshop);
    workshop.write("later/top/bin/program", "the later one\n");
    let (first, later) = (cpio(&workshop, "in"), cpio(&workshop, "later"));
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let plain = |bytes: &[u8]| bytes.to_vec();
    type Way<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let ways: [(&str, Way<'_>); 3] = [("plain", &plain), ("gzip", &gzip), ("zstd", &zstd)];
    for (name, first_way) in &ways {
        for (later_name, later_way) in &ways {
            let mut image = first_way(&first);
            image.resize(image.len().next_multiple_of(512), 0);
            image.extend(later_way(&later));
            let tree = unpack(&workshop, &image).unwrap();
            let which = format!("{name}, then {later_name}");
            assert_eq!(text(&tree, "top/bin/program"), "the later one\n", "{which}");
            for file in ["top/data/one", "top/data/two"] {
                assert_eq!(text(&tree, file), "one and the same\n", "{which}");
            }
            let (one, two) = (tree.get(b"top/data/one"), tree.get(b"top/data/two"));
            let (Node::File(one), Node::File(two)) = (&one.unwrap().node, &two.unwrap().node)
            else {
                panic!("files")
            };
            assert!(
                std::sync::Arc::ptr_eq(one, two),
                "hard links stay hard links"
            );
        }
    }
    let owner = fs::metadata(workshop.path("in/top/data/one"))
        .unwrap()
        .uid();
    let tree = unpack(&workshop, &first).unwrap();
    assert_eq!(tree.get(b"top/data/one").unwrap().meta.uid, owner);
}

#[test]
fn a_name_that_another_file_took_is_not_given_back_when_the_content_comes() {
    let workshop = Workshop::new();
    let mut image = Vec::new();
    let entries = [
        ("a", 2, &b""[..]),
        ("b", 2, b""),
        ("a", 1, b"another"),
        ("c", 2, b"the content"),
    ];
    for (name, links, content) in entries {
        let builder = cpio::newc::Builder::new(name).ino(if links > 1 { 7 } else { 8 });
        let builder = builder.nlink(links).mode(0o100_644);
        let mut writer = builder.write(&mut image, u32::try_from(content.len()).unwrap());
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
    }
    cpio::newc::trailer(&mut image).unwrap();
    let tree = unpack(&workshop, &image).unwrap();
    let texts = ["a", "b", "c"].map(|name| text(&tree, name));
    assert_eq!(texts, ["another", "the content", "the content"]);
}

#[test]
fn an_initramfs_with_garbage_between_its_archives_is_refused_with_its_place() {
    let workshop = Workshop::new();
    sample(&workshop);
    let mut image = cpio(&workshop, "in");
    image.extend(b"garbage and more of it, longer than a header would be, so that it is seen to be none: 0123456789012345678901234567890123456789");
    let found = unpack(&workshop, &image).unwrap_err();
    assert!(
        messages(&found).contains("archive 2"),
        "{}",
        messages(&found)
    );
    let image = cpio(&workshop, "in");
    let found = unpack(&workshop, &image[..image.len() / 2]).unwrap_err();
    assert!(
        messages(&found).contains("archive 1"),
        "{}",
        messages(&found)
    );
}
