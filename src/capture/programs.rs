//! The programs that ReaR runs to make a layout anew: what it adds to `REQUIRED_PROGS` when it describes one
//! (`layout/save/GNU/Linux` of ReaR 2.7), and what starts a machine with UEFI. The chain check looks for them in the layers.

use std::collections::BTreeSet;

use super::layout::Layout;

/// What a layout needs whatever is in it.
const DISKS: [&str; 2] = ["parted", "partprobe"];

/// Programs for `layout`, sorted.
pub(super) fn needed(layout: &Layout, uefi: bool) -> Vec<String> {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut tools = BTreeSet::new();
    if !layout.disks.is_empty() {
        names.extend(DISKS);
    }
    for it in &layout.file_systems {
        names.insert("mkfs");
        tools.insert(format!("mkfs.{}", it.kind));
        names.extend(match it.kind.as_str() {
            "ext2" | "ext3" | "ext4" => Some("mke2fs"),
            "xfs" => Some("xfs_admin"),
            "btrfs" => Some("btrfs"),
            "reiserfs" => Some("reiserfstune"),
            _ => None,
        });
    }
    let uses = [
        (!layout.groups.is_empty(), "lvm"),
        (!layout.arrays.is_empty(), "mdadm"),
        (layout.encrypted, "cryptsetup"),
        (layout.encrypted, "dmsetup"),
        (layout.multipath, "multipath"),
        (
            layout.uses.iter().any(|it| it.what == "swap area"),
            "mkswap",
        ),
        (uefi, "efibootmgr"),
    ];
    names.extend(uses.into_iter().filter(|it| it.0).map(|it| it.1));
    tools.extend(names.into_iter().map(str::to_owned));
    tools.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_layout_needs_its_programs() {
        let text = "disk /dev/sda 1000 gpt\npart /dev/sda 900 50 x raid /dev/sda1\n\
                    raidarray /dev/md0 level=raid1 raid-devices=2 devices=/dev/sda1,/dev/sdb1 uuid=a:b\n\
                    lvmgrp /dev/vg0 4096 1 1\nfs /dev/mapper/vg0-root / xfs uuid=abcdef\nfs /dev/sda2 /boot ext4 uuid=abcdeg\n\
                    swap /dev/sda3 uuid=x\n";
        let layout = Layout::parse(text).unwrap();
        let wanted = [
            "lvm",
            "mdadm",
            "mke2fs",
            "mkfs",
            "mkfs.ext4",
            "mkfs.xfs",
            "mkswap",
            "parted",
            "partprobe",
            "xfs_admin",
        ];
        assert_eq!(needed(&layout, false), wanted);
        let plain =
            Layout::parse("disk /dev/sda 1000 gpt\nfs /dev/sda1 / ext4 uuid=abcdef\n").unwrap();
        let names = needed(&plain, true);
        assert!(names.contains(&"efibootmgr".to_owned()), "{names:?}");
        assert!(
            !names
                .iter()
                .any(|it| ["lvm", "mdadm", "mkswap"].contains(&it.as_str())),
            "{names:?}"
        );
    }
}
