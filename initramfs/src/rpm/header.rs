//! Headers of rpm packages: an index of tags, and a store of their values (rpm's own documentation, "V4 Package format").

use std::collections::BTreeMap;
use std::io::{self, Read};

use towline_contract::Digest;
use towline_contract::digest::Hasher;
use towline_contract::limits::LAYER_ENTRIES_MAX;

/// Most tags in a header: rpm's own limit (`HEADER_TAGS_MAX`).
const TAGS_MAX: u32 = 0xFFFF;

/// Most bytes of a header's values. A package of 100,000 files has 20 MB.
const STORE_BYTES_MAX: u32 = 64 << 20;

/// Most texts of one tag: those of files, of which a layer has no more.
const TEXTS_MAX: u64 = LAYER_ENTRIES_MAX;

/// Bytes of one line of the index.
const LINE_BYTES: u32 = 16;

const MAGIC: [u8; 4] = [0x8E, 0xAD, 0xE8, 0x01];

/// Types of values that are read here.
const INT32: u32 = 4;
const STRINGS: [u32; 3] = [6, 8, 9];

/// Tags (rpm's `rpmtag.h`).
pub(super) mod tag {
    /// Of the first header, with what vouches for the second.
    pub(in super::super) const HEADER_DIGEST: u32 = 273;
    pub(in super::super) const NAME: u32 = 1000;
    pub(in super::super) const VERSION: u32 = 1001;
    pub(in super::super) const RELEASE: u32 = 1002;
    pub(in super::super) const EPOCH: u32 = 1003;
    pub(in super::super) const ARCH: u32 = 1022;
    pub(in super::super) const FILE_USERS: u32 = 1039;
    pub(in super::super) const FILE_GROUPS: u32 = 1040;
    pub(in super::super) const SOURCE_RPM: u32 = 1044;
    pub(in super::super) const FILE_DIRECTORIES: u32 = 1116;
    pub(in super::super) const BASE_NAMES: u32 = 1117;
    pub(in super::super) const DIRECTORIES: u32 = 1118;
    pub(in super::super) const PAYLOAD_FORMAT: u32 = 1124;
    pub(in super::super) const PAYLOAD_COMPRESSOR: u32 = 1125;
    pub(in super::super) const LONG_FILE_SIZES: u32 = 5008;
    pub(in super::super) const FILE_CAPABILITIES: u32 = 5010;
    pub(in super::super) const PAYLOAD_DIGEST: u32 = 5092;
    pub(in super::super) const PAYLOAD_DIGEST_ALGORITHM: u32 = 5093;
}

/// Why a header cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    Read(io::Error),
    Format(String),
}

impl From<io::Error> for Fault {
    fn from(cause: io::Error) -> Self {
        Self::Read(cause)
    }
}

/// A header.
#[derive(Debug)]
pub(super) struct Header {
    /// Bytes that it has in the file.
    pub(super) bytes: u64,
    /// Of these bytes.
    pub(super) digest: Digest,
    index: BTreeMap<u32, Line>,
    store: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    kind: u32,
    offset: u32,
    count: u32,
}

impl Header {
    /// Reads a header.
    pub(super) fn read(reader: &mut impl Read) -> Result<Self, Fault> {
        let mut start = [0; 16];
        reader.read_exact(&mut start)?;
        let number = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if start[..4] != MAGIC {
            return Err(Fault::Format("a header does not begin as one".into()));
        }
        let (tags, store_bytes) = (number(&start[8..12]), number(&start[12..16]));
        if tags > TAGS_MAX || store_bytes > STORE_BYTES_MAX {
            return Err(Fault::Format(format!(
                "a header has {tags} tags and {store_bytes} bytes of values, and may have {TAGS_MAX} and {STORE_BYTES_MAX}"
            )));
        }
        let index_bytes = tags * LINE_BYTES;
        let index = read_exactly(reader, index_bytes)?;
        let store = read_exactly(reader, store_bytes)?;
        let mut hasher = Hasher::default();
        for part in [&start[..], &index, &store] {
            hasher.update(part);
        }
        let digest = hasher.finish();
        let lines = index.chunks_exact(16).map(|line| {
            let kind = number(&line[4..8]);
            let (offset, count) = (number(&line[8..12]), number(&line[12..16]));
            (
                number(&line[..4]),
                Line {
                    kind,
                    offset,
                    count,
                },
            )
        });
        let lines = lines.collect();
        Ok(Self {
            index: lines,
            bytes: 16 + u64::from(index_bytes) + u64::from(store_bytes),
            digest,
            store,
        })
    }

    /// Whether a tag is there.
    pub(super) fn has(&self, tag: u32) -> bool {
        self.index.contains_key(&tag)
    }

    /// The texts of a tag, none if it is not there.
    pub(super) fn texts(&self, tag: u32) -> Result<Vec<&[u8]>, Fault> {
        let Some((line, values)) = self.values(tag, &STRINGS)? else {
            return Ok(Vec::new());
        };
        // A text has one byte in the header, and sixteen here.
        if u64::from(line.count) > TEXTS_MAX {
            let count = line.count;
            return Err(wrong(
                tag,
                &format!("has {count} texts, and may have {TEXTS_MAX}"),
            ));
        }
        let mut rest = values;
        let mut texts = Vec::new();
        for _ in 0..line.count {
            let end = rest.iter().position(|byte| *byte == 0);
            let end = end.ok_or_else(|| wrong(tag, "ends too early"))?;
            texts.push(&rest[..end]);
            rest = &rest[end + 1..];
        }
        Ok(texts)
    }

    /// The first text of a tag.
    pub(super) fn text(&self, tag: u32) -> Result<Option<String>, Fault> {
        let texts = self.texts(tag)?;
        let first = texts.first();
        Ok(first.map(|text| String::from_utf8_lossy(text).into_owned()))
    }

    /// The numbers of a tag, none if it is not there.
    pub(super) fn numbers(&self, tag: u32) -> Result<Vec<u32>, Fault> {
        let Some((line, values)) = self.values(tag, &[INT32])? else {
            return Ok(Vec::new());
        };
        let (numbers, _) = values.as_chunks::<4>();
        let count = usize::try_from(line.count).unwrap_or(usize::MAX);
        let numbers = numbers.get(..count);
        let numbers = numbers.ok_or_else(|| wrong(tag, "ends too early"))?;
        Ok(numbers.iter().map(|it| u32::from_be_bytes(*it)).collect())
    }

    fn values(&self, tag: u32, kinds: &[u32]) -> Result<Option<(Line, &[u8])>, Fault> {
        let Some(line) = self.index.get(&tag) else {
            return Ok(None);
        };
        if !kinds.contains(&line.kind) {
            return Err(wrong(tag, &format!("is of type {}", line.kind)));
        }
        let offset = usize::try_from(line.offset).unwrap_or(usize::MAX);
        let values = self.store.get(offset..);
        let values = values.ok_or_else(|| wrong(tag, "is not in its header"))?;
        Ok(Some((*line, values)))
    }
}

fn wrong(tag: u32, what: &str) -> Fault {
    Fault::Format(format!("tag {tag} {what}"))
}

/// As many bytes; a header that lies about its size takes no more memory than there are bytes.
fn read_exactly(reader: &mut impl Read, bytes: u32) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    reader.take(bytes.into()).read_to_end(&mut found)?;
    match found.len() as u64 == u64::from(bytes) {
        true => Ok(found),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Makes a header of values by tag, type and count.
    pub(in super::super) fn header(values: &[(u32, u32, u32, Vec<u8>)]) -> Header {
        let (mut index, mut store) = (Vec::new(), Vec::new());
        for (tag, kind, count, bytes) in values {
            let offset = u32::try_from(store.len()).unwrap();
            index.extend([*tag, *kind, offset, *count].map(u32::to_be_bytes));
            store.extend_from_slice(bytes);
        }
        let sizes = [index.len() / 4, store.len()];
        let sizes = sizes.map(|size| u32::try_from(size).unwrap().to_be_bytes());
        let bytes = [
            &MAGIC[..],
            &[0; 4],
            sizes.as_flattened(),
            index.as_flattened(),
            &store,
        ]
        .concat();
        let header = Header::read(&mut bytes.as_slice()).unwrap();
        assert_eq!(header.bytes, bytes.len() as u64);
        header
    }

    #[test]
    fn more_texts_than_a_layer_has_files_are_refused_before_they_take_memory() {
        let count = STORE_BYTES_MAX / 4;
        let store = vec![0; usize::try_from(count).unwrap()];
        let header = header(&[(tag::BASE_NAMES, STRINGS[1], count, store)]);
        let Err(Fault::Format(what)) = header.texts(tag::BASE_NAMES) else {
            panic!("refused")
        };
        assert_eq!(what, "tag 1117 has 16777216 texts, and may have 1000000");
    }
}
