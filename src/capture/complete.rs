//! Whether a host could be made of a description: everything that the layout names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::CaptureError;
use super::layout::Layout;

/// Checks the description in `root` (with `var/lib/rear`); gives its layout.
///
/// # Errors
/// What is missing, all of it.
pub(super) fn check(root: &Path) -> Result<Layout, CaptureError> {
    let folder = root.join("var/lib/rear");
    let path = folder.join("layout/disklayout.conf");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let layout = Layout::parse(&text).map_err(|line| {
        let what = format!("line {line} of disklayout.conf cannot be understood");
        CaptureError::Incomplete(vec![what])
    })?;
    let mut missing = structure(&layout);
    missing.extend(files(&layout, &folder));
    if !has_text(&root.join("etc/rear/os.conf")) {
        missing.push("etc/rear/os.conf, which says what distribution it is".into());
    }
    match missing.is_empty() {
        true => Ok(layout),
        false => Err(CaptureError::Incomplete(missing)),
    }
}

/// What the layout needs of itself.
fn structure(layout: &Layout) -> Vec<String> {
    let mut missing = layout.flaws.clone();
    if layout.disks.is_empty() {
        missing.push("it names no disk".to_owned());
    }
    if !layout.file_systems.iter().any(|it| it.mount_point == "/") {
        missing.push("it names no root file system".to_owned());
    }
    // The same device has several names, which lead to one on the running host.
    let real: BTreeSet<_> = layout.devices.iter().map(|it| real_name(it)).collect();
    for it in &layout.uses {
        if !layout.devices.contains(&it.device) && !real.contains(&real_name(&it.device)) {
            missing.push(format!(
                "{} lies on {}, which it does not make",
                it.what, it.device
            ));
        }
    }
    for group in layout
        .groups
        .symmetric_difference(&layout.groups_with_volumes)
    {
        missing.push(format!(
            "volume group {group} and its physical volumes do not match"
        ));
    }
    missing
}

fn real_name(device: &str) -> PathBuf {
    fs::canonicalize(device).unwrap_or_else(|_| PathBuf::from(device))
}

/// Files that must be beside the layout.
fn files(layout: &Layout, folder: &Path) -> Vec<String> {
    let mut wanted = Vec::new();
    for group in &layout.groups {
        wanted.push(format!("layout/lvm/{group}.cfg"));
    }
    for it in layout.file_systems.iter().filter(|it| it.kind == "xfs") {
        let name = it.device.rsplit('/').next().unwrap_or_default();
        wanted.push(format!("layout/xfs/{name}.xfs"));
    }
    wanted.push("recovery/bootloader".to_owned());
    let missing = wanted.into_iter().filter(|it| !has_text(&folder.join(it)));
    missing
        .map(|it| format!("{it} is missing or empty"))
        .collect()
}

fn has_text(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|it| !it.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../initramfs/recipes/host-example/disklayout.conf");

    /// A description of the example host.
    fn example(layout: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("layout/disklayout.conf", layout),
            ("layout/lvm/vg0.cfg", "vg0 {}\n"),
            ("layout/xfs/vg0-data.xfs", "meta-data=\n"),
            ("recovery/bootloader", "GRUB\n"),
            ("../../../etc/rear/os.conf", "OS_VENDOR=Debian\n"),
        ];
        for (name, text) in files {
            fs::create_dir_all(dir.path().join("var/lib/rear")).unwrap();
            let path = dir.path().join("var/lib/rear").join(name);
            let parent = match name.starts_with("..") {
                true => dir.path().join("etc/rear"),
                false => path.parent().unwrap().to_owned(),
            };
            fs::create_dir_all(parent).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn missing(dir: &Path) -> String {
        check(dir).unwrap_err().to_string()
    }

    #[test]
    fn a_host_with_lvm_and_xfs_is_complete() {
        let layout = check(example(EXAMPLE).path()).unwrap();
        assert_eq!(layout.disks, [("/dev/sda".to_owned(), 10_737_418_240)]);
    }

    #[test]
    fn each_file_that_recovery_needs_is_missed() {
        for name in [
            "layout/disklayout.conf",
            "layout/lvm/vg0.cfg",
            "layout/xfs/vg0-data.xfs",
            "recovery/bootloader",
        ] {
            let dir = example(EXAMPLE);
            fs::write(dir.path().join("var/lib/rear").join(name), "\n").unwrap();
            let found = missing(dir.path());
            let wanted = if name.contains("disklayout") {
                "no disk"
            } else {
                name
            };
            assert!(found.contains(wanted), "{name}: {found}");
        }
        let dir = example(EXAMPLE);
        fs::remove_file(dir.path().join("etc/rear/os.conf")).unwrap();
        assert!(missing(dir.path()).contains("os.conf"));
    }

    #[test]
    fn a_layout_whose_parts_do_not_hang_together_is_refused() {
        for (line, says) in [
            (
                "lvmdev /dev/vg0 /dev/sda3",
                "volume group vg0 and its physical volumes",
            ),
            (
                "part /dev/sda 536870912",
                "file system /boot lies on /dev/sda2",
            ),
            (
                "lvmvol /dev/vg0 root",
                "file system / lies on /dev/mapper/vg0-root",
            ),
            ("fs /dev/mapper/vg0-root", "no root file system"),
        ] {
            let text: String = EXAMPLE
                .lines()
                .filter(|it| !it.starts_with(line))
                .map(|it| format!("{it}\n"))
                .collect();
            let found = missing(example(&text).path());
            assert!(found.contains(says), "{line}: {found}");
        }
    }

    #[test]
    fn a_host_on_mirrored_disks_is_complete() {
        let array = |number: u32, parts: &str| {
            format!(
                "raidarray /dev/md{number} level=raid1 raid-devices=2 devices={parts} name={number} metadata=1.2 uuid=a:{number}\n\
                 raiddisk /dev/md{number} 1000 loop\n"
            )
        };
        let second: String = EXAMPLE
            .lines()
            .filter(|it| it.starts_with("disk ") || it.starts_with("part "))
            .map(|it| it.replace("/dev/sda", "/dev/sdb") + "\n")
            .collect();
        let on_arrays = EXAMPLE
            .replace("fs /dev/sda2 ", "fs /dev/md2 ")
            .replace("lvmdev /dev/vg0 /dev/sda3 ", "lvmdev /dev/vg0 /dev/md3 ");
        assert!(on_arrays.contains("fs /dev/md2 ") && on_arrays.contains("vg0 /dev/md3 "));
        let arrays = array(2, "/dev/sda2,/dev/sdb2") + &array(3, "/dev/sda3,/dev/sdb3");
        let layout = check(example(&format!("{on_arrays}{second}{arrays}")).path()).unwrap();
        assert_eq!(layout.disks.len(), 2);
        assert_eq!(layout.arrays.into_iter().collect::<Vec<_>>(), ["raid1"]);
        // Of which the second disk is left out.
        let found = missing(example(&format!("{on_arrays}{arrays}")).path());
        assert!(
            found.contains("array /dev/md2 lies on /dev/sdb2"),
            "{found}"
        );
        // Of which the arrays are.
        let found = missing(example(&format!("{on_arrays}{second}")).path());
        assert!(found.contains("/boot lies on /dev/md2"), "{found}");
        assert!(
            found.contains("volume group vg0 lies on /dev/md3"),
            "{found}"
        );
    }

    #[test]
    fn an_array_misses_its_members() {
        let text = format!(
            "{EXAMPLE}raidarray /dev/md127 level=raid1 raid-devices=2 devices=/dev/sdx1,/dev/sdy1 uuid=a\n"
        );
        let found = missing(example(&text).path());
        assert!(
            found.contains("array /dev/md127 lies on /dev/sdx1"),
            "{found}"
        );
        assert!(found.contains("/dev/sdy1"), "{found}");
    }
}
