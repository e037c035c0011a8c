//! Who takes whose place, on made-up machines.

use super::super::disks::Content;
use super::super::layout::tests::MIRRORED;
use super::super::layout::{Partition, plain_uuid};
use super::*;

const GIB: u64 = 1 << 30;

fn layout(disks: &[(&str, u64)]) -> Layout {
    let disks = disks.iter().map(|(device, size)| LayoutDisk {
        device: (*device).into(),
        bytes: size * GIB,
        partitions: vec![Partition {
            start: 1 << 20,
            bytes: size * GIB - (2 << 20),
        }],
        has_boot_room: true,
    });
    Layout {
        disks: disks.collect(),
        ..Layout::default()
    }
}

fn disk(device: &str, size: u64) -> Disk {
    Disk {
        device: device.into(),
        bytes: size * GIB,
        ..Disk::default()
    }
}

fn pairs(assignments: &[Assignment]) -> Vec<(&str, &str)> {
    assignments
        .iter()
        .map(|it| (it.from.as_str(), it.to.as_str()))
        .collect()
}

#[test]
fn the_same_name_and_size_need_no_mapping() {
    let found = [disk("/dev/sda", 10), disk("/dev/sdb", 20)];
    let made = assign(
        &layout(&[("/dev/sda", 10), ("/dev/sdb", 20)]),
        &[],
        &found,
        &[],
    );
    let made = made.unwrap();
    assert_eq!(
        pairs(&made),
        [("/dev/sda", "/dev/sda"), ("/dev/sdb", "/dev/sdb")]
    );
    assert!(!needs_mapping(&made));
}

#[test]
fn other_names_are_mapped_by_size_and_the_rest_by_being_the_only_one() {
    let found = [disk("/dev/vda", 30), disk("/dev/vdb", 10)];
    let made = assign(
        &layout(&[("/dev/sda", 10), ("/dev/sdb", 20)]),
        &[],
        &found,
        &[],
    );
    let made = made.unwrap();
    assert_eq!(
        pairs(&made),
        [("/dev/sda", "/dev/vdb"), ("/dev/sdb", "/dev/vda")]
    );
    assert_eq!(
        mapping_file(&made),
        "/dev/sda /dev/vdb\n/dev/sdb /dev/vda\n"
    );
    assert!(needs_mapping(&made) && made.iter().all(|it| !it.shrinks));
}

#[test]
fn a_serial_number_outweighs_name_and_size() {
    let session = [session::Disk {
        device: "/dev/sda".into(),
        bytes: 10 * GIB,
        model: None,
        serial: Some("S1".into()),
    }];
    let mut found = [disk("/dev/sda", 10), disk("/dev/sdb", 10)];
    found[1].serials = vec!["S1".into()];
    let made = assign(&layout(&[("/dev/sda", 10)]), &session, &found, &[]).unwrap();
    assert_eq!(pairs(&made), [("/dev/sda", "/dev/sdb")]);
}

#[test]
fn disks_that_cannot_be_told_apart_are_nobodys_until_a_person_says() {
    let layout = layout(&[("/dev/sda", 10)]);
    let found = [disk("/dev/vda", 20), disk("/dev/vdb", 20)];
    let error = assign(&layout, &[], &found, &[]).unwrap_err();
    assert!(matches!(error, MatchError::Unclear { index: 0, .. }));
    let chosen = [Assignment {
        from: "/dev/sda".into(),
        to: "/dev/vdb".into(),
        shrinks: false,
    }];
    let made = assign(&layout, &[], &found, &chosen).unwrap();
    assert_eq!(pairs(&made), [("/dev/sda", "/dev/vdb")]);
}

#[test]
fn the_halves_of_a_mirror_take_two_new_disks_in_order_and_nobody_is_asked() {
    let layout = Layout::parse(MIRRORED).unwrap();
    let wanted = [("/dev/vda", "/dev/sda"), ("/dev/vdb", "/dev/sdb")];
    for size in [4, 8] {
        let found = [disk("/dev/sda", size), disk("/dev/sdb", size)];
        let made = assign(&layout, &[], &found, &[]).unwrap();
        assert_eq!(pairs(&made), wanted);
        assert!(needs_mapping(&made));
    }
    // Which of three is to be left alone is not certain, unless two have the mirror's size.
    let found = ["/dev/sda", "/dev/sdb", "/dev/sdc"].map(|it| disk(it, 4));
    assert!(matches!(
        assign(&layout, &[], &found, &[]),
        Err(MatchError::Unclear { index: 0, .. })
    ));
    let found = [
        disk("/dev/sda", 4),
        disk("/dev/sdb", 4),
        disk("/dev/sdc", 8),
    ];
    let made = assign(&layout, &[], &found, &[]).unwrap();
    assert_eq!(pairs(&made), wanted);
}

#[test]
fn a_third_disk_of_the_host_keeps_a_mirror_from_taking_what_could_be_its_place() {
    let text = format!("{MIRRORED}disk /dev/vdc 4294967296 gpt\nfs /dev/vdc /srv xfs uuid=x\n");
    let layout = Layout::parse(&text).unwrap();
    let found = ["/dev/sda", "/dev/sdb", "/dev/sdc"].map(|it| disk(it, 4));
    assert!(matches!(
        assign(&layout, &[], &found, &[]),
        Err(MatchError::Unclear { index: 0, .. })
    ));
    let text = text.replace("disk /dev/vdc 4294967296", "disk /dev/vdc 8589934592");
    let layout = Layout::parse(&text).unwrap();
    let found = [
        disk("/dev/sda", 8),
        disk("/dev/sdb", 4),
        disk("/dev/sdc", 4),
    ];
    let made = assign(&layout, &[], &found, &[]).unwrap();
    let wanted = [
        ("/dev/vda", "/dev/sdb"),
        ("/dev/vdb", "/dev/sdc"),
        ("/dev/vdc", "/dev/sda"),
    ];
    assert_eq!(pairs(&made), wanted);
}

#[test]
fn what_a_hosts_own_arrays_left_is_not_a_strangers() {
    let layout = Layout::parse(MIRRORED).unwrap();
    let mut found = disk("/dev/vdb", 4);
    let member = |uuid: &str| Content {
        device: "/dev/vdb3".into(),
        kind: "linux_raid_member".into(),
        label: "alpha:3".into(),
        uuid: plain_uuid(uuid),
    };
    // As lsblk writes it; mdadm has colons between eight digits.
    found.contents = vec![member("a4c2efb5-8d05-eb84-2de8-31d1dfed54b2")];
    assert!(foreign(&layout, &layout.disks[1], &found).is_empty());
    found.contents = vec![member("b4c2efb5-8d05-eb84-2de8-31d1dfed54b2")];
    assert_eq!(
        foreign(&layout, &layout.disks[1], &found),
        ["/dev/vdb3 holds linux_raid_member \"alpha:3\""]
    );
}

#[test]
fn the_medium_is_never_taken_and_a_smaller_disk_is_told() {
    let layout = layout(&[("/dev/sda", 10)]);
    let mut medium = disk("/dev/sda", 10);
    medium.contents = vec![Content {
        device: "/dev/sda".into(),
        kind: "iso9660".into(),
        ..Content::default()
    }];
    let error = assign(&layout, &[], &[medium.clone()], &[]).unwrap_err();
    assert!(matches!(error, MatchError::TooFew { found: 0, .. }));
    let made = assign(&layout, &[], &[medium, disk("/dev/sdb", 8)], &[]).unwrap();
    assert!(made[0].shrinks && made[0].to == "/dev/sdb");
}

#[test]
fn strangers_data_is_told_from_the_hosts_own() {
    let mut layout = layout(&[("/dev/sda", 10)]);
    layout.uuids.insert("aa".into());
    let content = |uuid: &str| Content {
        device: "/dev/sda1".into(),
        kind: "ext4".into(),
        label: "photos".into(),
        uuid: uuid.into(),
    };
    let mut found = disk("/dev/sda", 10);
    assert!(foreign(&layout, &layout.disks[0], &found).is_empty());
    found.contents = vec![content("aa"), content("bb")];
    assert_eq!(
        foreign(&layout, &layout.disks[0], &found),
        ["/dev/sda1 holds ext4 \"photos\""]
    );
    // An interrupted recovery has made the partitions, and perhaps file systems with other UUIDs.
    found.partitions = layout.disks[0].partitions.clone();
    assert!(foreign(&layout, &layout.disks[0], &found).is_empty());
}
