//! What no number of cores may change, and what others must read.

use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;

use super::*;
use crate::content::Content;
use crate::tree::{Meta, Node};

/// Several of zstd's jobs and of our pieces, neither all equal nor noise; bodies that end and begin at pieces' borders.
fn tree() -> Tree {
    let numbers = (0..800_000_u64)
        .flat_map(|n| (n * n).to_le_bytes())
        .collect::<Vec<_>>();
    let mut tree = Tree::new();
    let mut file = |path: &[u8], bytes: &[u8]| {
        tree.file(path, Meta::root(0o644), Content::from_bytes(bytes))
            .unwrap();
    };
    file(b"numbers", &numbers);
    for (number, bytes) in [1, 0, 3, (1 << 20) - 124, 1 << 20, (1 << 20) + 1]
        .into_iter()
        .enumerate()
    {
        file(format!("part-{number}").as_bytes(), &numbers[..bytes]);
    }
    tree
}

fn written(tree: &Tree, compression: Compression, workers: usize) -> (Stored, Vec<u8>) {
    written_at(3, tree, compression, workers)
}

fn written_at(
    level: i32,
    tree: &Tree,
    compression: Compression,
    workers: usize,
) -> (Stored, Vec<u8>) {
    let mut file = tempfile::tempfile().unwrap();
    let stored = write_with_workers(tree, 0, compression, level, workers, &file, 0..0).unwrap();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    (stored, bytes)
}

#[test]
fn the_number_of_workers_does_not_change_a_byte() {
    let tree = tree();
    let ways = [
        (Compression::None, 3),
        (Compression::Gzip, 3),
        (Compression::Zstd, 3),
        (Compression::Zstd, LEVEL_QUICKEST_MAX + 1),
        (Compression::Zstd, LEVEL_QUICK_MAX + 1),
    ];
    for (compression, level) in ways {
        let one = written_at(level, &tree, compression, 1);
        for workers in [0, 2, 7] {
            let other = written_at(level, &tree, compression, workers);
            assert_eq!(one.0, other.0, "{compression:?} {level} with {workers}");
            assert!(one.1 == other.1, "{compression:?} {level} with {workers}");
        }
    }
}

#[test]
fn what_is_there_already_is_passed_over_and_hashed() {
    let tree = tree();
    let whole = written(&tree, Compression::None, 2);
    for path in ["numbers", "part-0", "part-5"] {
        let at = body_at(&tree, 0, path.as_bytes()).unwrap();
        let (_, entry) = tree.iter().find(|it| it.0 == path.as_bytes()).unwrap();
        let Node::File(content) = &entry.node else {
            panic!("{path} is a file");
        };
        let mut file = tempfile::tempfile().unwrap();
        file.write_all_at(&content.read().unwrap(), at).unwrap();
        let there = at..at + content.len();
        let stored =
            write_with_workers(&tree, 0, Compression::None, 3, 2, &file, there.clone()).unwrap();
        assert_eq!(stored, whole.0, "{path}");
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes == whole.1, "{path}");

        // It was passed over, and nothing else was.
        let file = tempfile::tempfile().unwrap();
        write_with_workers(&tree, 0, Compression::None, 3, 2, &file, there.clone()).unwrap();
        let mut bytes = vec![0; bytes.len()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        for (at, (byte, wanted)) in bytes.iter().zip(&whole.1).enumerate() {
            let is_there = there.contains(&(at as u64));
            assert!(*byte == if is_there { 0 } else { *wanted }, "{path}: {at}");
        }
    }
}

#[test]
fn what_goes_to_the_disk_while_it_is_made_is_the_whole_layer() {
    let mut tree = Tree::new();
    let bytes = vec![1; 24 << 20];
    tree.file(b"large", Meta::root(0o644), Content::from_bytes(bytes))
        .unwrap();
    let (stored, bytes) = written(&tree, Compression::None, 2);
    assert_eq!(stored.digest, Digest::of(&bytes));
    assert_eq!(stored.stored_bytes, bytes.len() as u64);
}

#[test]
fn digests_and_sizes_are_those_of_the_file() {
    let (stored, bytes) = written(&tree(), Compression::Gzip, 2);
    assert_eq!(stored.digest, Digest::of(&bytes));
    assert_eq!(stored.stored_bytes, bytes.len() as u64);
    let chunks = bytes.chunks(1 << 20).map(Digest::of);
    assert_eq!(stored.chunks, chunks.collect::<Vec<_>>());
}

#[test]
fn every_compression_has_the_same_archive_in_one_member_or_frame() {
    let tree = tree();
    let plain = written(&tree, Compression::None, 2).1;
    let mut archive = Vec::new();
    let gzip = written(&tree, Compression::Gzip, 2).1;
    let mut decoder = flate2::bufread::GzDecoder::new(gzip.as_slice());
    decoder.read_to_end(&mut archive).unwrap();
    assert!(plain == archive, "gzip");
    assert!(decoder.into_inner().iter().all(|byte| *byte == 0));

    archive.clear();
    let zstd = written(&tree, Compression::Zstd, 2).1;
    let mut decoder = zstd::Decoder::with_buffer(zstd.as_slice())
        .unwrap()
        .single_frame();
    decoder.read_to_end(&mut archive).unwrap();
    assert!(plain == archive, "zstd");
    assert!(decoder.finish().iter().all(|byte| *byte == 0));
}

/// The window that a frame asks for (RFC 8878, 3.1.1.1), in bytes.
fn window_bytes(frame: &[u8]) -> u64 {
    assert_eq!(frame[4] & 0x20, 0, "of one segment: its window is its size");
    let (exponent, mantissa) = (frame[5] >> 3, u64::from(frame[5] & 7));
    let base = 1_u64 << (10 + exponent);
    base + base / 8 * mantissa
}

#[test]
fn no_level_asks_for_a_window_that_linux_does_not_have_however_large_the_layer() {
    let largest = towline_contract::limits::LAYER_UNPACKED_BYTES_MAX;
    for (level, window_log) in [(1, 24), (15, 24), (19, 24), (20, 27), (22, 27)] {
        let mut frame = Vec::new();
        let mut encoder = zstd_encoder(&mut frame, level, 1, largest).unwrap();
        encoder.write_all(b"0707").unwrap();
        encoder.flush().unwrap();
        drop(encoder);
        // 27 is ZSTD_WINDOWSIZE_MAX in Linux lib/decompress_unzstd.c.
        assert_eq!(window_bytes(&frame), 1 << window_log, "level {level}");
    }
}
