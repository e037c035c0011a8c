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
/// when only one has it; then the only one that is left. Disks that are equals, such as the halves of a mirror, count as one
/// in this, and take theirs in order. `chosen` are assignments that a person made.
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
    take_equals(layout, &mut taken, &mut free, &by_size);
    take(layout, &mut taken, &mut free, &|_, _| true);
    take_equals(layout, &mut taken, &mut free, &|_, _| true);
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

/// The same for disks that are equals: as many free ones as there are of them must fit.
fn take_equals<'a>(
    layout: &Layout,
    taken: &mut [Option<&'a Disk>],
    free: &mut Vec<&'a Disk>,
    fits: &dyn Fn(&LayoutDisk, &Disk) -> bool,
) {
    for (index, first) in layout.disks.iter().enumerate() {
        let open = (index..taken.len()).filter(|it| taken[*it].is_none());
        let is_equal = |it: &usize| layout.are_equals(first, &layout.disks[*it]);
        let (equals, others): (Vec<_>, Vec<_>) = open.partition(is_equal);
        let fitting = free.iter().filter(|new| fits(first, new));
        let fitting: Vec<_> = fitting.copied().collect();
        let wanted = |new: &&Disk| others.iter().any(|it| fits(&layout.disks[*it], new));
        if taken[index].is_some() || fitting.len() != equals.len() || fitting.iter().any(wanted) {
            continue;
        }
        for (index, new) in equals.into_iter().zip(fitting) {
            taken[index] = Some(new);
            free.retain(|it| it.device != new.device);
        }
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
mod tests;
