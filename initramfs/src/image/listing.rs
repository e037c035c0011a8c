//! The list of a directory: runs of names whose inodes lie close together, each run below a header.

use std::io;

use super::inodes::Written;
use crate::squashfs::format::{ENTRIES_OF_HEADER_MAX, NAME_BYTES_MAX};

/// A list while it is written.
#[derive(Default)]
pub(super) struct Listing {
    list: Vec<u8>,
    run: Option<Run>,
}

/// Names below one header.
struct Run {
    /// What the inodes have in common: their block, and numbers close to this one.
    block: u32,
    number: u32,
    count: u32,
    names: Vec<u8>,
}

impl Listing {
    /// Adds a name, which sorts behind those before it.
    ///
    /// # Errors
    /// It is longer than squashfs has room for.
    pub(super) fn add(&mut self, name: &[u8], inode: Written) -> io::Result<()> {
        if name.len() > NAME_BYTES_MAX {
            let bytes = name.len();
            let what =
                format!("its name has {bytes} bytes, and squashfs has room for {NAME_BYTES_MAX}");
            return Err(io::Error::other(what));
        }
        let fits = |run: &&mut Run| run.distance(inode).is_some();
        let run = match self.run.as_mut().filter(fits) {
            Some(run) => run,
            None => {
                self.close();
                self.run.insert(Run::new(inode))
            }
        };
        run.add(name, inode);
        Ok(())
    }

    /// The list.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.close();
        self.list
    }

    fn close(&mut self) {
        if let Some(run) = self.run.take() {
            let header = [run.count - 1, run.block, run.number];
            self.list.extend(header.map(u32::to_le_bytes).concat());
            self.list.extend(run.names);
        }
    }
}

impl Run {
    fn new(first: Written) -> Self {
        Self {
            block: first.place.block,
            number: first.number,
            count: 0,
            names: Vec::new(),
        }
    }

    /// How far the number of this inode is from the header's, if it can be below it.
    fn distance(&self, inode: Written) -> Option<i16> {
        let distance = i64::from(inode.number) - i64::from(self.number);
        let is_below = inode.place.block == self.block && self.count < ENTRIES_OF_HEADER_MAX;
        i16::try_from(distance).ok().filter(|_| is_below)
    }

    fn add(&mut self, name: &[u8], inode: Written) {
        let distance = self.distance(inode).unwrap_or_default();
        // One less than it is: no name is empty, and none is longer than 256 bytes.
        let bytes = u16::try_from(name.len() - 1).unwrap_or_default();
        self.names.extend(inode.place.offset.to_le_bytes());
        self.names.extend(distance.to_le_bytes());
        self.names.extend(inode.kind.to_le_bytes());
        self.names.extend(bytes.to_le_bytes());
        self.names.extend(name);
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::metadata::Place;
    use crate::squashfs::format::kind;

    fn headers(inodes: &[(u32, u32)]) -> usize {
        let mut listing = Listing::default();
        for &(block, number) in inodes {
            let inode = Written {
                place: Place { block, offset: 0 },
                number,
                kind: kind::FILE,
            };
            listing.add(b"a", inode).unwrap();
        }
        (listing.finish().len() - 9 * inodes.len()) / 12
    }

    #[test]
    fn names_far_apart_are_below_headers_of_their_own() {
        assert_eq!(headers(&[]), 0);
        assert_eq!(headers(&[(0, 40_000), (0, 7_233), (0, 72_767)]), 1);
        assert_eq!(headers(&[(0, 40_000), (0, 7_231)]), 2, "32,769 before");
        assert_eq!(headers(&[(0, 40_000), (0, 72_768)]), 2, "32,768 behind");
        assert_eq!(headers(&[(0, 1), (1, 2), (0, 3)]), 3);
        assert_eq!(headers(&vec![(0, 1); 256]), 1);
        assert_eq!(headers(&vec![(0, 1); 257]), 2);
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        let inode = Written {
            place: Place::default(),
            number: 1,
            kind: kind::FIFO,
        };
        let add = |bytes| Listing::default().add(&vec![b'n'; bytes], inode);
        assert!(add(256).is_ok());
        let refused = add(257).unwrap_err().to_string();
        assert!(refused.contains("257 bytes"), "{refused}");
    }
}
