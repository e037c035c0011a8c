//! Whether the fields of a manifest agree with one another and with the limits.

use super::{Kind, Manifest, image_kind, parts};
use crate::handover::IMAGES_DIR;
use crate::limits;

impl Manifest {
    /// What contradicts itself or exceeds a limit, with both sides; none if nothing does.
    pub(super) fn inconsistency(&self) -> Option<String> {
        if let Some(misplaced) = parts::misplaced(self) {
            return Some(misplaced);
        }
        if let Some(misplaced) = self.placement.refusal(self.kind) {
            return Some(misplaced);
        }
        let chunks = self.stored_bytes.div_ceil(limits::CHUNK_BYTES);
        if !is_word(&self.name, "")
            || !is_word(&self.version, "~:_")
            || !is_word(&self.architecture, "")
        {
            return Some(format!(
                "name {:?}, version {:?} and architecture {:?} must be of lower-case letters, digits and - . +",
                self.name, self.version, self.architecture
            ));
        }
        if chunks != self.chunks.len() as u64 {
            return Some(format!(
                "{} bytes are {chunks} chunks, but it lists {}",
                self.stored_bytes,
                self.chunks.len()
            ));
        }
        for (what, found, max) in [
            (
                "stored bytes",
                self.stored_bytes,
                limits::LAYER_STORED_BYTES_MAX,
            ),
            (
                "unpacked bytes",
                self.unpacked_bytes,
                limits::LAYER_UNPACKED_BYTES_MAX,
            ),
            ("entries", self.entries, limits::LAYER_ENTRIES_MAX),
        ] {
            if found > max {
                return Some(format!("{found} {what} are more than {max}"));
            }
        }
        if let Some(image) = &self.image
            && image_kind(&image.path) != Some(self.kind)
        {
            return Some(format!(
                "its image is {:?}, and must be {IMAGES_DIR}/NN-{}.squashfs with two digits",
                image.path, self.kind
            ));
        }
        if let Some(image) = &self.image
            && image.bytes > self.unpacked_bytes
        {
            return Some(format!(
                "an image of {} bytes in an archive of {}",
                image.bytes, self.unpacked_bytes
            ));
        }
        if self.kind == Kind::Kernel && self.kernel_release.is_none() {
            return Some("a kernel layer must say its kernel_release".into());
        }
        None
    }
}

fn is_word(text: &str, more: &str) -> bool {
    let letter = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || "-.+".contains(c) || more.contains(c)
    };
    !text.is_empty() && text.len() <= 128 && !text.starts_with('.') && text.chars().all(letter)
}
