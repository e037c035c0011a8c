//! Manifests: what is read is within its limits, is written to bytes that are read as the same, and describes chunks that
//! cover the stored layer and nothing more.

use towline_contract::limits::{
    CHUNK_BYTES, LAYER_ENTRIES_MAX, LAYER_STORED_BYTES_MAX, LAYER_UNPACKED_BYTES_MAX,
};
use towline_contract::manifest::{Kind, MANIFEST_FORMAT, Manifest, memory_bytes};
use towline_contract::plan::HandOver;
use towline_contract::trust::TargetName;

/// Panics when one of the properties does not hold.
pub fn check(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    let written = manifest.to_bytes();
    let again = Manifest::parse(&written).expect("what is written can be read");
    assert_eq!(again, manifest);
    assert_eq!(again.to_bytes(), written);

    let name: TargetName = manifest
        .target_name()
        .parse()
        .expect("its name is a target's");
    assert_eq!(name.to_string(), manifest.target_name());
    assert_eq!(manifest.format, MANIFEST_FORMAT);
    assert!(manifest.stored_bytes <= LAYER_STORED_BYTES_MAX);
    assert!(manifest.unpacked_bytes <= LAYER_UNPACKED_BYTES_MAX);
    assert!(manifest.entries <= LAYER_ENTRIES_MAX);
    check_chunks(&manifest);
    check_parts(&manifest);
    for how in [HandOver::InPlace, HandOver::Kexec] {
        assert!(memory_bytes(how, &manifest) <= 3 * LAYER_UNPACKED_BYTES_MAX);
    }
}

fn check_chunks(manifest: &Manifest) {
    let count = manifest.chunks.len();
    let sizes = (0..count).map(|index| manifest.chunk_bytes(index).expect("each has a size"));
    assert_eq!(sizes.sum::<u64>(), manifest.stored_bytes);
    assert_eq!(manifest.chunk_bytes(count), None);
    assert_eq!(manifest.chunk_bytes(usize::MAX), None);
    assert!(manifest.check_chunk(count, b"").is_err());
    // No chunk is empty, and no larger one fits.
    assert!(manifest.check_chunk(0, b"").is_err());
    assert!(manifest.stored_bytes <= count as u64 * CHUNK_BYTES);
}

/// What a protected host signs itself names no program that runs before its recovery, and no image.
fn check_parts(manifest: &Manifest) {
    if matches!(manifest.kind, Kind::Host | Kind::Credentials) {
        assert!(manifest.checks.is_empty() && manifest.agent.is_none());
    }
    if let Some(image) = &manifest.image {
        assert!(matches!(manifest.kind, Kind::Base | Kind::Kernel));
        assert!(image.bytes <= manifest.unpacked_bytes);
        assert!(!image.path.contains([',', ':', '\\']) && !image.path.contains(".."));
    }
}
