//! newc archives: the decoder, which is fed pieces, against a model that has the whole archive before it.
//!
//! For any bytes: both accept or both refuse; what they accept has the same entries and bodies, in pieces of any size; and
//! is the same again when it is encoded and decoded.

use towline_contract::limits::NAME_BYTES_MAX;
use towline_contract::newc::{self, Decoder, Entry, Item, NewcError, mode};

pub(crate) type File = (Entry, Vec<u8>);

/// Panics when one of the properties does not hold.
pub fn check(bytes: &[u8]) {
    let whole = decode(bytes, usize::MAX);
    let modelled = model(bytes);
    assert_eq!(whole.as_ref().ok(), modelled.as_ref());
    assert_eq!(whole, decode(bytes, bytes.len() % 97 + 1));
    if let Ok(files) = whole {
        assert_eq!(decode(&encode(&files), 512), Ok(files));
    }
}

fn decode(bytes: &[u8], piece: usize) -> Result<Vec<File>, NewcError> {
    let mut decoder = Decoder::new();
    let mut files: Vec<File> = Vec::new();
    for mut input in bytes.chunks(piece) {
        while let Some(item) = decoder.next(&mut input)? {
            match (item, files.last_mut()) {
                (Item::Entry(entry), _) => files.push((entry, Vec::new())),
                (Item::Data(data), Some((_, body))) => body.extend_from_slice(data),
                (Item::EntryEnd, Some((entry, body))) => {
                    assert_eq!(u64::from(entry.bytes), body.len() as u64);
                }
                (Item::Data(_) | Item::EntryEnd, None) => panic!("a body without an entry"),
            }
        }
        assert!(input.is_empty(), "bytes were left");
    }
    decoder.finish().map(|()| files)
}

fn encode(files: &[File]) -> Vec<u8> {
    let mut out = Vec::new();
    for (entry, body) in files {
        out.extend(entry.encode().expect("a decoded entry can be encoded"));
        out.extend_from_slice(body);
        out.extend_from_slice(newc::padding(body.len() as u64));
    }
    out.extend(newc::trailer());
    out
}

/// The format as `buffer-format.rst` of Linux has it, and the rules that `docs/formats/layer.md` adds.
pub(crate) fn model(archive: &[u8]) -> Option<Vec<File>> {
    let mut files = Vec::new();
    let mut at = 0;
    loop {
        let header = archive.get(at..at + 110)?;
        let mut fields = [0; 13];
        for (index, field) in fields.iter_mut().enumerate() {
            *field = hexadecimal(&header[6 + 8 * index..14 + 8 * index])?;
        }
        let (name_bytes, bytes) = (fields[11] as usize, fields[6] as usize);
        if !header.starts_with(b"070701") || !(2..=NAME_BYTES_MAX + 1).contains(&name_bytes) {
            return None;
        }
        let name_end = at + 110 + name_bytes;
        let name = archive.get(at + 110..name_end)?.strip_suffix(&[0])?;
        let body = name_end.next_multiple_of(4);
        if name.contains(&0) || !are_zeros(archive.get(name_end..body)?) {
            return None;
        }
        if name == b"TRAILER!!!" {
            // Linux passes over the body of a trailer, and takes one that is a link for a link.
            let plain = bytes == 0 && fields[1] & mode::S_IFMT != mode::S_IFLNK;
            return (plain && are_zeros(&archive[body..])).then_some(files);
        }
        let end = body.checked_add(bytes)?;
        at = end.checked_next_multiple_of(4)?;
        let content = archive.get(body..end)?.to_vec();
        if !are_zeros(archive.get(end..at)?) {
            return None;
        }
        let entry = Entry {
            name: name.to_vec(),
            inode: fields[0],
            mode: fields[1],
            uid: fields[2],
            gid: fields[3],
            links: fields[4],
            mtime: fields[5],
            bytes: fields[6],
            device_major: fields[7],
            device_minor: fields[8],
            rdev_major: fields[9],
            rdev_minor: fields[10],
        };
        files.push((entry, content));
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(sum << 4 | digit)
    })
}

fn are_zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
