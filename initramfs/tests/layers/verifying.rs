//! Damaged layers, and layers that lie, are found.

use std::fs;
use std::process::Command;

use towline_contract::lanes::Rule;
use towline_contract::manifest::{Kind, Manifest};
use towline_initramfs::build::{self, Built, Options};
use towline_initramfs::recipe::Recipe;
use towline_initramfs::stored::{self, StoredError};

use crate::support::{Workshop, directory_recipe, noise, output};

fn built(workshop: &Workshop) -> Built {
    workshop.write("tree/etc/hostname", "example\n");
    workshop.write("tree/var/large", noise(3 << 20));
    workshop.build(&directory_recipe("")).unwrap()
}

/// Changes the stored bytes and lets the manifest say that this is right.
fn forge(built: &Built, change: impl FnOnce(&mut Vec<u8>)) -> Manifest {
    let mut stored = fs::read(&built.layer).unwrap();
    change(&mut stored);
    fs::write(&built.layer, &stored).unwrap();
    let mut manifest = built.manifest.clone();
    manifest.stored_bytes = stored.len() as u64;
    manifest.digest = towline_contract::Digest::of(&stored);
    manifest.chunks = stored
        .chunks(1 << 20)
        .map(towline_contract::Digest::of)
        .collect();
    manifest
}

#[test]
fn what_was_built_is_whole() {
    let workshop = Workshop::new();
    let built = built(&workshop);
    let manifest = stored::read_manifest(&stored::manifest_path(&built.layer)).unwrap();
    assert_eq!(manifest, built.manifest);
    stored::verify(&built.layer, &manifest, &[]).unwrap();
}

#[test]
fn one_flipped_bit_is_found_and_its_chunk_named() {
    let workshop = Workshop::new();
    let built = built(&workshop);
    let mut stored = fs::read(&built.layer).unwrap();
    stored[(1 << 20) + 5] ^= 1;
    fs::write(&built.layer, stored).unwrap();
    match stored::verify(&built.layer, &built.manifest, &[]) {
        Err(StoredError::Digest { chunks, .. }) => assert_eq!(chunks, [1]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_layer_that_was_cut_off_is_found_with_both_sizes() {
    let workshop = Workshop::new();
    let built = built(&workshop);
    let stored = fs::read(&built.layer).unwrap();
    fs::write(&built.layer, &stored[..stored.len() - 4]).unwrap();
    let error = stored::verify(&built.layer, &built.manifest, &[]).unwrap_err();
    let (found, wanted) = (stored.len() - 4, stored.len());
    assert!(
        error.to_string().contains(&format!(
            "has {found} bytes, but its manifest says {wanted}"
        )),
        "{error}"
    );
}

#[test]
fn a_second_frame_is_refused_even_if_the_manifest_knows_it() {
    let workshop = Workshop::new();
    let built = built(&workshop);
    let manifest = forge(&built, |stored| {
        stored.extend(zstd::encode_all(&b"more"[..], 3).unwrap());
        stored.resize(stored.len().next_multiple_of(4), 0);
    });
    let found = stored::verify(&built.layer, &manifest, &[]);
    assert!(
        matches!(found, Err(StoredError::AfterFrame { .. })),
        "{found:?}"
    );
}

#[test]
fn a_gzip_header_that_linux_would_read_otherwise_is_refused_before_publishing() {
    let workshop = Workshop::new();
    workshop.write("tree/etc/hostname", "example\n");
    let recipe = directory_recipe("compression = \"gzip\"").replace("level = 3", "level = 6");
    let built = workshop.build(&recipe).unwrap();
    stored::verify(&built.layer, &built.manifest, &[]).unwrap();
    let manifest = forge(&built, |stored| {
        stored[3] = 4;
        stored.splice(10..10, *b"\x02\0xx");
    });
    let found = stored::verify(&built.layer, &manifest, &[]);
    assert!(
        matches!(found, Err(StoredError::GzipHeader { .. })),
        "{found:?}"
    );
}

#[test]
fn a_manifest_that_says_fewer_entries_is_a_lie() {
    let workshop = Workshop::new();
    let built = built(&workshop);
    let mut manifest = built.manifest.clone();
    manifest.entries -= 1;
    match stored::verify(&built.layer, &manifest, &[]) {
        Err(StoredError::Lane(error)) => {
            assert!(matches!(error.rule, Rule::MoreEntries(_)), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_host_layer_with_a_program_of_the_base_is_refused() {
    let workshop = Workshop::new();
    workshop.write("tree/usr/bin/bash", "#!/bin/sh\n");
    let recipe = directory_recipe("").replace("\"base\"", "\"host\"");
    let built = workshop.build(&recipe).unwrap();
    assert_eq!(built.manifest.kind, Kind::Host);
    match stored::verify(&built.layer, &built.manifest, &[]) {
        Err(StoredError::Lane(error)) => {
            assert!(matches!(error.rule, Rule::Outside(Kind::Host)), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_ready_recipe_of_a_portable_archive_takes_rears_files_and_no_secrets_and_keeps_to_its_lane() {
    let workshop = Workshop::new();
    let name = "host-portable.toml";
    let mut all = towline_initramfs::ready_recipes();
    let (_, recipe) = all.find(|it| it.0 == name).unwrap();
    workshop.write(name, recipe);
    // What ReaR's output/PORTABLE/default/450_create_portable_archive.sh packs.
    let wanted = [
        "etc/rear/local.conf",
        "etc/rear/mappings/disk_devices",
        "usr/sbin/rear",
        "usr/share/rear/lib/layout.sh",
        "var/lib/rear/layout/disklayout.conf",
        "var/lib/rear/recovery/diskbyid_mappings",
    ];
    let others = [
        "etc/rear/cert/site.crt",
        "etc/rear/key.pem",
        "var/lib/rear/sysreqs/mounts",
        "var/lib/rear/rsync/backup.log",
    ];
    for file in wanted.iter().chain(&others) {
        workshop.write(&format!("root/{file}"), "x\n");
    }
    output(
        Command::new("tar")
            .args(["-czf", "portable.tar.gz", "-C", "root"])
            .args([
                "usr/sbin/rear",
                "etc/rear",
                "usr/share/rear",
                "var/lib/rear",
            ])
            .current_dir(workshop.dir.path()),
    );
    let settings = [("host", "web1"), ("archive", "portable.tar.gz")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let recipe = Recipe::read(&workshop.path(name), &settings.into()).unwrap();
    let options = Options {
        out: workshop.path("out"),
        cache: workshop.path("cache"),
        fetch_wait: None,
    };
    let built = build::build(&recipe, &options, &mut |_| {}).unwrap();
    stored::verify(&built.layer, &built.manifest, &[]).unwrap();
    let mut files = Vec::new();
    stored::list(&built.layer, |entry, _| {
        let name = entry.display_name();
        let name = name.strip_prefix("usr/lib/towline/rear/");
        files.extend(
            name.filter(|_| entry.mode & 0o170_000 == 0o100_000)
                .map(str::to_owned),
        );
    })
    .unwrap();
    assert_eq!(files, wanted);
}

#[test]
fn the_ready_host_recipe_builds_and_keeps_to_its_lane() {
    let workshop = Workshop::new();
    for (name, bytes) in towline_initramfs::ready_recipes() {
        workshop.write(name, bytes);
    }
    let recipe = fs::read_to_string(workshop.path("host-example.toml")).unwrap();
    let built = workshop.build(&recipe).unwrap();
    stored::verify(&built.layer, &built.manifest, &[]).unwrap();
    assert_eq!(
        built.manifest.target_name(),
        "host/example/20250601t020000z/all"
    );
}
