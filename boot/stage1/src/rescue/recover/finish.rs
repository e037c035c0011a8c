//! After the restore: does the recovered system have what it needs to start?

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use towline_contract::event::CheckResult;

use super::agent::TARGET;
use super::layout::{Layout, LayoutDisk};
use super::{commands, disks, drivers, efi};
use crate::console::Console;
use crate::progress::Progress as _;

/// Longest that one step may take.
const STEP_WAIT: Duration = Duration::from_secs(60);

/// File systems that need no device.
const NO_DEVICE: &[&str] = &[
    "proc",
    "sysfs",
    "tmpfs",
    "devpts",
    "devtmpfs",
    "none",
    "overlay",
    "nfs",
    "nfs4",
    "cifs",
    "efivarfs",
    "9p",
    "virtiofs",
    "fuse",
    "bpf",
    "cgroup2",
    "hugetlbfs",
    "debugfs",
    "tracefs",
];

/// Boot code of a disk's first sector, in bytes.
const BOOT_CODE_BYTES: usize = 440;

/// Looks at the recovered system below the target; `layout` is what ReaR has recreated.
pub(super) async fn checks(console: &Console, layout: &Layout) -> Vec<CheckResult> {
    let _ = commands::run_words(&["udevadm", "settle", "--timeout=30"], STEP_WAIT).await;
    let target = Path::new(TARGET);
    let uefi = Path::new("/sys/firmware/efi").exists();
    let fstab = fs::read_to_string(target.join("etc/fstab")).unwrap_or_default();
    let loader = match uefi {
        true => uefi_loader(console, target).await,
        false => bios_loader(layout, &|disk| has_boot_code(&disk.device)),
    };
    let results = [
        ("the devices of /etc/fstab exist", devices(&fstab, target)),
        ("a kernel is there", kernel(target)),
        ("the boot loader is installed", loader),
    ];
    let results = results.map(|(name, outcome)| told(console, name, outcome));
    results.into()
}

/// What is told of the recovered system, and is no reason to keep it from starting: whether one of its kernels has the drivers
/// of these disks, and whether none of the recovery's own `folders` is left on it.
pub(super) fn remarks(console: &Console, layout: &Layout, folders: &[PathBuf]) -> Vec<CheckResult> {
    let disks = disks::of(layout.disks.iter().map(|it| it.device.as_str()));
    let drivers = drivers::check(Path::new(TARGET), &disks);
    let left = folders.iter().filter(|it| it.symlink_metadata().is_ok());
    let left: Vec<_> = left.map(|it| it.display().to_string()).collect();
    let outcome = match left.is_empty() {
        true => Ok("nothing".to_owned()),
        false => Err(format!("still there: {}", left.join(", "))),
    };
    let left = "nothing of the recovery is left on the host";
    vec![
        told(console, "a kernel has the drivers of the disks", drivers),
        told(console, left, outcome),
    ]
}

fn told(console: &Console, name: &str, outcome: Result<String, String>) -> CheckResult {
    let passed = outcome.is_ok();
    let (Ok(output) | Err(output)) = outcome;
    match passed {
        true => console.note(format_args!("passed: {name}: {output}")),
        false => console.warn(format_args!("check failed: {name}: {output}")),
    }
    CheckResult {
        layer: "recovery".into(),
        name: name.into(),
        passed,
        output,
    }
}

/// Devices that `fstab` wants at each start; one that is missing keeps the host from starting.
fn devices(fstab: &str, target: &Path) -> Result<String, String> {
    let wanted: Vec<_> = fstab.lines().filter_map(wanted_device).collect();
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(device, path)| {
            !path.exists() && !target.join(device.trim_start_matches('/')).is_file()
        })
        .map(|(device, _)| device.as_str())
        .collect();
    match missing.is_empty() {
        true => Ok(format!("{} of them", wanted.len())),
        false => Err(format!("missing: {}", missing.join(", "))),
    }
}

/// The device of a line, and where it would be; none if the host starts without it.
fn wanted_device(line: &str) -> Option<(String, PathBuf)> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let (device, kind) = (*words.first()?, *words.get(2)?);
    let mut options = words.get(3).unwrap_or(&"").split(',');
    let optional = |it: &str| matches!(it, "noauto" | "nofail" | "bind" | "rbind" | "_netdev");
    if device.starts_with('#')
        || options.any(optional)
        || NO_DEVICE.iter().any(|it| kind.starts_with(it))
    {
        return None;
    }
    let by = |folder: &str, value: &str| {
        Path::new("/dev/disk")
            .join(folder)
            .join(value.trim_matches('"'))
    };
    let path = match device.split_once('=') {
        Some(("UUID", value)) => by("by-uuid", value),
        Some(("LABEL", value)) => by("by-label", value),
        Some(("PARTUUID", value)) => by("by-partuuid", value),
        Some(("PARTLABEL", value)) => by("by-partlabel", value),
        _ if device.starts_with('/') => PathBuf::from(device),
        _ => return None,
    };
    Some((device.to_owned(), path))
}

fn kernel(target: &Path) -> Result<String, String> {
    let folder = target.join("boot");
    let names = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = names
        .map(|it| it.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let is_kernel = |it: &String| {
        ["vmlinuz", "vmlinux", "bzImage", "kernel", "Image"]
            .iter()
            .any(|name| it.starts_with(name))
    };
    // Kernels may also lie on the ESP, by the boot loader specification.
    let on_esp = ["efi/EFI/Linux", "EFI/Linux", "loader/entries"];
    match names.into_iter().rev().find(is_kernel) {
        Some(name) => Ok(name),
        None if on_esp.iter().any(|it| folder.join(it).is_dir()) => Ok("on the ESP".into()),
        None => Err("there is none in /boot".into()),
    }
}

/// A disk of the host must have code that a BIOS starts; of mirrored disks all, for the day when one of them is lost.
fn bios_loader(layout: &Layout, starts: &dyn Fn(&LayoutDisk) -> bool) -> Result<String, String> {
    let names = |disks: &[&LayoutDisk]| {
        let names: Vec<_> = disks.iter().map(|it| it.device.as_str()).collect();
        names.join(", ")
    };
    let found: Vec<_> = layout.disks.iter().filter(|it| starts(it)).collect();
    if found.is_empty() {
        return Err("no disk has boot code".into());
    }
    let mut mirrored = layout.mirrored_boot_disks();
    mirrored.retain(|it| it.has_boot_room && !found.contains(it));
    match mirrored.is_empty() {
        true => Ok(format!("boot code on {}", names(&found))),
        false => Err(format!(
            "boot code on {}, and none on {}, which is mirrored to start the host too",
            names(&found),
            names(&mirrored)
        )),
    }
}

fn has_boot_code(device: &str) -> bool {
    let mut sector = [0; 512];
    let read = File::open(device).and_then(|mut it| it.read_exact(&mut sector));
    read.is_ok() && is_boot_code(&sector)
}

fn is_boot_code(sector: &[u8; 512]) -> bool {
    sector[510..] == [0x55, 0xAA] && sector[..BOOT_CODE_BYTES].iter().any(|it| *it != 0)
}

/// The firmware must have an entry for a partition that is there, or the ESP the file that is started without one.
async fn uefi_loader(console: &Console, target: &Path) -> Result<String, String> {
    let there = |guid: &str| Path::new("/dev/disk/by-partuuid").join(guid).exists();
    let listed = commands::run_words(&["efibootmgr", "-v"], STEP_WAIT).await;
    let listed = listed.map(|ran| ran.text).unwrap_or_default();
    let entries = efi::entries(&listed);
    for entry in efi::dangling(&entries, &there) {
        let words = ["efibootmgr", "-q", "-b", &entry.number, "-B"];
        let removed = commands::run_words(&words, STEP_WAIT)
            .await
            .is_ok_and(|ran| ran.success);
        let done = if removed { "removed" } else { "not removed" };
        console.note(format_args!(
            "boot entry {} \"{}\" of the lost disk: {done}",
            entry.number, entry.label
        ));
    }
    if let Some(entry) = entries.iter().find(|it| there(&it.partition)) {
        return Ok(format!("boot entry {} \"{}\"", entry.number, entry.label));
    }
    let fallback =
        ["boot/efi", "efi", "boot"].map(|it| target.join(it).join("EFI/BOOT/BOOTX64.EFI"));
    match fallback.iter().any(|it| it.exists()) {
        true => Ok("EFI/BOOT/BOOTX64.EFI".into()),
        false => Err("the firmware has no entry for the host's disk".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::MIRRORED;
    use super::*;

    #[test]
    fn only_devices_without_which_the_host_does_not_start_are_wanted() {
        let fstab = "# /etc/fstab\nUUID=aaaa / ext4 errors=remount-ro 0 1\n/dev/sr0 /media/cdrom udf,iso9660 user,noauto 0 0\n\
                     tmpfs /tmp tmpfs defaults 0 0\nPARTUUID=\"bbbb\" /boot ext4 defaults 0 2\nserver:/x /mnt nfs defaults 0 0\n\
                     LABEL=usb /usb vfat nofail 0 0\n";
        let wanted: Vec<_> = fstab.lines().filter_map(wanted_device).collect();
        let paths: Vec<_> = wanted
            .iter()
            .map(|(_, path)| path.display().to_string())
            .collect();
        assert_eq!(
            paths,
            ["/dev/disk/by-uuid/aaaa", "/dev/disk/by-partuuid/bbbb"]
        );
        let target = tempfile::tempdir().unwrap();
        let missing = devices(fstab, target.path()).unwrap_err();
        assert_eq!(missing, "missing: UUID=aaaa, PARTUUID=\"bbbb\"");
    }

    #[test]
    fn a_swap_file_is_on_the_target_and_not_in_dev() {
        let target = tempfile::tempdir().unwrap();
        fs::write(target.path().join("swapfile"), "x").unwrap();
        let fstab = "/swapfile none swap sw 0 0\n";
        assert_eq!(devices(fstab, target.path()), Ok("1 of them".into()));
    }

    #[test]
    fn a_sector_without_code_starts_nothing() {
        let mut sector = [0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        assert!(!is_boot_code(&sector));
        sector[0] = 0xEB;
        assert!(is_boot_code(&sector));
    }

    #[test]
    fn a_mirror_of_which_one_disk_starts_nothing_is_told() {
        let layout = Layout::parse(MIRRORED).unwrap();
        let both = bios_loader(&layout, &|_| true);
        assert_eq!(both, Ok("boot code on /dev/vda, /dev/vdb".into()));
        let one = bios_loader(&layout, &|it| it.device == "/dev/vda").unwrap_err();
        assert!(one.contains("none on /dev/vdb"), "{one}");
        assert!(bios_loader(&layout, &|_| false).is_err());
        // Without room for it, the host's second disk had none either.
        let layout = Layout::parse(&MIRRORED.replace("bios_grub /dev/vdb1", "none /dev/vdb1"));
        let one = bios_loader(&layout.unwrap(), &|it| it.device == "/dev/vda");
        assert_eq!(one, Ok("boot code on /dev/vda".into()));
    }

    #[test]
    fn a_system_without_kernel_is_told() {
        let target = tempfile::tempdir().unwrap();
        assert!(kernel(target.path()).is_err());
        fs::create_dir(target.path().join("boot")).unwrap();
        fs::write(target.path().join("boot/vmlinuz-6.1.0-1-amd64"), "x").unwrap();
        assert_eq!(kernel(target.path()), Ok("vmlinuz-6.1.0-1-amd64".into()));
    }
}
