//! Reads ReaR's `disklayout.conf`: the disks, file systems and swap areas that are recreated.
//!
//! Only what is decided upon here is read; the rest is ReaR's. Lines that ReaR has commented out are not recreated.

mod made_of;

use std::collections::BTreeSet;

use self::made_of::MadeOf;

/// A disk of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayoutDisk {
    /// Its device, such as `/dev/sda`.
    pub(super) device: String,
    /// Its size in bytes.
    pub(super) bytes: u64,
    /// Its partitions, in order.
    pub(super) partitions: Vec<Partition>,
    /// Its partition table has room for the code that a BIOS starts.
    pub(super) has_boot_room: bool,
}

/// Where a partition lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Partition {
    /// Its first byte.
    pub(super) start: u64,
    /// Its size in bytes.
    pub(super) bytes: u64,
}

/// What a partition table needs behind the last partition, in bytes: GPT's second copy, rounded up.
const TABLE_BYTES: u64 = 1 << 20;

impl LayoutDisk {
    /// Bytes that a disk must have to take the partitions as they are.
    pub(super) fn bytes_needed(&self) -> u64 {
        let end = |it: &Partition| it.start.saturating_add(it.bytes);
        let end = self.partitions.iter().map(end).max().unwrap_or(0);
        // The original had room for its table, however close to the end.
        self.bytes.min(end.saturating_add(TABLE_BYTES))
    }
}

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// Its device.
    pub(super) device: String,
    /// Where the host mounts it.
    pub(super) mount_point: String,
}

/// What ReaR recreates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Disks, in ReaR's order.
    pub(super) disks: Vec<LayoutDisk>,
    /// File systems, in ReaR's order.
    pub(super) file_systems: Vec<FileSystem>,
    /// Devices of swap areas.
    pub(super) swaps: Vec<String>,
    /// UUIDs of file systems, swap areas, physical volumes and arrays, without `-` and `:`, in small letters.
    pub(super) uuids: BTreeSet<String>,
    /// What each of all these lies on.
    pub(super) made_of: MadeOf,
    /// Arrays whose devices all hold the same.
    pub(super) mirrors: BTreeSet<String>,
}

/// A layout that describes no host.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LayoutError {
    /// A line that ReaR would not have written.
    #[error("line {0} cannot be understood")]
    Line(usize),
    /// Nothing to recreate.
    #[error("it has no disk")]
    NoDisk,
    /// Nothing to restore into.
    #[error("it has no root file system")]
    NoRoot,
}

impl Layout {
    /// Reads the text of a `disklayout.conf`.
    ///
    /// # Errors
    /// A line that has too few words, or a layout without a disk or a root file system.
    pub(super) fn parse(text: &str) -> Result<Self, LayoutError> {
        let mut layout = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            layout.add(&words).ok_or(LayoutError::Line(number))?;
        }
        if layout.disks.is_empty() {
            return Err(LayoutError::NoDisk);
        }
        if !layout.file_systems.iter().any(|it| it.mount_point == "/") {
            return Err(LayoutError::NoRoot);
        }
        Ok(layout)
    }

    fn add(&mut self, words: &[&str]) -> Option<()> {
        let word = |index: usize| words.get(index).copied();
        match word(0).unwrap_or_default() {
            // A multipath device takes the place of its disks.
            "disk" | "multipath" => self.disks.push(LayoutDisk {
                device: word(1)?.to_owned(),
                bytes: word(2)?.parse().ok()?,
                partitions: Vec::new(),
                has_boot_room: word(3) == Some("msdos"),
            }),
            "part" => {
                let (disk, bytes, start) =
                    (word(1)?, word(2)?.parse().ok()?, word(3)?.parse().ok()?);
                // Partitions of an array or of a disk that is left out are ReaR's matter.
                if let Some(disk) = self.disks.iter_mut().find(|it| it.device == disk) {
                    let mut flags = word(5).unwrap_or_default().split(',');
                    disk.has_boot_room |= flags.any(|it| it == "bios_grub");
                    disk.partitions.push(Partition { start, bytes });
                }
                if let Some(device) = word(6) {
                    let place = Partition { start, bytes };
                    self.made_of.partition(device, disk, place);
                }
            }
            "raidarray" => self.array(word(1)?, &words[2..]),
            "crypt" => self.made_of.add(word(1)?, word(2)?),
            "lvmvol" => {
                let group = word(1)?;
                self.made_of.add(&mapped(group, word(2)?), group);
            }
            // Subvolumes of btrfs are mounted beside the file system, which has its own line.
            "fs" => {
                let (device, mount_point) = (word(1)?.to_owned(), word(2)?.to_owned());
                self.made_of.add(&file_system(&mount_point), &device);
                self.file_systems.push(FileSystem {
                    device,
                    mount_point,
                });
            }
            "swap" => {
                self.made_of
                    .add(&format!("swap area {}", word(1)?), word(1)?);
                self.swaps.push(word(1)?.to_owned());
            }
            "lvmdev" => {
                self.made_of.add(word(1)?, word(2)?);
                self.uuids.extend(word(3).map(plain_uuid));
            }
            _ => {}
        }
        let named = words.iter().filter_map(|it| it.strip_prefix("uuid="));
        let named = named.filter(|it| !it.is_empty()).map(plain_uuid);
        self.uuids.extend(named);
        Some(())
    }

    fn array(&mut self, device: &str, options: &[&str]) {
        let value = |name| options.iter().find_map(|it| it.strip_prefix(name));
        if value("level=") == Some("raid1") {
            self.mirrors.insert(device.to_owned());
        }
        for member in value("devices=").unwrap_or_default().split(',') {
            self.made_of.add(device, member);
        }
    }

    /// Whether it makes no difference which of the two disks takes which place: they are of one size, and something is made of
    /// the same parts of both.
    pub(super) fn are_equals(&self, one: &LayoutDisk, other: &LayoutDisk) -> bool {
        one.bytes == other.bytes && self.made_of.are_equals(&one.device, &other.device)
    }

    /// The disks that each hold all of /boot, or of the root file system where that has it, because arrays mirror them: each
    /// must be able to start the host alone. None if nothing is mirrored.
    pub(super) fn mirrored_boot_disks(&self) -> Vec<&LayoutDisk> {
        let start = ["/boot", "/"].map(file_system);
        let start = start.iter().find(|it| self.made_of.has(it));
        let all = self.made_of.all_below(start.map_or("", String::as_str));
        let mut disks: Vec<_> = self.disks.iter().collect();
        disks.retain(|it| all.contains(it.device.as_str()));
        if !all.iter().any(|it| self.mirrors.contains(*it)) {
            disks.clear();
        }
        disks
    }
}

/// What a file system is called where it is said what it is made of.
fn file_system(mount_point: &str) -> String {
    format!("file system {mount_point}")
}

/// The device of a logical volume of the group `/dev/NAME`: dashes in names are doubled (lvm2, `dm_build_dm_name`).
fn mapped(group: &str, name: &str) -> String {
    let double = |it: &str| it.replace('-', "--");
    let group = group.strip_prefix("/dev/").unwrap_or(group);
    format!("/dev/mapper/{}-{}", double(group), double(name))
}

/// A UUID as it can be compared: programs differ in how they group its digits.
pub(super) fn plain_uuid(text: &str) -> String {
    let digits = text.chars().filter(char::is_ascii_alphanumeric);
    digits.map(|it| it.to_ascii_lowercase()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const EXAMPLE: &str =
        include_str!("../../../../../initramfs/recipes/host-example/disklayout.conf");

    /// Of ReaR 2.7 on a host with /boot and LVM on arrays of two disks.
    pub(in super::super) const MIRRORED: &str = "\
disk /dev/vda 4294967296 gpt
part /dev/vda 2097152 1048576 rear-noname bios_grub /dev/vda1
part /dev/vda 268435456 3145728 rear-noname raid /dev/vda2
part /dev/vda 4023369216 271581184 rear-noname raid /dev/vda3
disk /dev/vdb 4294967296 gpt
part /dev/vdb 2097152 1048576 rear-noname bios_grub /dev/vdb1
part /dev/vdb 268435456 3145728 rear-noname raid /dev/vdb2
part /dev/vdb 4023369216 271581184 rear-noname raid /dev/vdb3
raidarray /dev/md2 level=raid1 raid-devices=2 devices=/dev/vda2,/dev/vdb2 name=2 metadata=1.2 uuid=8d05eb84:2de831d1:dfed54b2:ad592118
raiddisk /dev/md2 267386880 loop
raidarray /dev/md3 level=raid1 raid-devices=2 devices=/dev/vda3,/dev/vdb3 name=3 metadata=1.2 uuid=a4c2efb5:8d05eb84:2de831d1:dfed54b2
raiddisk /dev/md3 4020174848 unknown
lvmdev /dev/vg0 /dev/md3 7wwpcO-KmNN-qsTE-7sp7-JBJS-vBdC-Zyt1W7 7851904
lvmgrp /dev/vg0 4096 958 3923968
lvmvol /dev/vg0 root 1572864000b linear
fs /dev/mapper/vg0-root / ext4 uuid=1c9c3f6a-52f5-4a8e-8f0e-0b5d2f6f9a01
fs /dev/md2 /boot ext4 uuid=2c9c3f6a-52f5-4a8e-8f0e-0b5d2f6f9a02
";

    #[test]
    fn a_layout_with_lvm_is_read() {
        let layout = Layout::parse(EXAMPLE).unwrap();
        let [disk] = &layout.disks[..] else {
            panic!("{:?}", layout.disks)
        };
        assert_eq!(
            (disk.device.as_str(), disk.bytes),
            ("/dev/sda", 10_737_418_240)
        );
        assert_eq!(disk.partitions.len(), 3);
        assert!(disk.bytes_needed() <= disk.bytes);
        let points: Vec<_> = layout
            .file_systems
            .iter()
            .map(|it| it.mount_point.as_str())
            .collect();
        assert_eq!(points, ["/srv", "/", "/boot"]);
        assert_eq!(layout.swaps, ["/dev/mapper/vg0-swap"]);
        assert!(
            layout
                .uuids
                .contains(&plain_uuid("7wwpcO-KmNN-qsTE-7sp7-JBJS-vBdC-Zyt1W7"))
        );
        assert!(
            layout
                .uuids
                .contains(&plain_uuid("1C9C3F6A-52f5-4a8e-8f0e-0b5d2f6f9a01"))
        );
    }

    #[test]
    fn the_halves_of_a_mirror_are_equals_and_both_must_start_the_host() {
        let layout = Layout::parse(MIRRORED).unwrap();
        let [one, other] = &layout.disks[..] else {
            panic!("{:?}", layout.disks)
        };
        assert!(layout.are_equals(one, other) && layout.are_equals(other, one));
        assert!(one.has_boot_room && other.has_boot_room);
        let boot: Vec<_> = layout.mirrored_boot_disks();
        assert_eq!(boot, [one, other]);
        assert!(layout.uuids.contains("a4c2efb58d05eb842de831d1dfed54b2"));
        // Without a /boot of its own, through LVM.
        let through: String = MIRRORED
            .lines()
            .filter(|it| !it.contains(" /boot "))
            .map(|it| format!("{it}\n"))
            .collect();
        let layout = Layout::parse(&through).unwrap();
        assert_eq!(layout.mirrored_boot_disks().len(), 2);
    }

    #[test]
    fn disks_of_which_something_else_is_made_are_no_equals() {
        for (from, to) in [
            // One more partition is a file system.
            (
                "part /dev/vdb 2097152",
                "part /dev/vdb 1000 9000 x none /dev/vdb4\nfs /dev/vdb4 /srv xfs uuid=c\npart /dev/vdb 2097152",
            ),
            // Another size, of the disk or a partition.
            ("disk /dev/vdb 4294967296", "disk /dev/vdb 5294967296"),
            ("part /dev/vdb 268435456", "part /dev/vdb 268435457"),
            // The second disk is not in the array.
            ("/dev/vda3,/dev/vdb3", "/dev/vda3"),
        ] {
            let text = MIRRORED.replace(from, to);
            assert_ne!(text, MIRRORED);
            let layout = Layout::parse(&text).unwrap();
            assert!(!layout.are_equals(&layout.disks[0], &layout.disks[1]));
        }
        let plain = "disk /dev/vda 9 gpt\ndisk /dev/vdb 9 gpt\nfs /dev/vda / ext4 uuid=x\n";
        let layout = Layout::parse(plain).unwrap();
        assert!(!layout.are_equals(&layout.disks[0], &layout.disks[1]));
        // Nothing is known of either.
        assert!(!layout.are_equals(&layout.disks[1], &layout.disks[1].clone()));
        assert!(layout.mirrored_boot_disks().is_empty());
    }

    #[test]
    fn a_layout_without_disk_or_root_or_with_a_cut_line_is_refused() {
        assert_eq!(Layout::parse("# empty\n"), Err(LayoutError::NoDisk));
        let no_root = "disk /dev/sda 1000 gpt\nfs /dev/sda1 /srv xfs uuid=x\n";
        assert_eq!(Layout::parse(no_root), Err(LayoutError::NoRoot));
        assert_eq!(Layout::parse("disk /dev/sda\n"), Err(LayoutError::Line(1)));
        assert_eq!(
            Layout::parse("disk /dev/sda many gpt\n"),
            Err(LayoutError::Line(1))
        );
    }

    #[test]
    fn what_rear_has_commented_out_is_not_recreated() {
        let text = "disk /dev/sda 1000 gpt\n#disk /dev/sdb 2000 gpt\nfs /dev/sda1 / ext4 uuid=x\n#fs /dev/sdb1 /srv xfs uuid=y\n";
        let layout = Layout::parse(text).unwrap();
        assert_eq!((layout.disks.len(), layout.file_systems.len()), (1, 1));
    }
}
