//! Rules for every layer: names, parents, links, sizes.

use proptest::prelude::*;
use towline_contract::lanes::{LayerReader, Rule};
use towline_contract::manifest::Kind;
use towline_contract::newc::mode;

use crate::archive::{Record, bytes, dir, file, judge, link, manifest, read, record, with_parents};

fn rule(kind: Kind, records: &[Record]) -> Rule {
    judge(kind, records).unwrap_err().rule
}

/// A file with several names: the first has the bytes.
fn named_again(name: &str, inode: u32, body: &[u8]) -> Record {
    let mut record = record(name, mode::S_IFREG | 0o644, body);
    (record.0.inode, record.0.links) = (inode, 2);
    record
}

#[test]
fn an_honest_layer_is_yielded_in_order() {
    let records = [
        dir("opt"),
        named_again("opt/a", 7, b"content"),
        named_again("opt/b", 7, b""),
        link("opt/c", "../etc/c"),
        record("opt/empty", mode::S_IFREG | 0o600, b""),
    ];
    assert_eq!(
        judge(Kind::Agent, &records).unwrap(),
        [
            "dir opt",
            "file opt/a content.",
            "hard opt/b opt/a",
            "link opt/c ../etc/c",
            "file opt/empty ."
        ]
    );
}

#[test]
fn names_that_could_leave_the_root_are_refused() {
    for name in [
        "/etc/passwd",
        "..",
        "../x",
        "opt/../x",
        "opt/..",
        ".",
        "./opt",
        "opt/./x",
        "opt//x",
        "opt/",
        "/",
    ] {
        let found = rule(Kind::Base, &[dir("opt"), file(name)]);
        assert_eq!(found, Rule::Name, "{name}");
    }
}

#[test]
fn a_missing_parent_is_refused_because_the_kernel_would_drop_the_file_silently() {
    assert_eq!(rule(Kind::Base, &[file("opt/a")]), Rule::Parent);
    assert_eq!(rule(Kind::Base, &[file("opt/a"), dir("opt")]), Rule::Parent);
}

#[test]
fn an_entry_below_a_symlink_or_a_file_of_the_same_layer_is_refused() {
    assert_eq!(
        rule(Kind::Base, &[link("opt", "/etc"), file("opt/passwd")]),
        Rule::Parent
    );
    assert_eq!(
        rule(Kind::Base, &[file("opt"), file("opt/a")]),
        Rule::Parent
    );
}

#[test]
fn a_name_that_occurs_twice_is_refused_whatever_its_types() {
    let types = [dir("opt"), file("opt"), link("opt", "etc")];
    for first in &types {
        for second in &types {
            let found = rule(Kind::Base, &[first.clone(), second.clone()]);
            assert_eq!(found, Rule::Duplicate);
        }
    }
}

#[test]
fn a_hard_link_names_a_file_of_its_own_layer_and_brings_no_bytes() {
    let carrying = [
        named_again("a", 7, b"content"),
        named_again("b", 7, b"other"),
    ];
    assert_eq!(rule(Kind::Base, &carrying), Rule::Hardlink);
    // Equal inode numbers alone make no link, and neither does a link to what is not there: that is a file of its own.
    let separate = [file("a"), file("b")];
    assert_eq!(
        judge(Kind::Base, &separate).unwrap(),
        ["file a content.", "file b content."]
    );
    let first_only = [named_again("a", 7, b"")];
    assert_eq!(judge(Kind::Base, &first_only).unwrap(), ["file a ."]);
    // Neither does an inode number of another device.
    let mut elsewhere = named_again("b", 7, b"other");
    elsewhere.0.device_minor = 1;
    let found = judge(Kind::Base, &[named_again("a", 7, b"content"), elsewhere]).unwrap();
    assert_eq!(found, ["file a content.", "file b other."]);
    // A directory or a link with the same inode number is none either.
    let mut directory = dir("d");
    (directory.0.inode, directory.0.links) = (7, 2);
    let found = judge(Kind::Base, &[directory, named_again("a", 7, b"x")]).unwrap();
    assert_eq!(found, ["dir d", "file a x."]);
}

#[test]
fn modes_of_no_known_type_are_refused() {
    for bad in [0, 0o644, 0o170_644, mode::S_IFREG | 0o1_000_000] {
        assert_eq!(rule(Kind::Base, &[record("a", bad, b"")]), Rule::Mode(bad));
    }
}

#[test]
fn a_directory_or_device_with_a_body_is_refused() {
    for kind in [
        mode::S_IFDIR,
        mode::S_IFCHR,
        mode::S_IFBLK,
        mode::S_IFIFO,
        mode::S_IFSOCK,
    ] {
        let found = rule(Kind::Base, &[record("a", kind | 0o600, b"body")]);
        assert!(matches!(found, Rule::Body(_)));
    }
}

#[test]
fn a_symlink_target_that_is_empty_too_long_or_has_a_nul_is_refused() {
    for target in [String::new(), "x".repeat(4096), "a\0b".into()] {
        assert_eq!(rule(Kind::Base, &[link("a", &target)]), Rule::LinkTarget);
    }
    judge(Kind::Base, &[link("a", &"x".repeat(4095))]).unwrap();
}

#[test]
fn a_bomb_is_stopped_at_the_byte_its_manifest_states() {
    let records = [record("a", mode::S_IFREG | 0o644, &[0; 100_000])];
    let mut lying = manifest(Kind::Base, &records);
    lying.unpacked_bytes = 50_000;
    // The header already says too much,
    let refused = read(&lying, &bytes(&records), usize::MAX).unwrap_err();
    assert_eq!(refused.rule, Rule::MoreBytes(50_000));
    // and where each entry is honest, their sum counts; what is endless is not read to its end.
    let mut reader = LayerReader::new(&lying, &[]);
    let endless = std::iter::repeat_with(|| [0_u8; 4096]).take(1000);
    let start = bytes(&[]);
    reader.next(&mut start.as_slice()).unwrap();
    let pieces = endless.take_while(|piece| reader.next(&mut piece.as_slice()).is_ok());
    assert!(pieces.count() <= 50_000 / 4096);
}

#[test]
fn sizes_and_counts_must_be_those_of_the_manifest() {
    let records = [dir("opt"), file("opt/a")];
    let archive = bytes(&records);
    let honest = manifest(Kind::Base, &records);
    for (unpacked, entries) in [(1, 0), (-1, 0), (0, 1), (0, -1)] {
        let mut lying = honest.clone();
        lying.unpacked_bytes = lying.unpacked_bytes.checked_add_signed(unpacked).unwrap();
        lying.entries = lying.entries.checked_add_signed(entries).unwrap();
        let found = read(&lying, &archive, usize::MAX).unwrap_err().rule;
        let fits = match (unpacked, entries) {
            (1, _) => matches!(found, Rule::FewerBytes { .. }),
            (-1, _) => matches!(found, Rule::MoreBytes(_)),
            (_, 1) => matches!(found, Rule::FewerEntries { .. }),
            _ => matches!(found, Rule::MoreEntries(_)),
        };
        assert!(fits, "{found:?}");
    }
}

#[test]
fn a_second_archive_after_the_trailer_is_refused() {
    let records = [dir("opt")];
    let mut archive = bytes(&records);
    archive.extend(bytes(&[file("init")]));
    let mut told = manifest(Kind::Base, &records);
    told.unpacked_bytes = archive.len() as u64;
    told.entries = 2;
    let refused = read(&told, &archive, usize::MAX).unwrap_err();
    assert!(matches!(refused.rule, Rule::Archive(_)));
}

#[test]
fn a_truncated_archive_is_refused() {
    let records = [dir("opt"), file("opt/a")];
    let archive = bytes(&records);
    let told = manifest(Kind::Base, &records);
    for length in 0..archive.len() {
        assert!(
            read(&told, &archive[..length], usize::MAX).is_err(),
            "{length}"
        );
    }
}

#[test]
fn an_error_names_the_layer_the_entry_and_the_rule() {
    let refused = judge(Kind::Host, &with_parents(file("usr/bin/bash"))).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "layer host/example/1/amd64 is refused at entry usr/bin"
    );
    assert_eq!(
        refused.rule.to_string(),
        "host layers may not have anything there"
    );
    let refused = judge(Kind::Base, &[file("a\u{1b}[2J/../b")]).unwrap_err();
    assert_eq!(refused.entry.as_deref(), Some(r"a\x1b[2J/../b"));
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let name = prop::sample::select(vec![
        "etc",
        "etc/rear",
        "etc/rear/local.conf",
        "etc/passwd",
        "usr",
        "usr/bin",
        "usr/bin/bash",
        "usr/sbin",
        "usr/sbin/rear",
        "etc/rear/..",
        "var",
        "var/lib",
        "var/lib/rear",
        "var/lib/rear/layout",
        "dev",
        "dev/sda",
    ]);
    let types = prop::sample::select(vec![
        mode::S_IFDIR,
        mode::S_IFDIR,
        mode::S_IFREG,
        mode::S_IFLNK,
        mode::S_IFBLK,
    ]);
    let permissions = prop::sample::select(vec![0o755, 0o644, 0o4755, 0o2755]);
    let one = (name, types, permissions).prop_map(|(name, kind, permissions)| {
        let body: &[u8] = match kind {
            mode::S_IFREG => b"content",
            mode::S_IFLNK => b"/etc/rear/x",
            _ => b"",
        };
        record(name, kind | permissions, body)
    });
    // In order and once each, half of the time: else hardly any would be right.
    (prop::collection::vec(one, 0..8), any::<bool>()).prop_map(|(mut records, orderly)| {
        if orderly {
            records.sort_by(|a, b| a.0.name.cmp(&b.0.name));
            records.dedup_by(|a, b| a.0.name == b.0.name);
        }
        records
    })
}

/// The host's rules in ten lines, over whole archives rather than a stream.
fn host_model(records: &[Record]) -> bool {
    let lanes = [
        "etc/hostname",
        "etc/rear",
        "usr/sbin/rear",
        "usr/share/rear",
        "var/lib/rear",
    ];
    records.iter().enumerate().all(|(index, Record(entry, _))| {
        let name = std::str::from_utf8(&entry.name).unwrap();
        let earlier = |wanted: &str| {
            records[..index]
                .iter()
                .find(|r| r.0.name == wanted.as_bytes())
        };
        let parent = name.rsplit_once('/').is_none_or(|(parent, _)| {
            earlier(parent).is_some_and(|r| r.0.file_type() == mode::S_IFDIR)
        });
        let inside = lanes
            .iter()
            .any(|lane| name == *lane || name.starts_with(&format!("{lane}/")));
        let way = lanes
            .iter()
            .any(|lane| lane.starts_with(&format!("{name}/")))
            && entry.mode == 0o040_755;
        let fine = entry.file_type() != mode::S_IFBLK && entry.mode & 0o6000 == 0;
        parent && !name.contains("..") && earlier(name).is_none() && ((inside && fine) || way)
    })
}

proptest! {
    #[test]
    fn a_host_layer_is_accepted_exactly_when_the_model_says_so(records in any_records()) {
        let verdict = judge(Kind::Host, &records);
        prop_assert_eq!(verdict.is_ok(), host_model(&records), "{:?}", verdict);
    }

    #[test]
    fn the_size_of_the_pieces_changes_nothing(records in any_records(), piece in 1..300_usize) {
        let (told, archive) = (manifest(Kind::Base, &records), bytes(&records));
        prop_assert_eq!(read(&told, &archive, piece), read(&told, &archive, usize::MAX));
    }

    #[test]
    fn any_changed_bytes_are_judged_without_panic(records in any_records(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let (told, mut archive) = (manifest(Kind::Agent, &records), bytes(&records));
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        let _ = read(&told, &archive, 57);
    }
}
