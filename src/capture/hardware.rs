//! What this machine consists of, from sysfs and procfs. What cannot be read is left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use towline_contract::api::Machine;
use towline_contract::session::{Disk, Hardware};

use super::layout::Layout;
use super::packages;

/// The variable that says whether Secure Boot is on (UEFI 2.10, section 3.3): four bytes of attributes, and one that is 1.
const SECURE_BOOT: &str =
    "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// The hardware of this machine, as far as the layout uses it.
pub(super) fn read(layout: &Layout) -> Hardware {
    read_below(Path::new("/"), layout)
}

/// The machine, for the person who approves it.
pub(crate) fn identity() -> Machine {
    let root = Path::new("/");
    let dmi = |name: &str| text(&root.join("sys/class/dmi/id").join(name));
    let model: Vec<_> = ["sys_vendor", "product_name"]
        .into_iter()
        .filter_map(dmi)
        .collect();
    let mut macs: Vec<_> = physical_interfaces(root)
        .iter()
        .filter_map(|it| text(&it.join("address")))
        .collect();
    macs.sort();
    Machine {
        macs,
        uuid: dmi("product_uuid"),
        serial: dmi("product_serial"),
        model: (!model.is_empty()).then(|| model.join(" ")),
        memory_kib: memory_kib(root),
        uefi: root.join("sys/firmware/efi").is_dir(),
    }
    .bounded()
}

fn read_below(root: &Path, layout: &Layout) -> Hardware {
    let secure_boot = fs::read(root.join(SECURE_BOOT)).unwrap_or_default();
    let mut pci: Vec<_> = children(&root.join("sys/bus/pci/devices"))
        .iter()
        .filter_map(|it| text(&it.join("modalias")))
        .collect();
    pci.sort();
    Hardware {
        architecture: architecture().to_owned(),
        uefi: root.join("sys/firmware/efi").is_dir(),
        secure_boot: secure_boot.get(4) == Some(&1),
        memory_kib: memory_kib(root),
        pci,
        modules: modules(root, layout),
        disks: layout.disks.iter().map(disk).collect(),
        boot_loaders: packages::boot_loaders(),
    }
}

/// Debian's name of the architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64el",
        other => other,
    }
}

fn memory_kib(root: &Path) -> u64 {
    let text = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let line = text.lines().find_map(|it| it.strip_prefix("MemTotal:"));
    let number = line.and_then(|it| it.split_ascii_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// Model and serial number as `lsblk` tells them, which the rescue system asks too.
fn disk((device, bytes): &(String, u64)) -> Disk {
    let told = packages::output("lsblk", &["-dn", "-P", "-o", "MODEL,SERIAL,WWN", device]);
    let told = told.unwrap_or_default();
    let value = |name: &str| {
        let (_, rest) = told.split_once(&format!("{name}=\""))?;
        let value = rest.split('"').next()?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    };
    Disk {
        device: device.clone(),
        bytes: *bytes,
        model: value("MODEL"),
        serial: value("SERIAL").or_else(|| value("WWN")),
    }
}

/// Modules that drive the disks and network interfaces, and those of the file systems and volumes.
fn modules(root: &Path, layout: &Layout) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (device, _) in &layout.disks {
        let real = fs::canonicalize(root.join(device.trim_start_matches('/')));
        let real = real.unwrap_or_else(|_| PathBuf::from(device));
        let name = real
            .strip_prefix(root.join("dev"))
            .or(real.strip_prefix("/dev"));
        if let Ok(name) = name {
            drivers_of_block(root, &name.to_string_lossy().replace('/', "!"), &mut found);
        }
    }
    for interface in physical_interfaces(root) {
        drivers(&interface.join("device"), &mut found);
    }
    found.extend(layout_modules(layout));
    let built_in = built_in(root);
    let exists = |name: &String| {
        // Only what a kernel has as a module can be asked of another kernel.
        let loaded = root
            .join("sys/module")
            .join(name)
            .join("initstate")
            .exists();
        loaded || built_in.contains(name)
    };
    found.into_iter().filter(exists).collect()
}

/// Modules of a block device and of those that it is made of.
fn drivers_of_block(root: &Path, name: &str, found: &mut BTreeSet<String>) {
    let path = root.join("sys/block").join(name);
    drivers(&path, found);
    for slave in children(&path.join("slaves")) {
        if let Some(name) = slave.file_name() {
            drivers(&root.join("sys/block").join(name), found);
        }
    }
}

/// Modules of the drivers of a device and of all that it hangs on.
fn drivers(device: &Path, found: &mut BTreeSet<String>) {
    let Ok(real) = fs::canonicalize(device) else {
        return;
    };
    for at in real.ancestors() {
        for link in ["driver/module", "device/driver/module"] {
            let module = fs::canonicalize(at.join(link)).ok();
            let name = module.as_deref().and_then(Path::file_name);
            found.extend(name.map(|it| it.to_string_lossy().replace('-', "_")));
        }
    }
}

fn layout_modules(layout: &Layout) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    for it in &layout.file_systems {
        names.push(match it.kind.as_str() {
            "ext2" | "ext3" => "ext4",
            other => other,
        });
    }
    if !layout.groups.is_empty() || layout.encrypted || layout.multipath {
        names.push("dm_mod");
    }
    if layout.encrypted {
        names.push("dm_crypt");
    }
    if layout.multipath {
        names.push("dm_multipath");
    }
    for kind in &layout.volumes {
        match kind.as_str() {
            "thin" | "pool" | "thin-pool" => names.push("dm_thin_pool"),
            it if it.starts_with("raid") || it == "mirror" => names.push("dm_raid"),
            _ => {}
        }
    }
    for level in &layout.arrays {
        names.push("md_mod");
        names.push(match level.as_str() {
            "raid4" | "raid5" | "raid6" => "raid456",
            other => other,
        });
    }
    names.into_iter().map(str::to_owned).collect()
}

/// Modules that the running kernel has built in.
fn built_in(root: &Path) -> BTreeSet<String> {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let path = root
        .join("lib/modules")
        .join(release)
        .join("modules.builtin");
    let text = fs::read_to_string(path).unwrap_or_default();
    let name = |line: &str| {
        let file = line.rsplit('/').next().unwrap_or_default();
        file.split(".ko")
            .next()
            .unwrap_or_default()
            .replace('-', "_")
    };
    text.lines().map(name).collect()
}

fn physical_interfaces(root: &Path) -> Vec<PathBuf> {
    let mut found = children(&root.join("sys/class/net"));
    found.retain(|it| it.join("device").exists());
    found
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|it| it.path()).collect();
    paths.sort();
    paths
}

/// The first line of a small file, if there is any text in it.
fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.chars().take(256).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A machine with one virtio disk and one network card, as sysfs shows them.
    fn machine() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let make = |path: &str| fs::create_dir_all(root.join(path)).unwrap();
        let write = |path: &str, text: &[u8]| {
            make(Path::new(path).parent().unwrap().to_str().unwrap());
            fs::write(root.join(path), text).unwrap();
        };
        let link = |to: &str, at: &str| {
            make(Path::new(at).parent().unwrap().to_str().unwrap());
            symlink(root.join(to), root.join(at)).unwrap();
        };
        for module in ["virtio_blk", "virtio_pci", "e1000", "ext4", "dm_mod", "xfs"] {
            write(&format!("sys/module/{module}/initstate"), b"live\n");
        }
        // Built in, and no module that another kernel could have.
        make("sys/module/pcieportdrv");
        let disk = "sys/devices/pci0/0000:00:05.0/virtio2/block/vda";
        make(disk);
        link(disk, "sys/block/vda");
        write("dev/vda", b"");
        for (driver, module, device) in [
            (
                "virtio_blk",
                "virtio_blk",
                "sys/devices/pci0/0000:00:05.0/virtio2",
            ),
            ("virtio-pci", "virtio_pci", "sys/devices/pci0/0000:00:05.0"),
            ("port", "pcieportdrv", "sys/devices/pci0"),
            ("e1000", "e1000", "sys/devices/pci0/0000:00:03.0"),
        ] {
            link(
                &format!("sys/module/{module}"),
                &format!("sys/drivers/{driver}/module"),
            );
            link(
                &format!("sys/drivers/{driver}"),
                &format!("{device}/driver"),
            );
        }
        link("sys/devices/pci0/0000:00:03.0", "sys/class/net/eth0/device");
        make("sys/class/net/lo");
        write("sys/bus/pci/devices/b/modalias", b"pci:v2\n");
        write("sys/bus/pci/devices/a/modalias", b"pci:v1\n");
        write("proc/meminfo", b"MemTotal:        1012345 kB\n");
        dir
    }

    fn layout() -> Layout {
        let text = "disk /dev/vda 1000 gpt\nlvmgrp /dev/vg0 4096 1 1\nfs /dev/mapper/vg0-root / ext4 uuid=a\nfs /dev/vda1 /x weird uuid=b\n";
        Layout::parse(text).unwrap()
    }

    #[test]
    fn drivers_of_disks_and_network_and_file_systems_are_found() {
        let dir = machine();
        let found = read_below(dir.path(), &layout());
        assert_eq!(
            found.modules,
            ["dm_mod", "e1000", "ext4", "virtio_blk", "virtio_pci"]
        );
        assert_eq!(found.pci, ["pci:v1", "pci:v2"]);
        assert_eq!(
            (found.memory_kib, found.uefi, found.secure_boot),
            (1_012_345, false, false)
        );
        assert_eq!(found.disks[0].device, "/dev/vda");
    }

    #[test]
    fn mirrored_disks_need_the_drivers_of_both_and_of_their_arrays() {
        let dir = machine();
        let write = |path: &str, text: &[u8]| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for module in ["md_mod", "raid1", "sd_mod", "ahci"] {
            write(&format!("sys/module/{module}/initstate"), b"live\n");
        }
        write("dev/sda", b"");
        let disk = "sys/devices/pci0/0000:00:1f.2/ata1/block/sda";
        fs::create_dir_all(dir.path().join(disk)).unwrap();
        symlink(dir.path().join(disk), dir.path().join("sys/block/sda")).unwrap();
        let driver = dir.path().join("sys/drivers/ahci");
        fs::create_dir_all(&driver).unwrap();
        symlink(dir.path().join("sys/module/ahci"), driver.join("module")).unwrap();
        let device = dir.path().join("sys/devices/pci0/0000:00:1f.2");
        symlink(driver, device.join("driver")).unwrap();
        let text = "disk /dev/vda 1000 gpt\npart /dev/vda 900 50 x raid /dev/vda1\n\
                    disk /dev/sda 1000 gpt\npart /dev/sda 900 50 x raid /dev/sda1\n\
                    raidarray /dev/md0 level=raid1 raid-devices=2 devices=/dev/vda1,/dev/sda1 uuid=a:b\n\
                    raiddisk /dev/md0 900 loop\nfs /dev/md0 / ext4 uuid=a\n";
        let layout = Layout::parse(text).unwrap();
        let found = read_below(dir.path(), &layout);
        let wanted = [
            "ahci",
            "e1000",
            "ext4",
            "md_mod",
            "raid1",
            "virtio_blk",
            "virtio_pci",
        ];
        assert_eq!(found.modules, wanted);
        let devices: Vec<_> = found.disks.iter().map(|it| it.device.as_str()).collect();
        assert_eq!(devices, ["/dev/vda", "/dev/sda"]);
    }

    #[test]
    fn secure_boot_is_on_when_its_variable_is_one() {
        let dir = machine();
        let path = dir.path().join(SECURE_BOOT);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for (bytes, on) in [
            (vec![6, 0, 0, 0, 1], true),
            (vec![6, 0, 0, 0, 0], false),
            (vec![1], false),
        ] {
            fs::write(&path, bytes).unwrap();
            let found = read_below(dir.path(), &layout());
            assert_eq!((found.uefi, found.secure_boot), (true, on));
        }
    }
}
