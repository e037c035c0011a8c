//! Manifests and chunks under a verified chain.

use towline_contract::manifest::Manifest;
use towline_contract::trust::metadata::TargetFile;
use towline_contract::trust::{ChunkError, TrustError};

use crate::site::Site;

#[test]
fn every_chunk_of_every_layer_is_verified() {
    let site = Site::new();
    let chain = site.plan(|_| {}).unwrap();
    for (index, layer) in site.layers.iter().enumerate() {
        let manifest = chain.manifest(index, &layer.manifest_bytes).unwrap();
        let mut whole = Vec::new();
        for (number, chunk) in layer.stored.chunks(1 << 20).enumerate() {
            whole.extend_from_slice(&manifest.chunk(number, chunk.to_vec()).unwrap());
        }
        assert_eq!(whole, layer.stored);
    }
}

#[test]
fn a_manifest_with_other_bytes_than_signed_is_refused() {
    let site = Site::new();
    let chain = site.plan(|_| {}).unwrap();
    let honest = &site.layers[1].manifest_bytes;
    let text = String::from_utf8(honest.clone()).unwrap();
    let swapped = text.replace("\"debian\"", "\"fedora\"");
    assert!(matches!(
        chain.manifest(1, swapped.as_bytes()),
        Err(TrustError::Digest { .. })
    ));
    assert!(matches!(
        chain.manifest(1, &honest[1..]),
        Err(TrustError::Length { .. })
    ));
    assert!(chain.manifest(0, honest).is_err());
    assert!(matches!(
        chain.manifest(4, honest),
        Err(TrustError::Chain(_))
    ));
}

#[test]
fn a_manifest_about_another_layer_than_the_signed_target_is_refused() {
    type Change = fn(&mut Manifest);
    let rows: [(Change, &str); 3] = [
        (|m| m.version = "2".into(), "name"),
        (
            |m| m.digest = towline_contract::Digest::of(b"other"),
            "digest",
        ),
        (|m| m.stored_bytes -= 1, "stored_bytes"),
    ];
    for (change, wanted) in rows {
        let mut site = Site::new();
        let honest = site.layers[2].manifest.clone();
        let mut lying = honest.clone();
        change(&mut lying);
        let bytes = lying.to_bytes();
        // Signed so by a targets role that was careless.
        let target = TargetFile::of_layer(&honest, &bytes);
        site.targets.targets.insert(honest.target_name(), target);
        let refused = site.plan(|_| {}).unwrap().manifest(2, &bytes);
        match refused {
            Err(TrustError::ManifestDisagrees { field, .. }) => assert_eq!(field, wanted),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_flipped_bit_names_the_layer_the_chunk_and_both_digests() {
    let site = Site::new();
    let chain = site.plan(|_| {}).unwrap();
    let layer = &site.layers[1];
    let manifest = chain.manifest(1, &layer.manifest_bytes).unwrap();
    let mut bytes = layer.stored[1 << 20..].to_vec();
    bytes[2] ^= 1;
    let refused = manifest.chunk(1, bytes).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("chunk 1 of layer base/debian/1/amd64"),
        "{text}"
    );
    assert!(text.contains(&layer.manifest.chunks[1].short()), "{text}");
}

#[test]
fn a_chunk_of_another_length_or_from_another_place_is_refused() {
    let site = Site::new();
    let chain = site.plan(|_| {}).unwrap();
    let layer = &site.layers[1];
    let manifest = chain.manifest(1, &layer.manifest_bytes).unwrap();
    let (first, last) = layer.stored.split_at(1 << 20);
    assert!(matches!(
        manifest.chunk(0, last.to_vec()),
        Err(ChunkError::Length { found: 3, .. })
    ));
    assert!(matches!(
        manifest.chunk(1, first[..2].to_vec()),
        Err(ChunkError::Length {
            found: 2,
            wanted: 3,
            ..
        })
    ));
    assert!(matches!(
        manifest.chunk(2, Vec::new()),
        Err(ChunkError::NoSuchChunk { chunks: 2, .. })
    ));
    assert!(matches!(
        manifest.chunk(usize::MAX, Vec::new()),
        Err(ChunkError::NoSuchChunk { .. })
    ));
}

#[test]
fn a_layer_that_came_as_a_whole_is_used_only_if_every_byte_of_it_is_the_signed_one() {
    let site = Site::new();
    let chain = site.plan(|_| {}).unwrap();
    let layer = &site.layers[1];
    let manifest = chain.manifest(1, &layer.manifest_bytes).unwrap();
    let chunks = manifest.whole(&layer.stored).unwrap();
    let pieces: Vec<&[u8]> = chunks.iter().map(|it| it.as_slice()).collect();
    assert_eq!(pieces.concat(), layer.stored);
    let mut flipped = layer.stored.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let (longer, shorter) = ([&layer.stored[..], b"x"].concat(), &layer.stored[..1 << 20]);
    for wrong in [&flipped, &longer, shorter, &[]] {
        assert!(manifest.whole(wrong).is_err(), "{} bytes", wrong.len());
    }
    let more = [&layer.stored[..], &vec![0; 1 << 20]].concat();
    assert!(manifest.whole(&more).is_err());
}
