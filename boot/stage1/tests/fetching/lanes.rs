//! Every way out of a lane, as a signed layer: refused in place and by kexec, by layer, entry and rule.

use std::error::Error;

use towline_contract::Digest;
use towline_contract::lanes::LayerPolicy;
use towline_contract::manifest::{Compression, Kind};
use towline_contract::newc::{Entry, mode, trailer};
use towline_harness::layer::{Item, Layer, of_items, with_parents};

use crate::placing::{base_of, place_ready, ready_for_kexec};
use crate::world::{Ready, kernel};

/// A layer, the entry that is named, and words of the rule.
type Bad = (Layer, &'static str, &'static str);

fn agent(items: &[Item]) -> Layer {
    of_items(Kind::Agent, "restic", Compression::Zstd, items)
}

/// An agent of this archive, about which its manifest is honest.
fn of_archive(archive: Vec<u8>, entries: u64) -> Layer {
    let mut layer = agent(&[]);
    layer.manifest.digest = Digest::of(&archive);
    layer.manifest.chunks = vec![Digest::of(&archive)];
    layer.manifest.stored_bytes = archive.len() as u64;
    layer.manifest.unpacked_bytes = archive.len() as u64;
    layer.manifest.entries = entries;
    layer.manifest.compression = Compression::None;
    layer.stored = archive;
    layer
}

fn opt() -> Item {
    Item::directory("opt", 0o755)
}

fn file(path: &str) -> Item {
    Item::file(path, 0o644, b"evil")
}

fn of_type(path: &str, mode: u32) -> Item {
    let mut item = file(path);
    item.entry.mode = mode;
    item.body.clear();
    item
}

fn bad_entries() -> Vec<Bad> {
    let relative = "names are relative";
    let parent = "every parent must be a directory";
    let once = "a name may occur once";
    let way = Item::link("opt/way", "/etc");
    let mut rows = vec![
        (
            agent(&[opt(), file("opt/../etc/passwd")]),
            "opt/../etc/passwd",
            relative,
        ),
        (agent(&[file("/etc/passwd")]), "/etc/passwd", relative),
        (agent(&[opt(), file("opt//x")]), "opt//x", relative),
        (
            agent(&[opt(), way, file("opt/way/passwd")]),
            "opt/way/passwd",
            parent,
        ),
        (agent(&[file("opt/x")]), "opt/x", parent),
        (agent(&[file("opt"), file("opt/x")]), "opt/x", parent),
        (agent(&[file("opt"), file("opt")]), "opt", once),
        (agent(&[Item::link("opt", "/etc"), opt()]), "opt", once),
        (
            agent(&[Item::hard("a", 7, b"good"), Item::hard("b", 7, b"evil")]),
            "b",
            "a hard link names a regular file",
        ),
    ];
    for (file_type, words) in [
        (mode::S_IFBLK, "may not have a device node"),
        (mode::S_IFCHR, "may not have a device node"),
        (mode::S_IFIFO, "may not have a fifo"),
        (mode::S_IFSOCK, "may not have a socket"),
    ] {
        rows.push((agent(&[of_type("x", file_type | 0o600)]), "x", words));
    }
    for bit in [mode::S_ISUID, mode::S_ISGID] {
        let item = of_type("x", mode::S_IFREG | bit | 0o755);
        rows.push((agent(&[item]), "x", "set-id bits"));
    }
    let foreign = with_parents(vec![file("usr/bin/bash")]);
    let host = of_items(Kind::Host, "example", Compression::Zstd, &foreign);
    rows.push((host, "usr/bin", "host layers may not have anything there"));
    rows
}

fn bad_archives() -> Vec<Bad> {
    let archive = |items: &[Item]| of_items(Kind::Agent, "x", Compression::None, items).stored;
    let spoilt_trailer = Entry {
        name: b"TRAILER!!!".to_vec(),
        bytes: 4,
        ..Entry::default()
    };
    let spoilt_trailer = [spoilt_trailer.encode().unwrap(), b"evil".to_vec()].concat();
    let two = [archive(&[opt()]), archive(&[file("init")])].concat();
    let mut rows = vec![
        (of_archive(two, 2), "", "goes on after its trailer"),
        (
            of_archive([trailer(), b"evil".to_vec()].concat(), 0),
            "",
            "goes on after its trailer",
        ),
        (
            of_archive(spoilt_trailer, 0),
            "",
            "has content, or is a link",
        ),
        (
            of_archive(archive(&[opt()])[..112].to_vec(), 1),
            "",
            "before its trailer",
        ),
    ];
    let honest = [opt(), file("opt/x")];
    for (bytes, entries, entry, words) in [
        (-4, 0, "", "larger than the"),
        (4, 0, "", "but its manifest says"),
        (0, -1, "opt/x", "more than the 1 entries"),
        (0, 1, "", "but its manifest says 3"),
    ] {
        let mut layer = agent(&honest);
        let manifest = &mut layer.manifest;
        manifest.unpacked_bytes = manifest.unpacked_bytes.checked_add_signed(bytes).unwrap();
        manifest.entries = manifest.entries.checked_add_signed(entries).unwrap();
        rows.push((layer, entry, words));
    }
    let zeros = Item::file("opt/bomb", 0o644, &vec![0; 16 << 20]);
    let mut bomb = agent(&[opt(), zeros]);
    assert!(bomb.stored.len() < 100_000, "a bomb is small");
    bomb.manifest.unpacked_bytes = 1 << 20;
    rows.push((bomb, "opt/bomb", "larger than the 1048576 bytes"));
    rows
}

/// The message with its causes, as a machine's console has it.
fn message(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn refused_both_ways((bad, entry, words): Bad) {
    refused_by(
        &LayerPolicy {
            format: 1,
            ..LayerPolicy::default()
        },
        (bad, entry, words),
    );
}

fn refused_by(policy: &LayerPolicy, (bad, entry, words): Bad) {
    let target = bad.manifest.target_name();
    let layers = [kernel(), base_of(vec![]), bad];
    let (root, kexec) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ready = Ready::keeping_to(policy, &layers);
    let in_place = place_ready(root.path(), &ready, &layers);
    let by_kexec = ready_for_kexec(kexec.path(), &ready, &layers).map(drop);
    for found in [in_place, by_kexec] {
        let error = found.expect_err(words);
        let text = message(&error);
        let named = entry.is_empty() || text.contains(&format!(" at entry {entry}: "));
        assert!(
            text.contains(&target) && named && text.contains(words),
            "{text}"
        );
    }
    let placed = root.path().join("upper/etc/passwd");
    assert!(!placed.exists(), "{words}");
}

#[test]
fn every_entry_out_of_its_lane_is_refused_in_place_and_for_kexec_by_layer_entry_and_rule() {
    bad_entries().into_iter().for_each(refused_both_ways);
}

#[test]
fn every_archive_that_lies_is_refused_in_place_and_for_kexec_by_layer_and_rule() {
    bad_archives().into_iter().for_each(refused_both_ways);
}

#[test]
fn what_the_sites_policy_keeps_out_is_refused_in_place_and_for_kexec_by_layer_entry_and_rule() {
    let text = r#"{ "format": 1, "kinds": { "agent": { "within": ["usr", "opt"], "never": ["opt/x"] } } }"#;
    let policy: LayerPolicy = serde_json::from_str(text).unwrap();
    let words = "the site's policy keeps agent layers out of there";
    let never = agent(&[opt(), file("opt/x")]);
    refused_by(&policy, (never, "opt/x", words));
    refused_by(&policy, (agent(&[file("srv")]), "srv", words));
}
