//! Archives encoded, decoded, and spoilt.

use super::*;
use proptest::prelude::*;

type File = (Vec<u8>, Vec<u8>);

fn archive(files: &[File]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, body) in files {
        let entry = Entry {
            name: name.clone(),
            mode: mode::S_IFREG | 0o644,
            links: 1,
            bytes: body.len().try_into().unwrap(),
            ..Entry::default()
        };
        out.extend(entry.encode().unwrap());
        out.extend_from_slice(body);
        out.extend_from_slice(padding(body.len() as u64));
    }
    out.extend(trailer());
    out
}

fn decode(mut pieces: impl Iterator<Item = Vec<u8>>) -> Result<Vec<File>, NewcError> {
    let mut decoder = Decoder::new();
    let mut files: Vec<File> = Vec::new();
    for piece in &mut pieces {
        let mut input = piece.as_slice();
        while let Some(item) = decoder.next(&mut input)? {
            match item {
                Item::Entry(entry) => files.push((entry.name, Vec::new())),
                Item::Data(data) => files.last_mut().unwrap().1.extend_from_slice(data),
                Item::EntryEnd => {}
            }
        }
    }
    decoder.finish().map(|()| files)
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_in_pieces_of_any_size(
        files in prop::collection::vec((prop::collection::vec(1..=255_u8, 1..40), prop::collection::vec(any::<u8>(), 0..70)), 0..6),
        piece in 1_usize..200,
    ) {
        prop_assume!(files.iter().all(|(name, _)| name != TRAILER));
        let bytes = archive(&files);
        let decoded = decode(bytes.chunks(piece).map(<[u8]>::to_vec)).unwrap();
        prop_assert_eq!(decoded, files);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(std::iter::once(bytes));
    }
}

#[test]
fn bytes_after_the_trailer_are_refused_and_padding_is_not() {
    let mut bytes = archive(&[]);
    bytes.extend_from_slice(&[0; 8]);
    assert_eq!(decode(std::iter::once(bytes.clone())).unwrap(), []);
    bytes.push(b'x');
    assert!(matches!(
        decode(std::iter::once(bytes)),
        Err(NewcError::AfterTrailer { .. })
    ));
}

#[test]
fn a_trailer_with_content_or_that_is_a_link_is_refused() {
    let spoilt = |mode: u32, bytes: u32| {
        let trailer = Entry {
            name: TRAILER.to_vec(),
            mode,
            bytes,
            ..Entry::default()
        };
        decode(std::iter::once(trailer.encode_unchecked()))
    };
    for (mode, bytes) in [(0, 4), (mode::S_IFDIR, 4096), (mode::S_IFLNK, 0)] {
        let refused = Err(NewcError::Trailer { offset: 124 });
        assert_eq!(spoilt(mode, bytes), refused, "{mode:o} {bytes}");
    }
    assert_eq!(spoilt(mode::S_IFREG, 0), Ok(vec![]));
}

#[test]
fn an_archive_without_its_trailer_is_truncated() {
    let mut bytes = archive(&[(b"etc/hostname".to_vec(), b"one".to_vec())]);
    bytes.truncate(bytes.len() - 1);
    assert!(matches!(
        decode(std::iter::once(bytes)),
        Err(NewcError::Truncated { .. })
    ));
}

#[test]
fn a_signed_number_is_no_hex_field() {
    let mut bytes = archive(&[]);
    bytes[6] = b'+';
    assert!(matches!(
        decode(std::iter::once(bytes)),
        Err(NewcError::Field { offset: 0 })
    ));
}

#[test]
fn the_cpio_crate_reads_what_is_encoded() {
    let bytes = archive(&[(b"etc/hostname".to_vec(), b"one\n".to_vec())]);
    let mut reader = cpio::newc::Reader::new(bytes.as_slice()).unwrap();
    assert_eq!(reader.entry().name(), "etc/hostname");
    let mut body = String::new();
    std::io::Read::read_to_string(&mut reader, &mut body).unwrap();
    assert_eq!(body, "one\n");
}
