//! What the medium is made of: the distribution's kernel and signed boot loaders, as package files.

use std::path::Path;
use std::sync::Arc;

use towline_initramfs::apt::Apt;
use towline_initramfs::content::{Content, Spool};
use towline_initramfs::deb;
use towline_initramfs::filter::Filter;
use towline_initramfs::kernel::Kernel;
use towline_initramfs::tree::{Node, Tree};

use crate::build::BuildError;

/// The kernel's package. Not the cloud flavour: it lacks the drivers of real machines.
const KERNEL: &str = "linux-image-amd64";

/// Packages of the boot loaders: shim (signed by Microsoft), GRUB and MokManager (signed by Debian), GRUB for BIOS.
const BOOT_LOADERS: &[&str] = &[
    "shim-signed",
    "shim-helpers-amd64-signed",
    "grub-efi-amd64-signed",
    "grub-pc-bin",
];

/// The first UEFI loads: it holds Microsoft's signature and Debian's key.
pub(crate) const SHIM: &str = "usr/lib/shim/shimx64.efi.signed";
/// Enrols keys; shim looks for it under this name.
pub(crate) const MOK_MANAGER: &str = "usr/lib/shim/mmx64.efi.signed";
/// The GRUB for removable media: it takes the disk with `/.disk/info` as its root.
pub(crate) const GRUB_CD: &str = "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed";
/// Modules and boot sectors of GRUB for BIOS.
pub(crate) const GRUB_PC: &str = "usr/lib/grub/i386-pc";

/// Kernel and boot loaders, unpacked.
pub(crate) struct Sources {
    pub(crate) kernel: Kernel,
    loaders: Tree,
    /// The newest time in the packages, in seconds since 1970: the medium's own time.
    pub(crate) time: u32,
    _spool: Spool,
}

impl Sources {
    /// Downloads to `cache` what is not there yet.
    pub(crate) fn get(cache: &Path) -> Result<Self, BuildError> {
        let apt = Apt::new(cache)?;
        let mut spool = Spool::new().map_err(BuildError::Temporary)?;
        let kernel = Kernel::open(&apt.kernel(KERNEL)?, &mut spool)?;
        let names: Vec<String> = BOOT_LOADERS.iter().map(|name| (*name).to_owned()).collect();
        let wanted = Filter::only(&["usr/lib/shim".into(), "usr/lib/grub".into()], &[])?;
        let mut loaders = Tree::new();
        for file in apt.only(&names)? {
            deb::unpack(&file, &wanted, &mut spool, &mut loaders, &mut |_| {})?;
        }
        let time = kernel.time.max(loaders.newest().unwrap_or(0));
        Ok(Self {
            kernel,
            loaders,
            time,
            _spool: spool,
        })
    }

    /// A file of the boot loaders.
    pub(crate) fn loader(&self, path: &str) -> Result<&Content, BuildError> {
        match self
            .loaders
            .find(path.as_bytes())
            .map(|(_, entry)| &entry.node)
        {
            Some(Node::File(content)) => Ok(content),
            _ => Err(BuildError::NoFile(path.to_owned())),
        }
    }

    /// The files of GRUB for BIOS, by name.
    pub(crate) fn grub_pc(&self) -> impl Iterator<Item = (&str, &Arc<Content>)> {
        self.loaders.iter().filter_map(|(path, entry)| {
            let name = std::str::from_utf8(path)
                .ok()?
                .strip_prefix(GRUB_PC)?
                .strip_prefix('/')?;
            match &entry.node {
                Node::File(content) if !name.contains('/') => Some((name, content)),
                _ => None,
            }
        })
    }
}
