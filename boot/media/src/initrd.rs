//! The medium's two initrds: stage 1 with its drivers, compressed; and the stamp area, uncompressed so that it can be
//! overwritten in place.

use std::fs::File;
use std::path::Path;

use towline_contract::Timestamp;
use towline_contract::manifest::Compression;
use towline_contract::newc::{self, mode};
use towline_contract::stamp::{STAMP_PATH, cleared};
use towline_initramfs::content::Content;
use towline_initramfs::kernel::{Kernel, Selection};
use towline_initramfs::tree::Meta;
use towline_initramfs::write;

use crate::build::BuildError;

/// What a machine needs to reach the server and to be typed on. No storage: the medium is in RAM once it has started.
const MODULES: &[&str] = &[
    // network cards, with what they ask for at run time
    "drivers/net/ethernet",
    "drivers/net/phy",
    "drivers/net/mdio",
    "drivers/net/pcs",
    "drivers/net/usb",
    "drivers/net/vmxnet3",
    "drivers/net/hyperv",
    "virtio_net",
    "xen-netfront",
    // links made of several, or tagged
    "drivers/net/bonding",
    "8021q",
    "af_packet",
    // buses of virtual machines
    "virtio_pci",
    "virtio_mmio",
    "virtio-rng",
    "hv_vmbus",
    "hyperv-keyboard",
    "hid-hyperv",
    // USB and keyboards
    "drivers/usb/host",
    "usbhid",
    "hid-generic",
    // image layers
    "squashfs",
    "overlay",
    "loop",
];

/// Only needed where something depends on it.
const WITHOUT: &[&str] = &["drivers/usb/host/isp116x-hcd.ko", "drivers/usb/host/sl811*"];

/// Indexes that stage 1 reads.
const INDEXES: &[&str] = &[
    "modules.dep",
    "modules.alias",
    "modules.softdep",
    "modules.builtin",
];

/// zstd's level: small, and the kernel unpacks it as fast as any.
const LEVEL: i32 = 19;

/// Time, version and kernel of a medium, as `/towline/build.json` says them.
fn build_json(kernel: &Kernel, time: u32) -> Result<Vec<u8>, BuildError> {
    let built = Timestamp::from_second(time.into()).map_err(|_| BuildError::Time(time))?;
    let document = serde_json::json!({
        "built": built.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "kernel_release": kernel.release,
    });
    Ok(format!("{document}\n").into_bytes())
}

/// Writes the initrd with stage 1 as `/init` to `path`; gives the number of modules.
pub(crate) fn write_stage1(
    kernel: &Kernel,
    stage1: Content,
    time: u32,
    path: &Path,
) -> Result<usize, BuildError> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let names = kernel.select(&Selection {
        modules: words(MODULES),
        without: words(WITHOUT),
    })?;
    let mut tree = kernel.modules(&names)?;
    tree.retain(|path, _| {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        !name.starts_with(b"modules.") || INDEXES.iter().any(|index| index.as_bytes() == name)
    });
    tree.symlink(b"lib", Meta::root(0o777), b"usr/lib")?;
    tree.file(b"init", Meta::root(0o755), stage1)?;
    tree.file(
        b"towline/build.json",
        Meta::root(0o644),
        Content::from_bytes(build_json(kernel, time)?),
    )?;
    let file = File::create(path).map_err(BuildError::file("write", path))?;
    write::write(&tree, time, Compression::Zstd, LEVEL, &file)?;
    Ok(names.len())
}

/// The initrd with a cleared stamp area.
pub(crate) fn stamp(time: u32) -> Result<Vec<u8>, BuildError> {
    let directory = newc::Entry {
        name: b"towline".to_vec(),
        inode: 1,
        mode: mode::S_IFDIR | 0o755,
        links: 2,
        mtime: time,
        ..newc::Entry::default()
    };
    let area = cleared();
    let file = newc::Entry {
        name: STAMP_PATH.into(),
        inode: 2,
        mode: mode::S_IFREG | 0o600,
        links: 1,
        mtime: time,
        bytes: u32::try_from(area.len()).unwrap_or(u32::MAX),
        ..newc::Entry::default()
    };
    let mut archive = directory.encode()?;
    archive.extend(file.encode()?);
    archive.extend_from_slice(&area);
    archive.extend_from_slice(newc::padding(area.len() as u64));
    archive.extend(newc::trailer());
    archive.resize(archive.len().next_multiple_of(512), 0);
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use towline_contract::newc::{Decoder, Item};

    #[test]
    fn the_second_initrd_is_an_archive_with_the_cleared_area_alone() {
        let archive = stamp(1_700_000_000).unwrap();
        let mut decoder = Decoder::new();
        let mut input = archive.as_slice();
        let (mut names, mut bytes) = (Vec::new(), Vec::new());
        while let Some(item) = decoder.next(&mut input).unwrap() {
            match item {
                Item::Entry(entry) => names.push(entry.display_name()),
                Item::Data(data) => bytes.extend_from_slice(data),
                Item::EntryEnd => {}
            }
        }
        decoder.finish().unwrap();
        assert_eq!(names, ["towline", STAMP_PATH]);
        assert_eq!(bytes, cleared());
    }
}
