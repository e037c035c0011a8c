//! The archive as a row of bytes, of which any part can be read by itself: so that all cores read.

use std::ops::Range;

use towline_contract::newc;

use super::WriteError;
use super::records::{Body, Record};
use crate::tree::display;

/// Bytes of a piece that is compressed by itself: which loses little, and eight of them are little memory.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// Bytes of a piece that is only read: few enough to stay in a core's cache until they are copied.
pub(super) const PART_BYTES: usize = 1 << 18;

/// Records and where they begin.
pub(super) struct Archive<'a> {
    records: Vec<Record<'a>>,
    starts: Vec<u64>,
    trailer: Vec<u8>,
    piece_bytes: usize,
    /// Bytes of all records and the trailer.
    pub(super) bytes: u64,
}

impl<'a> Archive<'a> {
    pub(super) fn new(records: Vec<Record<'a>>, piece_bytes: usize) -> Self {
        let mut end = 0;
        let starts = records.iter().map(|record| {
            let start = end;
            end += u64::from(record.header_bytes) + record.body.len().next_multiple_of(4);
            start
        });
        let starts = starts.collect();
        let trailer = newc::trailer();
        let bytes = end + trailer.len() as u64;
        Self {
            records,
            starts,
            trailer,
            piece_bytes,
            bytes,
        }
    }

    /// Records without the trailer.
    pub(super) fn entries(&self) -> u64 {
        self.records.len() as u64
    }

    /// Where the body of the record for `path` begins.
    pub(super) fn body_at(&self, path: &[u8]) -> Option<u64> {
        let number = self.records.iter().position(|it| it.path == path)?;
        Some(self.starts[number] + u64::from(self.records[number].header_bytes))
    }

    /// How many pieces it has.
    pub(super) fn pieces(&self) -> usize {
        usize::try_from(self.bytes.div_ceil(self.piece_bytes as u64)).unwrap_or(usize::MAX)
    }

    /// The bytes of a piece.
    ///
    /// # Errors
    /// A file cannot be read, or has become shorter.
    pub(super) fn piece(&self, number: usize) -> Result<Vec<u8>, WriteError> {
        let piece_bytes = self.piece_bytes as u64;
        let start = number as u64 * piece_bytes;
        let mut piece = Piece {
            range: start..self.bytes.min(start + piece_bytes),
            bytes: Vec::with_capacity(self.piece_bytes),
        };
        // The last record that begins at the start or before it.
        let first = self.starts.partition_point(|at| *at <= start);
        for number in first.saturating_sub(1)..self.records.len() {
            if self.starts[number] >= piece.range.end {
                break;
            }
            piece.record(&self.records[number], self.starts[number])?;
        }
        piece.bytes(&self.trailer, self.bytes - self.trailer.len() as u64);
        Ok(piece.bytes)
    }
}

/// A part of the archive while it is gathered.
struct Piece {
    range: Range<u64>,
    bytes: Vec<u8>,
}

impl Piece {
    /// Adds what of a record is in the range; it begins at `at`.
    fn record(&mut self, record: &Record<'_>, at: u64) -> Result<(), WriteError> {
        let header_bytes = u64::from(record.header_bytes);
        if !self.part(header_bytes, at).is_empty() {
            self.bytes(&record.header()?, at);
        }
        let at = at + header_bytes;
        match record.body {
            Body::None => {}
            Body::Bytes(bytes) => self.bytes(bytes, at),
            Body::Content(content) => {
                let part = self.part(content.len(), at);
                if !part.is_empty() {
                    let end = self.bytes.len();
                    let bytes = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
                    self.bytes.resize(end + bytes, 0);
                    let read = content.open();
                    read.and_then(|open| open.read_exact_at(&mut self.bytes[end..], part.start))
                        .map_err(|cause| WriteError::Content {
                            path: display(record.path),
                            cause,
                        })?;
                }
            }
        }
        self.bytes(newc::padding(record.body.len()), at + record.body.len());
        Ok(())
    }

    /// Adds what of `bytes`, which begin at `at`, is in the range.
    fn bytes(&mut self, bytes: &[u8], at: u64) {
        let part = self.part(bytes.len() as u64, at);
        let index = |at| usize::try_from(at).unwrap_or(usize::MAX);
        if !part.is_empty() {
            self.bytes
                .extend_from_slice(&bytes[index(part.start)..index(part.end)]);
        }
    }

    /// Which of so many bytes, which begin at `at`, are in the range.
    fn part(&self, bytes: u64, at: u64) -> Range<u64> {
        let start = self.range.start.saturating_sub(at);
        let end = self.range.end.saturating_sub(at).min(bytes);
        start..end
    }
}
