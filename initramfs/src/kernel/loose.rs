//! A kernel that came without a package: its image, and the initramfs that has its modules, as ReaR's `OUTPUT=RAMDISK` leaves
//! them side by side, or the squashfs that has them, as live systems do.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::{Kernel, KernelError, MODULES_DIR, WANTED, files, modules_tree};
use crate::content::{Content, Spool};
use crate::filter::Filter;
use crate::initrd;
use crate::squashfs;

/// What is read of an image to see of which release it is, in bytes: the version lies within the setup code, of at most 64
/// sectors (Linux Documentation/arch/x86/boot.rst, `setup_sects`).
const SETUP_BYTES: u64 = 64 * 512;

/// What has the modules of a kernel that came without a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModulesIn {
    /// An initramfs.
    Initramfs,
    /// The squashfs of a live system.
    Squashfs,
}

impl Kernel {
    /// The kernel whose image is at `image` and whose modules are in the file `modules`, of the kind `kind`. Of an x86 image it is checked
    /// that both are of one kernel; others do not say.
    ///
    /// # Errors
    /// See [`KernelError`].
    pub fn loose(
        image: &Path,
        kind: ModulesIn,
        modules: &Path,
        spool: &mut Spool,
    ) -> Result<Self, KernelError> {
        let mut tree = modules_tree()?;
        let wanted = Filter::only(&WANTED.map(str::to_owned), &[])?;
        match kind {
            ModulesIn::Initramfs => {
                initrd::unpack(modules, &wanted, spool, &mut tree)?;
            }
            ModulesIn::Squashfs => {
                squashfs::unpack(modules, &wanted, spool, &mut tree)?;
            }
        }
        let prefix = format!("{MODULES_DIR}/");
        let releases: BTreeSet<_> = files(&tree, &prefix)
            .filter_map(|(path, _)| path.split_once('/'))
            .map(|(release, _)| release)
            .collect();
        let release = match releases.iter().collect::<Vec<_>>()[..] {
            [release] => (*release).to_owned(),
            [] => return Err(no_modules(modules, "none")),
            ref several => return Err(no_modules(modules, &format!("those of {several:?}"))),
        };
        let failed = |cause| KernelError::Image {
            path: image.to_owned(),
            cause,
        };
        let (metadata, setup) = read(image).map_err(failed)?;
        if let Some(of) = release_of(&setup).filter(|of| *of != release) {
            return Err(KernelError::OtherKernel {
                image: image.to_owned(),
                of,
                file: modules.to_owned(),
                modules: release,
            });
        }
        let content = Arc::new(Content::of_file(image.to_owned(), &metadata));
        let kernel = Self::of_tree(&release, content, None, &tree)?;
        if kernel.modules.is_empty() {
            return Err(no_modules(modules, "none"));
        }
        Ok(kernel)
    }
}

fn no_modules(path: &Path, found: &str) -> KernelError {
    KernelError::NoModules {
        path: path.to_owned(),
        found: found.to_owned(),
    }
}

/// Which file the image is, and its beginning.
fn read(image: &Path) -> std::io::Result<(Metadata, Vec<u8>)> {
    let file = File::open(image)?;
    let metadata = file.metadata()?;
    let mut setup = Vec::new();
    file.take(SETUP_BYTES).read_to_end(&mut setup)?;
    Ok((metadata, setup))
}

/// The release that an x86 image says it is (Linux Documentation/arch/x86/boot.rst, `header` and `kernel_version`).
fn release_of(setup: &[u8]) -> Option<String> {
    if setup.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let pointer = setup.get(0x20E..0x210)?;
    let at = usize::from(u16::from_le_bytes([pointer[0], pointer[1]]));
    let text = setup.get(at.checked_add(0x200)?..)?;
    let word = text.split(|byte| [0, b' '].contains(byte)).next()?;
    let word = std::str::from_utf8(word).ok()?;
    (at != 0 && !word.is_empty()).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_x86_image_says_its_release_and_others_do_not() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20E..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x30E].copy_from_slice(b"6.1.0-9 (x) #1");
        assert_eq!(release_of(&image).as_deref(), Some("6.1.0-9"));
        // Pointers out of the image, or to nothing.
        image[0x20E..0x210].copy_from_slice(&0xFFFF_u16.to_le_bytes());
        assert_eq!(release_of(&image), None);
        image[0x20E..0x210].copy_from_slice(&0_u16.to_le_bytes());
        assert_eq!(release_of(&image), None);
        assert_eq!(release_of(b"MZ an EFI image of another processor"), None);
    }
}
