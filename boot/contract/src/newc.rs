//! The cpio *newc* format, as the Linux kernel reads it: encoding of records, and a decoder that is fed bytes.
//!
//! Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst. The decoder holds one header and one name
//! at most, whatever the archive's size; what an entry may be is decided by [`crate::lanes`], not here.

use crate::limits::{NAME_BYTES_MAX, NEWC_FILE_BYTES_MAX};

/// Bytes in a newc header: the magic and thirteen fields of eight hex digits.
pub const HEADER_BYTES: usize = 110;

const MAGIC: &[u8; 6] = b"070701";
const TRAILER: &[u8] = b"TRAILER!!!";

/// Mask and values of the file type in [`Entry::mode`] (inode(7)).
pub mod mode {
    #![expect(missing_docs, reason = "the names are those of inode(7)")]
    pub const S_IFMT: u32 = 0o170_000;
    pub const S_IFSOCK: u32 = 0o140_000;
    pub const S_IFLNK: u32 = 0o120_000;
    pub const S_IFREG: u32 = 0o100_000;
    pub const S_IFBLK: u32 = 0o060_000;
    pub const S_IFDIR: u32 = 0o040_000;
    pub const S_IFCHR: u32 = 0o020_000;
    pub const S_IFIFO: u32 = 0o010_000;
    pub const S_ISUID: u32 = 0o4000;
    pub const S_ISGID: u32 = 0o2000;
    pub const S_ISVTX: u32 = 0o1000;
}

/// One record's header and name. The body (file content or link target) follows as data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Name as stored: relative, without a NUL.
    pub name: Vec<u8>,
    /// Inode number; equal numbers with `links > 1` make hard links.
    pub inode: u32,
    /// File type and permission bits (inode(7)).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names of this inode in the archive.
    pub links: u32,
    /// Modification time, in seconds since 1970.
    pub mtime: u32,
    /// Bytes of body.
    pub bytes: u32,
    /// Device number of a device node, major part.
    pub rdev_major: u32,
    /// Device number of a device node, minor part.
    pub rdev_minor: u32,
}

impl Entry {
    /// The file type bits.
    #[must_use]
    pub fn file_type(&self) -> u32 {
        self.mode & mode::S_IFMT
    }

    /// Name for people: bytes that are not UTF-8 and control characters escaped.
    #[must_use]
    pub fn display_name(&self) -> String {
        self.name.escape_ascii().to_string()
    }

    /// Header, name and padding, ready to be followed by the body and [`padding`] for it.
    ///
    /// # Errors
    /// A name that is empty, too long or has a NUL.
    pub fn encode(&self) -> Result<Vec<u8>, NewcError> {
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || self.name.contains(&0) {
            return Err(NewcError::Name {
                bytes: self.name.len(),
            });
        }
        Ok(self.encode_unchecked())
    }

    fn encode_unchecked(&self) -> Vec<u8> {
        let fields = [
            self.inode,
            self.mode,
            self.uid,
            self.gid,
            self.links,
            self.mtime,
            self.bytes,
            0, // device of the archive's file system: c_maj, c_min; always 0 so that the same tree gives the same bytes
            0,
            self.rdev_major,
            self.rdev_minor,
            u32::try_from(self.name.len() + 1).unwrap_or(u32::MAX),
            0, // c_check is 0 in newc
        ];
        let mut out = Vec::with_capacity(HEADER_BYTES + self.name.len() + 4);
        out.extend_from_slice(MAGIC);
        for field in fields {
            out.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        out.extend_from_slice(&self.name);
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }
}

/// The record that ends an archive.
#[must_use]
pub fn trailer() -> Vec<u8> {
    Entry {
        name: TRAILER.to_vec(),
        links: 1,
        ..Entry::default()
    }
    .encode_unchecked()
}

/// Zero bytes that follow a body of `bytes` bytes, so that the next header is aligned to 4.
#[must_use]
pub fn padding(bytes: u64) -> &'static [u8] {
    &[0; 3][..usize::try_from(bytes.next_multiple_of(4) - bytes).unwrap_or(0)]
}

/// What is wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NewcError {
    /// A header does not start with `070701`.
    #[error("no newc header at byte {offset} of the archive")]
    Magic {
        /// Offset in the unpacked archive, in bytes.
        offset: u64,
    },
    /// A header field is not eight hex digits.
    #[error("a newc header field is not hexadecimal at byte {offset} of the archive")]
    Field {
        /// Offset of the header, in bytes.
        offset: u64,
    },
    /// A name that is empty, longer than the kernel takes, or not ended by its only NUL.
    #[error("an entry's name of {bytes} bytes is empty, too long, or has a NUL inside")]
    Name {
        /// Length in bytes.
        bytes: usize,
    },
    /// Bytes other than zero padding after the trailer.
    #[error("the archive goes on after its trailer, at byte {offset}")]
    AfterTrailer {
        /// Offset in the unpacked archive, in bytes.
        offset: u64,
    },
    /// Padding between records that is not zero.
    #[error("padding before byte {offset} of the archive is not zero")]
    Padding {
        /// Offset in the unpacked archive, in bytes.
        offset: u64,
    },
    /// The bytes ended before the trailer.
    #[error("the archive ends after {got} bytes, before its trailer")]
    Truncated {
        /// Bytes seen.
        got: u64,
    },
}

/// What the decoder found.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A new entry; `entry.bytes` bytes of data follow in pieces, then [`Item::EntryEnd`].
    Entry(Entry),
    /// A piece of the current entry's body.
    Data(&'a [u8]),
    /// The current entry is complete.
    EntryEnd,
}

#[derive(Debug)]
enum State {
    Header,
    Name(Box<Entry>, usize),
    Body { left: u64, padding: usize },
    Padding(usize),
    Trailed,
}

/// Decodes an archive from bytes that arrive in pieces of any size.
///
/// ```
/// # use towline_contract::newc::{Decoder, Item, trailer};
/// let archive = trailer();
/// let mut decoder = Decoder::new();
/// let mut input = archive.as_slice();
/// assert_eq!(decoder.next(&mut input).unwrap(), None); // all consumed
/// decoder.finish().unwrap();
/// ```
#[derive(Debug)]
pub struct Decoder {
    state: State,
    buffer: Vec<u8>,
    offset: u64,
    leaves_rest: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the start of an archive.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Header,
            buffer: Vec::new(),
            offset: 0,
            leaves_rest: false,
        }
    }

    /// A decoder that leaves what follows the trailer in its input: another archive, perhaps.
    #[must_use]
    pub fn one_of_many() -> Self {
        Self {
            leaves_rest: true,
            ..Self::new()
        }
    }

    /// Takes bytes from the front of `input` until an item is complete; `None` once `input` is used up.
    ///
    /// # Errors
    /// The archive is not valid newc; the decoder is of no use afterwards.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, NewcError> {
        loop {
            match &mut self.state {
                State::Header => {
                    if !self.gather(input, HEADER_BYTES) {
                        return Ok(None);
                    }
                    let (entry, name_bytes) = self.parse_header()?;
                    self.buffer.clear();
                    self.state = State::Name(Box::new(entry), name_bytes);
                }
                State::Name(_, name_bytes) => {
                    let name_bytes = *name_bytes;
                    let padded = (HEADER_BYTES + name_bytes).next_multiple_of(4) - HEADER_BYTES;
                    if !self.gather(input, padded) {
                        return Ok(None);
                    }
                    if let Some(entry) = self.parse_name(name_bytes)? {
                        return Ok(Some(Item::Entry(entry)));
                    }
                }
                State::Body { left: 0, padding } => {
                    self.state = State::Padding(*padding);
                }
                State::Body { left, .. } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let take = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(input.len());
                    let (data, rest) = input.split_at(take);
                    *input = rest;
                    *left -= take as u64;
                    self.offset += take as u64;
                    return Ok(Some(Item::Data(data)));
                }
                State::Padding(bytes) => {
                    let bytes = *bytes;
                    if !self.gather(input, bytes) {
                        return Ok(None);
                    }
                    if self.buffer.iter().any(|b| *b != 0) {
                        return Err(NewcError::Padding {
                            offset: self.offset,
                        });
                    }
                    self.buffer.clear();
                    self.state = State::Header;
                    return Ok(Some(Item::EntryEnd));
                }
                State::Trailed if self.leaves_rest => return Ok(None),
                State::Trailed => {
                    if let Some(at) = input.iter().position(|b| *b != 0) {
                        return Err(NewcError::AfterTrailer {
                            offset: self.offset + at as u64,
                        });
                    }
                    self.offset += input.len() as u64;
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    /// Whether the trailer was seen: what follows may be another archive.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Trailed)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// The trailer was not seen.
    pub fn finish(&self) -> Result<(), NewcError> {
        match self.state {
            State::Trailed => Ok(()),
            _ => Err(NewcError::Truncated { got: self.offset }),
        }
    }

    /// Fills the buffer up to `want` bytes; false when `input` ran out first.
    fn gather(&mut self, input: &mut &[u8], want: usize) -> bool {
        let take = (want - self.buffer.len()).min(input.len());
        let (head, rest) = input.split_at(take);
        self.buffer.extend_from_slice(head);
        *input = rest;
        self.offset += take as u64;
        self.buffer.len() == want
    }

    fn parse_header(&self) -> Result<(Entry, usize), NewcError> {
        let offset = self.offset - HEADER_BYTES as u64;
        if &self.buffer[..6] != MAGIC {
            return Err(NewcError::Magic { offset });
        }
        let mut fields = [0_u32; 13];
        for (field, digits) in fields.iter_mut().zip(self.buffer[6..].chunks_exact(8)) {
            // `from_str_radix` alone would take a sign.
            let text = std::str::from_utf8(digits)
                .ok()
                .filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()));
            *field = text
                .and_then(|t| u32::from_str_radix(t, 16).ok())
                .ok_or(NewcError::Field { offset })?;
        }
        let [
            inode,
            mode,
            uid,
            gid,
            links,
            mtime,
            bytes,
            _,
            _,
            rdev_major,
            rdev_minor,
            name_bytes,
            _,
        ] = fields;
        let name_bytes = name_bytes as usize;
        if !(2..=NAME_BYTES_MAX + 1).contains(&name_bytes) {
            return Err(NewcError::Name {
                bytes: name_bytes.saturating_sub(1),
            });
        }
        let entry = Entry {
            name: Vec::new(),
            inode,
            mode,
            uid,
            gid,
            links,
            mtime,
            bytes,
            rdev_major,
            rdev_minor,
        };
        Ok((entry, name_bytes))
    }

    /// Takes the gathered name; `None` when it is the trailer's.
    fn parse_name(&mut self, name_bytes: usize) -> Result<Option<Entry>, NewcError> {
        let bad = || NewcError::Name {
            bytes: name_bytes - 1,
        };
        let (name, nul_and_padding) = self.buffer.split_at(name_bytes - 1);
        if name.contains(&0) || nul_and_padding.iter().any(|b| *b != 0) {
            return Err(bad());
        }
        let name = name.to_vec();
        self.buffer.clear();
        let State::Name(entry, _) = std::mem::replace(&mut self.state, State::Trailed) else {
            return Err(bad());
        };
        if name == TRAILER {
            return Ok(None);
        }
        let entry = Entry { name, ..*entry };
        let left = u64::from(entry.bytes);
        debug_assert!(left <= NEWC_FILE_BYTES_MAX);
        self.state = State::Body {
            left,
            padding: padding(left).len(),
        };
        Ok(Some(entry))
    }
}

#[cfg(test)]
mod tests {
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
}
