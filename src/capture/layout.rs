//! What ReaR's `disklayout.conf` says: devices, what they lie on, and file systems.
//!
//! Lines that ReaR has commented out are not recreated, and count for nothing here.

use std::collections::BTreeSet;

/// Something that lies on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// What it is, for people: `file system /srv`.
    pub(super) what: String,
    /// The device.
    pub(super) device: String,
}

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// Its device.
    pub(super) device: String,
    /// Where it is mounted.
    pub(super) mount_point: String,
    /// Its type, such as `ext4`.
    pub(super) kind: String,
}

/// A layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Disks with their sizes in bytes, in ReaR's order.
    pub(super) disks: Vec<(String, u64)>,
    /// All devices that are recreated or there.
    pub(super) devices: BTreeSet<String>,
    /// What needs them.
    pub(super) uses: Vec<Use>,
    /// Volume groups by name.
    pub(super) groups: BTreeSet<String>,
    /// Volume groups that have a physical volume.
    pub(super) groups_with_volumes: BTreeSet<String>,
    /// File systems.
    pub(super) file_systems: Vec<FileSystem>,
    /// Levels of the arrays, such as `raid1`.
    pub(super) arrays: BTreeSet<String>,
    /// Layouts of logical volumes, such as `linear` and `thin`.
    pub(super) volumes: BTreeSet<String>,
    /// Something is encrypted.
    pub(super) encrypted: bool,
    /// Lines that ReaR wrote although it could not find out what belongs there.
    pub(super) flaws: Vec<String>,
    /// Disks are reached by several paths.
    pub(super) multipath: bool,
}

impl Layout {
    /// Reads the text of a `disklayout.conf`.
    ///
    /// # Errors
    /// The number of the first line, from 1, that has too few words or a wrong number.
    pub(super) fn parse(text: &str) -> Result<Self, usize> {
        let mut layout = Self::default();
        for (number, line) in (1_usize..).zip(text.lines()) {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            layout.add(&words).ok_or(number)?;
        }
        Ok(layout)
    }

    fn add(&mut self, words: &[&str]) -> Option<()> {
        let word = |index: usize| words.get(index).copied();
        match word(0).unwrap_or_default() {
            kind @ ("disk" | "multipath") => {
                let device = word(1)?;
                self.multipath |= kind == "multipath";
                self.disks.push((device.to_owned(), word(2)?.parse().ok()?));
                self.devices.insert(device.to_owned());
                if word(3).is_none() {
                    self.flaws
                        .push(format!("{device} has no kind of partition table"));
                }
            }
            "raiddisk" => drop(self.devices.insert(word(1)?.to_owned())),
            "part" => {
                self.needs(&format!("partition {}", word(6)?), word(1)?);
                self.devices.insert(word(6)?.to_owned());
            }
            "raidarray" => self.array(words)?,
            "lvmdev" => {
                let group = group(word(1)?);
                self.needs(&format!("volume group {group}"), word(2)?);
                self.groups_with_volumes.insert(group.to_owned());
            }
            "lvmgrp" => drop(self.groups.insert(group(word(1)?).to_owned())),
            "lvmvol" => {
                self.devices.insert(mapped(group(word(1)?), word(2)?));
                self.volumes
                    .extend(word(4).unwrap_or("linear").split(',').map(str::to_owned));
            }
            "crypt" => {
                self.encrypted = true;
                self.needs(&format!("encrypted {}", word(1)?), word(2)?);
                self.devices.insert(word(1)?.to_owned());
            }
            "fs" => {
                let file_system = FileSystem {
                    device: word(1)?.to_owned(),
                    mount_point: word(2)?.to_owned(),
                    kind: word(3)?.to_owned(),
                };
                self.needs(&format!("file system {}", word(2)?), word(1)?);
                self.file_systems.push(file_system);
                let is_uuid = |it: &&str| it.len() > 5 && it.starts_with("uuid=");
                if !words.iter().any(is_uuid) {
                    self.flaws
                        .push(format!("file system {} has no UUID", word(2)?));
                }
            }
            // A swap file lies in a file system.
            "swap" if word(1)?.starts_with("/dev/") => self.needs("swap area", word(1)?),
            _ => {}
        }
        Some(())
    }

    fn array(&mut self, words: &[&str]) -> Option<()> {
        let device = words.get(1)?;
        self.devices.insert((*device).to_owned());
        let value = |name| words.iter().find_map(|it| it.strip_prefix(name));
        self.arrays.insert(value("level=")?.to_owned());
        for member in value("devices=")?.split(',').filter(|it| !it.is_empty()) {
            self.needs(&format!("array {device}"), member);
        }
        Some(())
    }

    fn needs(&mut self, what: &str, device: &str) {
        self.uses.push(Use {
            what: what.to_owned(),
            device: device.to_owned(),
        });
    }
}

/// The name of a volume group, which ReaR writes with `/dev/` before it.
fn group(text: &str) -> &str {
    text.strip_prefix("/dev/").unwrap_or(text)
}

/// The device of a logical volume: dashes in the names are doubled (lvm2, `dm_build_dm_name`).
fn mapped(group: &str, name: &str) -> String {
    let double = |it: &str| it.replace('-', "--");
    format!("/dev/mapper/{}-{}", double(group), double(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logical_volume_with_dashes_has_the_name_that_the_kernel_gives_it() {
        let text = "lvmvol /dev/vg-a root-fs 5368709120b linear \n";
        let layout = Layout::parse(text).unwrap();
        assert!(layout.devices.contains("/dev/mapper/vg--a-root--fs"));
    }

    #[test]
    fn what_is_commented_out_counts_for_nothing() {
        let text = "disk /dev/vda 1000 gpt\n#disk /dev/vdb 1000 gpt\n#lvmgrp /dev/vg1 4096 1 1\n";
        let layout = Layout::parse(text).unwrap();
        assert_eq!((layout.disks.len(), layout.groups.len()), (1, 0));
    }

    #[test]
    fn what_rear_could_not_find_out_is_a_flaw() {
        // Of ReaR 2.7 where the disk could not be opened.
        let text =
            "disk /dev/vda 274877906944 \nfs /dev/vda / ext4 uuid= label= blocksize=# Swap\n";
        let flaws = Layout::parse(text).unwrap().flaws;
        assert_eq!(flaws.len(), 2, "{flaws:?}");
    }

    #[test]
    fn a_cut_line_is_named() {
        assert_eq!(
            Layout::parse("disk /dev/vda 1000 gpt\nlvmdev /dev/vg0\n"),
            Err(2)
        );
    }
}
