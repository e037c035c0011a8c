//! Layers read back by programs that are not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use towline_contract::Digest;
use towline_contract::limits::CHUNK_BYTES;

use crate::support::{Workshop, directory_recipe, filter, noise, output, unpacked};

/// A tree with all that a directory can hold, and names that need care.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.write("tree/etc/hostname", "example\n");
    workshop.write("tree/etc/empty", "");
    workshop.write("tree/etc/name with spaces", "1");
    workshop.write("tree/etc/Főtanúsítvány.crt", "22");
    workshop.write("tree/usr/bin/tool", "#!/usr/bin/tool\n");
    fs::set_permissions(
        workshop.path("tree/usr/bin/tool"),
        PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    workshop.write("tree/var/large", noise(3 << 20));
    fs::hard_link(
        workshop.path("tree/etc/hostname"),
        workshop.path("tree/etc/other-name"),
    )
    .unwrap();
    symlink("usr/bin", workshop.path("tree/bin")).unwrap();
    workshop
}

fn names() -> BTreeSet<String> {
    let names = [
        "bin",
        "etc",
        "etc/Főtanúsítvány.crt",
        "etc/empty",
        "etc/hostname",
        "etc/name with spaces",
        "etc/other-name",
        "usr",
        "usr/bin",
        "usr/bin/tool",
        "var",
        "var/large",
    ];
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn gnu_cpio_and_bsdcpio_list_the_same_entries() {
    let workshop = workshop();
    let built = workshop.build(&directory_recipe("")).unwrap();
    let archive = unpacked(&built.layer);
    for (program, arguments) in [
        ("cpio", ["-it", "--quiet"]),
        ("bsdcpio", ["-it", "--quiet"]),
    ] {
        let mut command = Command::new(program);
        let listed = filter(command.args(arguments).env("LC_ALL", "C.UTF-8"), &archive);
        let listed = String::from_utf8(listed).unwrap();
        let listed: BTreeSet<String> = listed.lines().map(str::to_owned).collect();
        assert_eq!(listed, names(), "{program}");
    }
}

#[test]
fn gnu_cpio_unpacks_what_went_in() {
    let workshop = workshop();
    let built = workshop.build(&directory_recipe("")).unwrap();
    let into = workshop.path("unpacked");
    fs::create_dir(&into).unwrap();
    let mut command = Command::new("cpio");
    filter(
        command
            .args(["-id", "--quiet", "--no-preserve-owner"])
            .current_dir(&into),
        &unpacked(&built.layer),
    );
    for name in [
        "etc/hostname",
        "etc/other-name",
        "etc/empty",
        "etc/name with spaces",
        "usr/bin/tool",
        "var/large",
    ] {
        let wanted = fs::read(workshop.path("tree").join(name)).unwrap();
        assert_eq!(fs::read(into.join(name)).unwrap(), wanted, "{name}");
    }
    assert_eq!(
        fs::read_link(into.join("bin")).unwrap().to_str(),
        Some("usr/bin")
    );
    let mode = |name: &str| fs::metadata(into.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("usr/bin/tool"), 0o755);
    assert_eq!(mode("etc/hostname"), 0o644);
}

#[test]
fn the_cpio_crate_finds_hard_links_as_one_inode_with_one_body() {
    let workshop = workshop();
    let built = workshop
        .build(&directory_recipe("compression = \"none\""))
        .unwrap();
    let archive = fs::read(&built.layer).unwrap();
    let mut rest = archive.as_slice();
    let mut found = BTreeMap::new();
    loop {
        let mut reader = cpio::newc::Reader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            break;
        }
        let mut body = Vec::new();
        reader.read_to_end(&mut body).unwrap();
        let entry = reader.entry();
        found.insert(
            entry.name().to_owned(),
            (entry.ino(), entry.nlink(), entry.uid(), body),
        );
        rest = reader.finish().unwrap();
    }
    assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), names());
    let (first, second) = (&found["etc/hostname"], &found["etc/other-name"]);
    assert_eq!(
        (first.0, first.1, first.3.as_slice()),
        (second.0, 2, b"example\n".as_slice())
    );
    assert_eq!((second.1, second.3.as_slice()), (2, b"".as_slice()));
    assert!(
        found.values().all(|entry| entry.2 == 0),
        "everything belongs to root"
    );
}

#[test]
fn gzip_unpacks_a_gzip_layer() {
    let workshop = workshop();
    let built = workshop
        .build(&directory_recipe("compression = \"gzip\"").replace("level = 3", "level = 6"))
        .unwrap();
    let stored = fs::read(&built.layer).unwrap();
    let archive = filter(Command::new("gzip").args(["-dc", "--quiet"]), &stored[..]);
    assert!(archive.starts_with(b"070701"));
    assert_eq!(archive.len() as u64, built.manifest.unpacked_bytes);
}

#[test]
fn the_manifest_says_what_is_stored() {
    let workshop = workshop();
    let built = workshop.build(&directory_recipe("")).unwrap();
    let stored = fs::read(&built.layer).unwrap();
    let manifest = &built.manifest;
    assert_eq!(stored.len() % 4, 0);
    assert_eq!(
        (manifest.stored_bytes, manifest.digest),
        (stored.len() as u64, Digest::of(&stored))
    );
    let chunks: Vec<_> = stored
        .chunks(usize::try_from(CHUNK_BYTES).unwrap())
        .map(Digest::of)
        .collect();
    assert!(chunks.len() > 1, "more than one chunk");
    assert_eq!(manifest.chunks, chunks);
    assert_eq!(manifest.entries, names().len() as u64);
    assert_eq!(manifest.unpacked_bytes, unpacked(&built.layer).len() as u64);
    assert_eq!(fs::read(&built.manifest_file).unwrap(), manifest.to_bytes());
}

#[test]
fn unsquashfs_finds_the_tree_in_an_image_and_the_plain_entries_beside_it() {
    let workshop = workshop();
    let recipe = directory_recipe("plain = [\"etc/hostname\"]")
        .replace("form = \"files\"", "form = \"image\"");
    let built = workshop.build(&recipe).unwrap();
    let into = workshop.path("unpacked");
    fs::create_dir(&into).unwrap();
    filter(
        Command::new("cpio")
            .args(["-id", "--quiet"])
            .current_dir(&into),
        &unpacked(&built.layer),
    );
    assert_eq!(
        fs::read_to_string(into.join("etc/hostname")).unwrap(),
        "example\n"
    );
    let image = built.manifest.image.unwrap();
    assert_eq!(image.path, "towline/images/20-base.squashfs");
    let path = into.join(&image.path);
    assert_eq!(path.metadata().unwrap().len(), image.bytes);

    let content = into.join("content");
    output(
        Command::new("unsquashfs")
            .args(["-quiet", "-no-progress", "-dest"])
            .args([&content, &path]),
    );
    for name in [
        "etc/other-name",
        "etc/empty",
        "etc/Főtanúsítvány.crt",
        "var/large",
    ] {
        let wanted = fs::read(workshop.path("tree").join(name)).unwrap();
        assert_eq!(fs::read(content.join(name)).unwrap(), wanted, "{name}");
    }
    assert!(
        !content.join("etc/hostname").exists(),
        "what lies beside the image is not in it"
    );
    assert_eq!(
        fs::read_link(content.join("bin")).unwrap().to_str(),
        Some("usr/bin")
    );
}
