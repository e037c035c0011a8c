//! Streams of the crate's own writer come through; those with what the crate would take memory for do not.

use std::io::{BufReader, Write as _};
use std::num::NonZeroU64;

use lzma_rust2::{CheckType, FilterType, XzOptions, XzWriter};

use super::*;

fn packed(content: &[u8], options: XzOptions) -> Vec<u8> {
    let mut xz = XzWriter::new(Vec::new(), options).unwrap();
    xz.write_all(content).unwrap();
    xz.finish().unwrap()
}

/// Content of which parts can be made smaller and parts cannot.
fn content() -> Vec<u8> {
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let noise: Vec<u8> = noise.take(150_000).collect();
    [b"line\n".repeat(50_000), noise, b"end".to_vec()].concat()
}

fn unpacked(mut reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn with_crc(bytes: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    [bytes, &crc.sum().to_le_bytes()].concat()
}

/// A block's header with this property of LZMA2, and a block of nothing.
fn block(property: u8) -> Vec<u8> {
    [with_crc(&[2, 0, 0x21, 1, property, 0, 0, 0]), vec![0; 4]].concat()
}

/// The start of a stream without checks, with a block that has this property of LZMA2.
fn start(property: u8) -> Vec<u8> {
    let flags = with_crc(&[0, 0]);
    [b"\xFD7zXZ\0".as_slice(), &flags, &block(property)].concat()
}

fn refusal(reader: impl Read) -> String {
    unpacked(reader).unwrap_err().to_string()
}

#[test]
fn streams_of_all_checks_filters_and_block_sizes_come_through_however_they_are_read() {
    let content = content();
    let checks = [
        CheckType::None,
        CheckType::Crc32,
        CheckType::Crc64,
        CheckType::Sha256,
    ];
    let mut all = Vec::new();
    let mut wanted = Vec::new();
    for (number, check) in checks.into_iter().enumerate() {
        let mut options = XzOptions::with_preset(1);
        options.set_check_sum_type(check);
        // 200 blocks and more have a number of two bytes in the index.
        options.set_block_size(NonZeroU64::new([1 << 30, 100_000, 1999, 70_001][number]));
        match number {
            1 => options.prepend_pre_filter(FilterType::Delta, 4),
            2 => options.prepend_pre_filter(FilterType::BcjX86, 0),
            _ => {}
        }
        let stored = packed(&content, options);
        assert!(unpacked(Xz::one(stored.as_slice())).unwrap() == content);
        all.extend(stored);
        all.extend([0; 8]);
        wanted.extend_from_slice(&content);
    }
    assert!(unpacked(Xz::all(all.as_slice())).unwrap() == wanted);
    let buffered = BufReader::with_capacity(7 << 10, all.as_slice());
    assert!(unpacked(Xz::all(buffered)).unwrap() == wanted);
}

#[test]
fn what_follows_a_stream_is_left() {
    let stored = packed(b"content", XzOptions::with_preset(0));
    let mut stored = [stored.as_slice(), b"what follows"].concat();
    let mut rest = stored.as_mut_slice() as &[u8];
    assert_eq!(unpacked(Xz::one(&mut rest)).unwrap(), b"content");
    assert_eq!(rest, b"what follows");
}

#[test]
fn a_dictionary_that_takes_all_memory_is_refused_before_it_does() {
    for (property, bytes) in [(40, "4294967295"), (36, "1073741824")] {
        let refused = refusal(Xz::one(start(property).as_slice()));
        assert!(
            refused.contains(&format!("dictionary of {bytes} bytes")),
            "{refused}"
        );
    }
    assert!(!refusal(Xz::one(start(41).as_slice())).contains("dictionary of"));
    // 8 MiB are in order for packages, and not for a block of a squashfs.
    assert!(!refusal(Xz::one(start(22).as_slice())).contains("dictionary of"));
    let refused = refusal(Xz::one_block(start(22).as_slice(), 1 << 20));
    assert!(refused.contains("dictionary of 8388608 bytes"), "{refused}");
}

#[test]
fn a_dictionary_that_takes_all_memory_is_refused_in_a_second_block_and_a_second_stream() {
    let first = packed(&content(), XzOptions::with_preset(1));
    let streams = [first.as_slice(), &start(40)].concat();
    // The index has the length that the footer says, in units of four bytes and without the first.
    let end = first.len() - 12;
    let units = u32::from_le_bytes(first[end + 4..end + 8].try_into().unwrap());
    let index = end - (units as usize + 1) * 4;
    let blocks = [&first[..index], &block(40)].concat();
    for stored in [streams, blocks] {
        let refused = refusal(Xz::all(stored.as_slice()));
        assert!(refused.contains("dictionary of"), "{refused}");
    }
}

#[test]
fn a_second_block_is_refused_where_there_may_be_one() {
    let mut options = XzOptions::with_preset(0);
    options.set_block_size(NonZeroU64::new(100_000));
    let stored = packed(&content(), options);
    let refused = refusal(Xz::one_block(stored.as_slice(), 1 << 20));
    assert!(refused.contains("more blocks than one"), "{refused}");
}

#[test]
fn a_stream_that_was_changed_anywhere_is_refused_or_the_same() {
    let content = content()[240_000..260_000].to_vec();
    let stored = packed(&content, XzOptions::with_preset(0));
    for at in (0..60).chain(stored.len() - 60..stored.len()) {
        for bit in 0..8 {
            let mut damaged = stored.clone();
            damaged[at] ^= 1 << bit;
            let found = unpacked(Xz::all(damaged.as_slice()));
            assert!(found.is_err() || found.unwrap() == content, "{at}");
        }
    }
}
