//! Reads ReaR's `disklayout.conf`: the disks, file systems and swap areas that are recreated.
//!
//! Only what is decided upon here is read; the rest is ReaR's. Lines that ReaR has commented out are not recreated.

use std::collections::BTreeSet;

/// A disk of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayoutDisk {
    /// Its device, such as `/dev/sda`.
    pub(super) device: String,
    /// Its size in bytes.
    pub(super) bytes: u64,
    /// Its partitions, in order.
    pub(super) partitions: Vec<Partition>,
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
            }),
            "part" => {
                let (disk, bytes, start) =
                    (word(1)?, word(2)?.parse().ok()?, word(3)?.parse().ok()?);
                // Partitions of an array or of a disk that is left out are ReaR's matter.
                if let Some(disk) = self.disks.iter_mut().find(|it| it.device == disk) {
                    disk.partitions.push(Partition { start, bytes });
                }
            }
            // Subvolumes of btrfs are mounted beside the file system, which has its own line.
            "fs" => {
                let (device, mount_point) = (word(1)?.to_owned(), word(2)?.to_owned());
                self.file_systems.push(FileSystem {
                    device,
                    mount_point,
                });
            }
            "swap" => self.swaps.push(word(1)?.to_owned()),
            "lvmdev" => self.uuids.extend(word(3).map(plain_uuid)),
            _ => {}
        }
        let named = words.iter().filter_map(|it| it.strip_prefix("uuid="));
        let named = named.filter(|it| !it.is_empty()).map(plain_uuid);
        self.uuids.extend(named);
        Some(())
    }
}

/// A UUID as it can be compared: programs differ in how they group its digits.
pub(super) fn plain_uuid(text: &str) -> String {
    let digits = text.chars().filter(char::is_ascii_alphanumeric);
    digits.map(|it| it.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str =
        include_str!("../../../../../initramfs/recipes/host-example/disklayout.conf");

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
