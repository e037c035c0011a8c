//! Whether the recreated file systems are really mounted: a restore into memory would fill it and look like a success.

use std::path::PathBuf;

use super::agent::TARGET;
use super::layout::Layout;

/// File systems in memory, which are nobody's disk.
const IN_MEMORY: &[&str] = &[
    "tmpfs", "ramfs", "rootfs", "overlay", "squashfs", "devtmpfs",
];

/// One mount of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
struct Mount {
    point: String,
    kind: String,
}

/// Where the file systems of `layout` are mounted, each in its place.
///
/// # Errors
/// The first that is not mounted, or not from a disk, in words.
pub(super) fn mount_points(layout: &Layout, mountinfo: &str) -> Result<Vec<PathBuf>, String> {
    let mounts: Vec<_> = mountinfo.lines().filter_map(mount).collect();
    let mut points = Vec::new();
    for file_system in &layout.file_systems {
        let point = format!("{TARGET}{}", file_system.mount_point);
        let point = point.trim_end_matches('/').to_owned();
        // The last one mounted there is the one that is seen.
        let Some(mount) = mounts.iter().rev().find(|it| it.point == point) else {
            return Err(format!(
                "{} ({}) is not mounted at {point}",
                file_system.mount_point, file_system.device
            ));
        };
        if IN_MEMORY.contains(&mount.kind.as_str()) {
            return Err(format!(
                "what is mounted at {point} is memory ({})",
                mount.kind
            ));
        }
        points.push(PathBuf::from(point));
    }
    if points.is_empty() {
        return Err("the layout has no file system".into());
    }
    Ok(points)
}

fn mount(line: &str) -> Option<Mount> {
    let (fields, rest) = line.split_once(" - ")?;
    let point = fields.split(' ').nth(4)?;
    Some(Mount {
        point: point.replace("\\040", " "),
        kind: rest.split(' ').next()?.to_owned(),
    })
}

/// Bytes in use on the file systems at `points`.
pub(super) fn bytes_used(points: &[PathBuf]) -> u64 {
    let used = points.iter().filter_map(|it| {
        let found = rustix::fs::statvfs(it).ok()?;
        Some(
            found
                .f_blocks
                .saturating_sub(found.f_bfree)
                .saturating_mul(found.f_frsize),
        )
    });
    used.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let text = "disk /dev/sda 1000 gpt\nfs /dev/sda1 / ext4 uuid=x\nfs /dev/sda2 /my/data xfs uuid=y\n";
        Layout::parse(text).unwrap()
    }

    const ROOT: &str = "30 1 8:1 / /mnt/local rw shared:1 - ext4 /dev/sda1 rw\n";
    const DATA: &str = "31 30 8:2 / /mnt/local/my/data rw - xfs /dev/sda2 rw\n";

    #[test]
    fn each_file_system_must_be_in_its_place() {
        let points = mount_points(&layout(), &format!("{ROOT}{DATA}")).unwrap();
        let wanted = ["/mnt/local", "/mnt/local/my/data"].map(PathBuf::from);
        assert_eq!(points, wanted);
        let why = mount_points(&layout(), ROOT).unwrap_err();
        assert!(why.contains("/my/data"), "{why}");
        assert!(mount_points(&layout(), "").is_err());
    }

    #[test]
    fn memory_is_no_target_even_if_it_is_mounted_there() {
        let memory = "32 1 0:50 / /mnt/local rw - tmpfs none rw\n";
        let why = mount_points(&layout(), &format!("{ROOT}{DATA}{memory}")).unwrap_err();
        assert!(why.contains("memory"), "{why}");
        let overlay = "30 1 0:40 / / rw - overlay overlay rw\n";
        assert!(mount_points(&layout(), overlay).is_err());
    }
}
