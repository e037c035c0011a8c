//! Whether the recovered host's own kernel reaches the disks of this machine: new hardware may need a newer one.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::disks::Disk;

/// Most that is read of a list of modules, in bytes. Debian's is 0.6 MB.
const LIST_BYTES_MAX: u64 = 16 << 20;

/// One of the kernels below `target` should have the drivers that these disks have here, as modules or built in. Which of them
/// starts is the boot loader's matter.
pub(super) fn check(target: &Path, disks: &[Disk]) -> Result<String, String> {
    let mut wanted: Vec<_> = disks.iter().flat_map(|it| it.drivers.clone()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok("they need none that are modules here".into());
    }
    let kernels = fs::read_dir(folder(target)).into_iter().flatten().flatten();
    let lacking = kernels.filter_map(|it| lacking(&it.path(), &wanted));
    match lacking.min_by_key(Vec::len).as_deref() {
        None => Ok("not known: there are no lists of modules".into()),
        Some([]) => Ok(wanted.join(", ")),
        Some(missing) => Err(format!(
            "no kernel of the host has {}, which this machine needs for its disks",
            missing.join(", ")
        )),
    }
}

/// Where the kernels' modules lie: a link at `lib` may be one that leads out of the target.
fn folder(target: &Path) -> PathBuf {
    let merged = target.join("usr/lib/modules");
    match merged.is_dir() || target.join("lib").is_symlink() {
        true => merged,
        false => target.join("lib/modules"),
    }
}

/// Those of `wanted` that are not in this kernel's lists; none if it has no lists.
fn lacking(kernel: &Path, wanted: &[String]) -> Option<Vec<String>> {
    let mut text = String::new();
    for list in ["modules.dep", "modules.builtin"] {
        let list = File::open(kernel.join(list)).ok()?;
        list.take(LIST_BYTES_MAX).read_to_string(&mut text).ok()?;
    }
    let has = |driver: &String| text.lines().filter_map(name).any(|it| it == *driver);
    Some(wanted.iter().filter(|it| !has(it)).cloned().collect())
}

/// The module of a line such as `kernel/drivers/nvme/host/nvme-core.ko.zst: kernel/...`.
fn name(line: &str) -> Option<String> {
    let path = line.split(':').next()?;
    let (name, _) = path.rsplit('/').next()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(driver: &str) -> Disk {
        let drivers = vec![driver.into()];
        Disk {
            drivers,
            ..Disk::default()
        }
    }

    #[test]
    fn a_kernel_without_the_driver_of_the_new_disk_is_told_before_the_host_starts_with_it() {
        let host = tempfile::tempdir().unwrap();
        let check = |driver| check(host.path(), &[disk(driver)]);
        assert!(check("nvme").unwrap().starts_with("not known"));
        let kernel = host.path().join("lib/modules/6.1.0-1-amd64");
        fs::create_dir_all(&kernel).unwrap();
        let modules = "kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko.xz\n";
        fs::write(kernel.join("modules.dep"), modules).unwrap();
        fs::write(
            kernel.join("modules.builtin"),
            "kernel/drivers/ata/ahci-x.ko\n",
        )
        .unwrap();
        assert_eq!(check("virtio_blk"), Ok("virtio_blk".into()));
        assert_eq!(check("ahci_x"), Ok("ahci_x".into()));
        let error = check("nvme").unwrap_err();
        assert!(error.contains("nvme"), "{error}");
        // A newer kernel beside it has the driver.
        let newer = host.path().join("lib/modules/6.12.0-1-amd64");
        fs::create_dir_all(&newer).unwrap();
        fs::write(
            newer.join("modules.dep"),
            "kernel/drivers/nvme/host/nvme.ko:\n",
        )
        .unwrap();
        fs::write(newer.join("modules.builtin"), "").unwrap();
        assert_eq!(check("nvme"), Ok("nvme".into()));
    }
}
