//! The decoder: it is fed bytes, and holds one header and one name at most, whatever the archive's size.

use super::{Entry, HEADER_BYTES, MAGIC, NewcError, TRAILER, mode, padding};
use crate::limits::{NAME_BYTES_MAX, NEWC_FILE_BYTES_MAX};

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
            device_major,
            device_minor,
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
            device_major,
            device_minor,
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
            // Linux init/initramfs.c: what follows a header is passed over or taken for a link before the name is seen.
            let plain = entry.bytes == 0 && entry.file_type() != mode::S_IFLNK;
            let offset = self.offset;
            return plain.then_some(None).ok_or(NewcError::Trailer { offset });
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
