//! The disks of this machine, from sysfs, and what lies on them, from `lsblk`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::commands;
use super::layout::{Partition, plain_uuid};

/// Longest that `lsblk` may take.
const LIST_WAIT: Duration = Duration::from_secs(60);

/// Size of a sector in sysfs, in bytes, whatever the disk's own is (Linux, Documentation/block/stat.rst).
const SECTOR_BYTES: u64 = 512;

/// A disk that could be overwritten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Disk {
    /// Its device.
    pub(super) device: String,
    /// Its size in bytes.
    pub(super) bytes: u64,
    /// Its model, for people.
    pub(super) model: String,
    /// Its serial number and WWN, as far as it has them.
    pub(super) serials: Vec<String>,
    /// Its partitions, in order.
    pub(super) partitions: Vec<Partition>,
    /// Modules of the drivers that reach it, such as `virtio_blk`, without those that every system has.
    pub(super) drivers: Vec<String>,
    /// What is known to lie on it.
    pub(super) contents: Vec<Content>,
}

/// A file system, volume or the like that was recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// The device it lies on.
    pub(super) device: String,
    /// Its type, such as `ext4` or `LVM2_member`.
    pub(super) kind: String,
    /// Its label.
    pub(super) label: String,
    /// Its UUID, as [`plain_uuid`] makes it.
    pub(super) uuid: String,
}

impl Disk {
    /// Boot media carry ISO 9660, on a CD as on a stick.
    pub(super) fn is_medium(&self) -> bool {
        self.contents.iter().any(|it| it.kind == "iso9660")
    }

    /// For people: `/dev/vda (8.0 GiB QEMU HARDDISK)`.
    pub(super) fn described(&self) -> String {
        let size = gib(self.bytes);
        match self.model.is_empty() {
            true => format!("{} ({size})", self.device),
            false => format!("{} ({size}, {})", self.device, self.model),
        }
    }
}

/// A size for people.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(super) fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1_u32 << 30))
}

/// The disks that can be written to and stay in the machine, with what lies on them.
pub(super) async fn list() -> Vec<Disk> {
    let mut disks = in_sysfs(Path::new("/sys/block"));
    let command = [
        "lsblk",
        "-P",
        "-p",
        "-o",
        "NAME,FSTYPE,LABEL,UUID,SERIAL,WWN",
    ];
    for disk in &mut disks {
        let mut command = command.map(str::to_owned).to_vec();
        command.push(disk.device.clone());
        if let Ok(ran) = commands::run(&command, &[], LIST_WAIT).await {
            describe(disk, &ran.text);
        }
    }
    disks
}

/// Those with these devices, without what lies on them.
pub(super) fn of<'a>(devices: impl Iterator<Item = &'a str>) -> Vec<Disk> {
    let devices: Vec<_> = devices.collect();
    let mut disks = in_sysfs(Path::new("/sys/block"));
    disks.retain(|it| devices.contains(&it.device.as_str()));
    disks
}

/// Disks below `directory`: no optical, floppy or removable ones, none that is read-only or virtual.
fn in_sysfs(directory: &Path) -> Vec<Disk> {
    let mut disks = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let number = |file: &str| text(&path.join(file)).parse::<u64>().unwrap_or(0);
        let physical = path.join("device").exists();
        // Areas of an eMMC that hold its own software.
        let special =
            name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
        let optical = name.starts_with("sr") || name.starts_with("fd");
        let out_of_reach = number("removable") + number("ro") + number("hidden") > 0;
        let bytes = number("size").saturating_mul(SECTOR_BYTES);
        if !physical || special || optical || out_of_reach || bytes == 0 {
            continue;
        }
        disks.push(Disk {
            // The kernel writes `!` where a device's name has a slash (cciss!c0d0).
            device: format!("/dev/{}", name.replace('!', "/")),
            bytes,
            model: text(&path.join("device/model")),
            partitions: partitions(&path, &name),
            drivers: drivers(&path.join("device")),
            ..Disk::default()
        });
    }
    disks.sort_by(|a, b| (a.device.len(), &a.device).cmp(&(b.device.len(), &b.device)));
    disks
}

fn partitions(disk: &Path, name: &str) -> Vec<Partition> {
    let entries = fs::read_dir(disk).into_iter().flatten().flatten();
    let parts = entries.filter(|it| it.file_name().to_string_lossy().starts_with(name));
    let number = |path: &Path| text(path).parse::<u64>().unwrap_or(0) * SECTOR_BYTES;
    let mut parts: Vec<_> = parts
        .map(|it| Partition {
            start: number(&it.path().join("start")),
            bytes: number(&it.path().join("size")),
        })
        .collect();
    parts.sort();
    parts
}

/// Drivers that are built into most kernels and in every initramfs.
const EVERYWHERE: &[&str] = &["sd_mod", "scsi_mod", "virtio_pci"];

/// The modules of the drivers of a device and of all that it hangs on. Only what this kernel has as a module can be asked of
/// another kernel: what is built in may have any name, or none, in its lists.
fn drivers(device: &Path) -> Vec<String> {
    let Ok(device) = fs::canonicalize(device) else {
        return Vec::new();
    };
    let modules = device.ancestors().map(|it| it.join("driver/module"));
    let modules = modules.filter_map(|it| fs::canonicalize(it).ok());
    let loaded = modules.filter(|it| it.join("initstate").exists());
    let names = loaded.filter_map(|it| Some(it.file_name()?.to_string_lossy().replace('-', "_")));
    names
        .filter(|it| !EVERYWHERE.contains(&it.as_str()))
        .collect()
}

fn text(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

/// Adds what `lsblk -P` says of the disk and its partitions.
fn describe(disk: &mut Disk, listed: &str) {
    for line in listed.lines() {
        let value = |name: &str| value(line, name).unwrap_or_default();
        if value("NAME") == disk.device {
            let serials = [value("SERIAL"), value("WWN")];
            disk.serials = serials.into_iter().filter(|it| !it.is_empty()).collect();
        }
        let content = Content {
            device: value("NAME"),
            kind: value("FSTYPE"),
            label: value("LABEL"),
            uuid: plain_uuid(&value("UUID")),
        };
        if !content.kind.is_empty() && !disk.contents.contains(&content) {
            disk.contents.push(content);
        }
    }
}

/// The value of `NAME="value"` in a line of `lsblk -P`, which escapes quotes as `\x22`.
fn value(line: &str, name: &str) -> Option<String> {
    let start = line.find(&format!("{name}=\""))? + name.len() + 2;
    // `UUID` also ends `PARTUUID`.
    if !line[..start - name.len() - 2].is_empty() && !line[..start - name.len() - 2].ends_with(' ')
    {
        return None;
    }
    let rest = &line[start..];
    Some(rest[..rest.find('"')?].trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_a_disk_is_read_from_lsblk() {
        let listed = concat!(
            "NAME=\"/dev/sda\" FSTYPE=\"\" LABEL=\"\" UUID=\"\" SERIAL=\"QM00001\" WWN=\"0x5000c500\"\n",
            "NAME=\"/dev/sda1\" FSTYPE=\"ext4\" LABEL=\"boot disk\" UUID=\"8d0a4e57-3f1d\" SERIAL=\"\" WWN=\"\"\n",
        );
        let mut disk = Disk {
            device: "/dev/sda".into(),
            ..Disk::default()
        };
        describe(&mut disk, listed);
        assert_eq!(disk.serials, ["QM00001", "0x5000c500"]);
        let [content] = &disk.contents[..] else {
            panic!("{:?}", disk.contents)
        };
        assert_eq!(
            (
                content.kind.as_str(),
                content.label.as_str(),
                content.uuid.as_str()
            ),
            ("ext4", "boot disk", "8d0a4e573f1d")
        );
        assert!(!disk.is_medium());
    }

    #[test]
    fn the_drivers_of_a_disk_are_those_of_its_adapter_too() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("devices/port/pci0/ata1/disk");
        for (name, of) in [
            ("sd_mod", "port/pci0/ata1/disk"),
            ("ahci", "port/pci0"),
            ("pcieportdrv", "port"),
        ] {
            let module = dir.path().join("module").join(name);
            let driver = dir.path().join("drivers").join(name);
            let device = dir.path().join("devices").join(of);
            for it in [&module, &driver, &device] {
                fs::create_dir_all(it).unwrap();
            }
            // What is built in has none.
            if name != "pcieportdrv" {
                fs::write(module.join("initstate"), "live\n").unwrap();
            }
            symlink(module, driver.join("module")).unwrap();
            symlink(driver, device.join("driver")).unwrap();
        }
        assert_eq!(drivers(&disk), ["ahci"]);
    }

    #[test]
    fn optical_removable_and_virtual_devices_are_no_disks_to_write_to() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, device: bool, removable: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).unwrap();
            if device {
                fs::create_dir(path.join("device")).unwrap();
            }
            fs::write(path.join("size"), "2048\n").unwrap();
            fs::write(path.join("removable"), removable).unwrap();
        };
        make("sr0", true, "0");
        make("sdb", true, "1");
        make("loop0", false, "0");
        make("dm-0", false, "0");
        make("vda", true, "0");
        let part = dir.path().join("vda/vda1");
        fs::create_dir(&part).unwrap();
        fs::write(part.join("start"), "8\n").unwrap();
        fs::write(part.join("size"), "16\n").unwrap();
        let disks = in_sysfs(dir.path());
        let [disk] = &disks[..] else {
            panic!("{disks:?}")
        };
        assert_eq!((disk.device.as_str(), disk.bytes), ("/dev/vda", 1 << 20));
        let part = Partition {
            start: 4096,
            bytes: 8192,
        };
        assert_eq!(disk.partitions, [part]);
    }
}
