//! Which disk of this machine takes the place of which disk of the host. Decides only; asks and writes nothing.

use towline_contract::session;

use super::disks::{Disk, gib};
use super::layout::{Layout, LayoutDisk};

/// One disk of the host and the disk of this machine that takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    /// The host's device.
    pub(super) from: String,
    /// This machine's device.
    pub(super) to: String,
    /// The new disk is too small for the partitions as they were.
    pub(super) shrinks: bool,
}

/// Disks that cannot be told apart by this program.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MatchError {
    /// Fewer disks than the host had.
    #[error("the host has {wanted} disks, and this machine {found} that can be written to")]
    TooFew {
        /// Disks of the host.
        wanted: usize,
        /// Disks here.
        found: usize,
    },
    /// More than one choice, or none that is large enough.
    #[error("it is not certain which disk takes the place of {device} ({size})")]
    Unclear {
        /// The host's device.
        device: String,
        /// Its size.
        size: String,
        /// Index in the layout.
        index: usize,
    },
}

/// Assigns a disk to each disk of the layout: the same one by its serial number; then by name and size; then by size alone,
/// when only one has it; then the only one that is left. `chosen` are assignments that a person made.
///
/// # Errors
/// See [`MatchError`].
pub(super) fn assign(
    layout: &Layout,
    session: &[session::Disk],
    found: &[Disk],
    chosen: &[Assignment],
) -> Result<Vec<Assignment>, MatchError> {
    let mut free: Vec<&Disk> = found.iter().filter(|it| !it.is_medium()).collect();
    if free.len() < layout.disks.len() {
        return Err(MatchError::TooFew {
            wanted: layout.disks.len(),
            found: free.len(),
        });
    }
    let mut taken: Vec<Option<&Disk>> = vec![None; layout.disks.len()];
    let by_person = |old: &LayoutDisk, new: &Disk| {
        let same = |it: &Assignment| it.from == old.device && it.to == new.device;
        chosen.iter().any(same)
    };
    let by_serial = |old: &LayoutDisk, new: &Disk| {
        let was = session.iter().find(|it| it.device == old.device);
        let serial = was.and_then(|it| it.serial.as_ref());
        serial.is_some_and(|serial| new.serials.contains(serial))
    };
    let by_name =
        |old: &LayoutDisk, new: &Disk| (&old.device, old.bytes) == (&new.device, new.bytes);
    let by_size = |old: &LayoutDisk, new: &Disk| old.bytes == new.bytes;
    take(layout, &mut taken, &mut free, &by_person);
    take(layout, &mut taken, &mut free, &by_serial);
    take(layout, &mut taken, &mut free, &by_name);
    take(layout, &mut taken, &mut free, &by_size);
    take(layout, &mut taken, &mut free, &|_, _| true);
    let pairs = layout.disks.iter().zip(&taken).enumerate();
    pairs
        .map(|(index, (old, new))| assignment(index, old, *new))
        .collect()
}

/// Takes for each disk that has none yet the only free one for which `fits` holds, where no other disk of the layout would
/// take it by the same rule.
fn take<'a>(
    layout: &Layout,
    taken: &mut [Option<&'a Disk>],
    free: &mut Vec<&'a Disk>,
    fits: &dyn Fn(&LayoutDisk, &Disk) -> bool,
) {
    let open: Vec<usize> = (0..taken.len()).filter(|it| taken[*it].is_none()).collect();
    let mut found = Vec::new();
    for &index in &open {
        let mut fitting = free.iter().filter(|new| fits(&layout.disks[index], new));
        let (Some(new), None) = (fitting.next(), fitting.next()) else {
            continue;
        };
        let rivals = open.iter().filter(|it| fits(&layout.disks[**it], new));
        if rivals.count() == 1 {
            found.push((index, *new));
        }
    }
    for (index, new) in found {
        taken[index] = Some(new);
        free.retain(|it| it.device != new.device);
    }
}

fn assignment(
    index: usize,
    old: &LayoutDisk,
    new: Option<&Disk>,
) -> Result<Assignment, MatchError> {
    let new = new.ok_or_else(|| MatchError::Unclear {
        device: old.device.clone(),
        size: gib(old.bytes),
        index,
    })?;
    Ok(Assignment {
        from: old.device.clone(),
        to: new.device.clone(),
        shrinks: new.bytes < old.bytes_needed(),
    })
}

/// Whether ReaR has to be told: its own comparison knows names only.
pub(super) fn needs_mapping(assignments: &[Assignment]) -> bool {
    assignments.iter().any(|it| it.from != it.to || it.shrinks)
}

/// ReaR's mapping file: a line for each disk (ReaR, layout/prepare/default/300_map_disks.sh).
pub(super) fn mapping_file(assignments: &[Assignment]) -> String {
    let lines = assignments
        .iter()
        .map(|it| format!("{} {}\n", it.from, it.to));
    lines.collect()
}

/// What lies on `disk` and is not this host's: one line each. A disk with the host's own partitions is what an earlier
/// recovery, or the host itself, has left.
pub(super) fn foreign(layout: &Layout, old: &LayoutDisk, disk: &Disk) -> Vec<String> {
    if !disk.partitions.is_empty() && disk.partitions == sorted(old) {
        return Vec::new();
    }
    let own = |uuid: &str| !uuid.is_empty() && layout.uuids.contains(uuid);
    let foreign = disk.contents.iter().filter(|it| !own(&it.uuid));
    foreign
        .map(|it| match it.label.is_empty() {
            true => format!("{} holds {}", it.device, it.kind),
            false => format!("{} holds {} \"{}\"", it.device, it.kind, it.label),
        })
        .collect()
}

fn sorted(old: &LayoutDisk) -> Vec<super::layout::Partition> {
    let mut partitions = old.partitions.clone();
    partitions.sort();
    partitions
}

#[cfg(test)]
mod tests {
    use super::super::disks::Content;
    use super::super::layout::Partition;
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
}
