//! Takes down what an interrupted recovery, or an earlier system on the disks, has left mounted or active; and erases what
//! lies on disks that are about to be written.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::agent::TARGET;
use super::commands;
use super::disks::Disk;
use crate::console::Console;
use crate::mounts;
use crate::progress::Progress as _;

/// Longest that one step may take.
const STEP_WAIT: Duration = Duration::from_secs(120);

/// What makes disks free, in this order. Each may find nothing to do.
const STEPS: &[&[&str]] = &[
    &["swapoff", "-a"],
    &["umount", "-R", TARGET],
    &["vgchange", "-a", "n"],
    &["dmsetup", "remove_all", "--retry"],
    &["mdadm", "--stop", "--scan"],
    &["udevadm", "settle", "--timeout=30"],
];

/// Leaves no file system below the target mounted, and no volume or array active.
pub(super) async fn release(console: &Console) {
    let mounted = mounts_below(&fs::read_to_string("/proc/self/mounts").unwrap_or_default());
    if mounted > 0 {
        console.note(format_args!(
            "unmounting {mounted} file systems below {TARGET}"
        ));
    }
    for step in STEPS {
        if mounted == 0 && step.first() == Some(&"umount") {
            continue;
        }
        match commands::run_words(step, STEP_WAIT).await {
            Ok(ran) if !ran.success => {
                console.warn(format_args!("{}: {}", step.join(" "), ran.said()));
            }
            // A base without LVM has nothing of it to release.
            _ => {}
        }
    }
    // What is still open somewhere must at least not be written through this path.
    mounts::unmount_below(Path::new(TARGET));
    remove_leftovers(Path::new("/tmp"));
    remove_leftovers(Path::new("/var/tmp"));
}

/// ReaR's working folders, which are memory.
fn remove_leftovers(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("rear.") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn mounts_below(mounts: &str) -> usize {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    points
        .filter(|it| Path::new(it).starts_with(TARGET))
        .count()
}

/// Erases the signatures on these disks: programs that recreate file systems stop at ones that they find.
pub(super) async fn erase(console: &Console, disks: &[&Disk]) {
    for disk in disks {
        let mut command = vec!["wipefs", "-q", "-a", "-f"];
        let parts = disk.contents.iter().map(|it| it.device.as_str());
        // Only partitions: what lies in volumes goes with them.
        command.extend(parts.filter(|it| *it != disk.device && it.starts_with(&disk.device)));
        command.push(&disk.device);
        match commands::run_words(&command, STEP_WAIT).await {
            Ok(ran) if ran.success => console.note(format_args!("{} is erased", disk.described())),
            Ok(ran) => console.warn(format_args!("erasing {}: {}", disk.device, ran.said())),
            Err(error) => console.warn(format_args!("erasing {}: {error}", disk.device)),
        }
    }
    let _ = commands::run_words(&["udevadm", "settle", "--timeout=30"], STEP_WAIT).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_target_count() {
        let mounts = "overlay / overlay rw 0 0\n/dev/sda1 /mnt/local ext4 rw 0 0\n/dev/sda2 /mnt/local/srv xfs rw 0 0\n\
                      /dev/sdb1 /mnt/localhost ext4 rw 0 0\n";
        assert_eq!(mounts_below(mounts), 2);
    }
}
