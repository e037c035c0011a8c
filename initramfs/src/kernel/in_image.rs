//! The configuration in a kernel's image, where it was built with `CONFIG_IKCONFIG`: gzip between two marks
//! (Linux kernel/configs.c), in the kernel itself, which an x86 image has compressed.
//!
//! Whatever is not as it should be is no configuration, and no error: most kernels have none.

use std::io::{BufRead, Read};

use super::reads::CONFIG_BYTES_MAX;
use crate::compressed;
use crate::content::Content;

/// Largest image that is looked into, in bytes: Debian 12's has 8 MB, and those with all debugging 20.
const IMAGE_BYTES_MAX: u64 = 64 << 20;

/// Largest kernel in it, unpacked: Debian 12's has 60 MB.
const KERNEL_BYTES_MAX: u64 = 256 << 20;

/// Most places with the mark's text that are tried.
const MARKS_MAX: usize = 16;

/// What stands before the configuration.
const MARK: &[u8] = b"IKCFG_ST";

/// The configuration in `image`.
pub(super) fn config(image: &Content) -> Option<Vec<u8>> {
    if image.len() > IMAGE_BYTES_MAX {
        return None;
    }
    let image = image.read().ok()?;
    marked(&image).or_else(|| marked(&unpacked(&image)?))
}

fn marked(kernel: &[u8]) -> Option<Vec<u8>> {
    // The mark's text alone may be elsewhere too.
    let mut rest = kernel;
    for _ in 0..MARKS_MAX {
        let at = rest.windows(MARK.len()).position(|it| it == MARK)?;
        rest = &rest[at + MARK.len()..];
        let mut config = Vec::new();
        let gzip = flate2::bufread::GzDecoder::new(rest);
        let read = gzip.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut config);
        // Of one that is cut off nobody knows the rest.
        if read.is_ok() && config.len() as u64 <= CONFIG_BYTES_MAX {
            return Some(config);
        }
    }
    None
}

/// The kernel in an x86 image (Linux Documentation/arch/x86/boot.rst: `setup_sects`, `header`, `version`, `payload_offset`,
/// `payload_length`).
fn unpacked(image: &[u8]) -> Option<Vec<u8>> {
    let number = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let version = number(0x206)? & 0xFFFF;
    if image.get(0x202..0x206)? != b"HdrS" || version < 0x208 {
        return None;
    }
    let sectors = match *image.get(0x1F1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = number(0x248)?.checked_add((sectors + 1) * 512)?;
    let mut payload = image.get(start..start.checked_add(number(0x24C)?)?)?;
    let payload: &mut dyn BufRead = &mut payload;
    let mut kernel = Vec::new();
    let stream = compressed::one_member(payload).ok()?;
    stream
        .take(KERNEL_BYTES_MAX)
        .read_to_end(&mut kernel)
        .ok()?;
    Some(kernel)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const TEXT: &[u8] = b"CONFIG_BLK_DEV_INITRD=y\n";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    /// A kernel with its configuration, and the mark's text once more before it.
    fn kernel() -> Vec<u8> {
        let config = gzip(TEXT);
        [
            b"\x7fELF IKCFG_ST is a mark; ",
            MARK,
            &config,
            b"IKCFG_ED...",
        ]
        .concat()
    }

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x400];
        image[0x1F1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20F_u16.to_le_bytes());
        image[0x248..0x24C].copy_from_slice(&16_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        image[0x24C..0x250].copy_from_slice(&length.to_le_bytes());
        [&image[..], &[0; 16], payload, b"signature"].concat()
    }

    fn config_of(image: &[u8]) -> Option<Vec<u8>> {
        config(&Content::from_bytes(image))
    }

    #[test]
    fn the_configuration_is_found_in_a_kernel_as_it_is_and_in_one_that_is_compressed() {
        assert_eq!(config_of(&kernel()).as_deref(), Some(TEXT));
        let packed = gzip(&kernel());
        let is_plain = packed.windows(MARK.len()).any(|it| it == MARK);
        assert!(!is_plain, "it is found in the kernel only");
        // The kernel's size stands behind what is compressed.
        let packed = [packed, vec![9, 0, 0, 0]].concat();
        assert_eq!(config_of(&image(&packed)).as_deref(), Some(TEXT));
    }

    #[test]
    fn images_without_one_and_broken_ones_have_none() {
        let packed = gzip(&kernel());
        let mut old = image(&packed);
        old[0x206] = 7;
        let whole = image(&packed);
        for bytes in [
            &b""[..],
            b"MZ",
            &image(&gzip(b"no mark")),
            &image(&packed[..packed.len() - 9]),
            &image(b"\x02\x21L\x18 of lz4"),
            &whole[..0x300],
            &old,
            &[MARK, &gzip(&TEXT.repeat(200_000))].concat(),
            b"IKCFG_ST",
        ] {
            assert_eq!(config_of(bytes), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_read_without_panic(header in proptest::collection::vec(proptest::num::u8::ANY, 0x40..0x60), sectors: u8) {
            let mut bytes = image(b"");
            bytes[0x1F1] = sectors;
            bytes[0x206..0x206 + header.len()].copy_from_slice(&header);
            let _ = config_of(&bytes);
        }
    }
}
