//! What a layer takes in memory: one sum, by which a machine refuses a chain that does not fit and a doctor foretells it.

use super::{Manifest, Placement};
use crate::plan::HandOver;

/// Copies of the stored bytes that kexec makes: the file, the kernel's copy of it, and the copy in its final place.
const KEXEC_COPIES: u64 = 3;

/// Memory that a layer takes until the rescue system starts, in bytes. One for the target takes none.
#[must_use]
pub fn memory_bytes(how: HandOver, manifest: &Manifest) -> u64 {
    if manifest.placement == Placement::Target {
        return 0;
    }
    let (stored, unpacked) = (manifest.stored_bytes, manifest.unpacked_bytes);
    let copies = stored.saturating_mul(KEXEC_COPIES);
    match (how, &manifest.image) {
        (HandOver::InPlace, Some(image)) => image.bytes,
        (HandOver::InPlace, None) => unpacked,
        // An image is unpacked as it is stored.
        (HandOver::Kexec, Some(_)) => copies,
        // The same; or afterwards, in the other kernel, the last copy and what it unpacks to.
        (HandOver::Kexec, None) => copies.max(stored.saturating_add(unpacked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Image;

    fn manifest(stored_bytes: u64, unpacked_bytes: u64, image: bool) -> Manifest {
        let base = include_str!("../../tests/golden/v1/base.manifest.json");
        let mut manifest = Manifest::parse(base.as_bytes()).unwrap();
        (manifest.stored_bytes, manifest.unpacked_bytes) = (stored_bytes, unpacked_bytes);
        manifest.image = image.then(|| Image {
            path: "towline/images/20-base.squashfs".into(),
            bytes: unpacked_bytes - 1,
            content_bytes: 9 * unpacked_bytes,
        });
        manifest
    }

    #[test]
    fn plain_layers_need_room_for_what_they_unpack_to_in_the_other_kernel() {
        // Compressed to a tenth: unpacked beside the stored bytes it is larger than three copies of them.
        let plain = manifest(100, 1000, false);
        assert_eq!(memory_bytes(HandOver::Kexec, &plain), 1100);
        assert_eq!(memory_bytes(HandOver::InPlace, &plain), 1000);
        let hardly_compressed = manifest(900, 1000, false);
        assert_eq!(memory_bytes(HandOver::Kexec, &hardly_compressed), 2700);
        let image = manifest(1000, 1000, true);
        assert_eq!(memory_bytes(HandOver::Kexec, &image), 3000);
        assert_eq!(memory_bytes(HandOver::InPlace, &image), 999);
    }

    #[test]
    fn a_layer_for_the_target_takes_no_memory() {
        let mut large = manifest(100, 1000, false);
        large.placement = Placement::Target;
        for how in [HandOver::InPlace, HandOver::Kexec] {
            assert_eq!(memory_bytes(how, &large), 0);
        }
    }
}
