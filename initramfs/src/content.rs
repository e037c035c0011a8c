//! Where the bytes of a file come from, without holding them in memory.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use towline_contract::limits::LAYER_UNPACKED_BYTES_MAX;

/// The bytes of one regular file.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory: recipe entries and what the builder makes.
    Bytes(Arc<[u8]>),
    /// A file of this machine.
    Disk {
        /// Where it is.
        path: PathBuf,
        /// Which it was when the tree was read.
        version: Version,
    },
    /// A part of an open file: of a [`Spool`], or a file that the builder made.
    Spool {
        /// The file.
        file: Arc<File>,
        /// Where it begins, in bytes.
        offset: u64,
        /// Size in bytes.
        bytes: u64,
    },
}

/// What tells a file from what it was, or from another in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    file: (u64, u64),
    modified: (i64, i64),
    bytes: u64,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            bytes: metadata.len(),
        }
    }
}

impl Content {
    /// The file of this machine at `path`, which has this `metadata`.
    #[must_use]
    pub fn of_file(path: PathBuf, metadata: &Metadata) -> Self {
        let version = Version::of(metadata);
        Self::Disk { path, version }
    }

    /// Content in memory.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// So many bytes of an open file from `offset` on, whatever becomes of its name.
    #[must_use]
    pub fn of_part(file: Arc<File>, offset: u64, bytes: u64) -> Self {
        Self::Spool {
            file,
            offset,
            bytes,
        }
    }

    /// Size in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Disk { version, .. } => version.bytes,
            Self::Spool { bytes, .. } => *bytes,
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens the content for reading at any place. A layer is read in pieces, and none may be of another version of a file.
    ///
    /// # Errors
    /// The file of [`Content::Disk`] cannot be opened, or is not what it was.
    pub fn open(&self) -> io::Result<OpenContent<'_>> {
        Ok(match self {
            Self::Bytes(bytes) => OpenContent::Bytes(bytes),
            Self::Disk { path, version } => {
                let file = File::open(path)?;
                if Version::of(&file.metadata()?) != *version {
                    return Err(io::Error::other(
                        "it was changed while the layer was built; build again when it is at rest",
                    ));
                }
                OpenContent::Disk(file, version.bytes)
            }
            Self::Spool {
                file,
                offset,
                bytes,
            } => OpenContent::Spool(file, *offset, *bytes),
        })
    }

    /// All bytes.
    ///
    /// # Errors
    /// They cannot be read, or the file has become shorter.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.len()).map_err(io::Error::other)?];
        self.open()?.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// A reader of the content from its start, which fails if there are fewer bytes than there were.
    ///
    /// # Errors
    /// The file of [`Content::Disk`] cannot be opened.
    pub fn reader(&self) -> io::Result<ContentReader<'_>> {
        Ok(ContentReader {
            open: self.open()?,
            at: 0,
            bytes: self.len(),
        })
    }
}

/// Reads content from its start.
#[derive(Debug)]
pub struct ContentReader<'a> {
    open: OpenContent<'a>,
    at: u64,
    bytes: u64,
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.bytes - self.at;
        let take = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        self.open.read_exact_at(&mut buffer[..take], self.at)?;
        self.at += take as u64;
        Ok(take)
    }
}

/// Content that is open.
#[derive(Debug)]
pub enum OpenContent<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// A file and its size.
    Disk(File, u64),
    /// A file, where the content begins in it, and its size.
    Spool(&'a File, u64, u64),
}

impl OpenContent<'_> {
    /// Fills `buffer` from the bytes at `at`.
    ///
    /// # Errors
    /// Reading fails or the content ends before.
    pub fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let end = at.checked_add(buffer.len() as u64);
        let within = |bytes: u64| match end {
            Some(end) if end <= bytes => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        };
        match self {
            Self::Bytes(bytes) => {
                within(bytes.len() as u64)?;
                let at = usize::try_from(at).map_err(io::Error::other)?;
                buffer.copy_from_slice(&bytes[at..at + buffer.len()]);
                Ok(())
            }
            Self::Disk(file, bytes) => {
                within(*bytes)?;
                file.read_exact_at(buffer, at)
            }
            Self::Spool(file, offset, bytes) => {
                within(*bytes)?;
                file.read_exact_at(buffer, offset + at)
            }
        }
    }
}

/// One unnamed temporary file that keeps the contents of many small ones: packages are unpacked into it, so that no
/// name, owner or mode of theirs ever touches a file system.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    end: u64,
}

impl Spool {
    /// An empty spool in the directory for temporary files.
    ///
    /// # Errors
    /// No temporary file can be made.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            file: Arc::new(tempfile::tempfile()?),
            end: 0,
        })
    }

    /// Adds all that `reader` gives.
    ///
    /// # Errors
    /// Reading or writing fails.
    pub fn add(&mut self, reader: &mut impl Read) -> io::Result<Content> {
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(self.end))?;
        let left = LAYER_UNPACKED_BYTES_MAX.saturating_sub(self.end);
        let bytes = io::copy(&mut reader.take(left + 1), &mut file)?;
        let offset = self.end;
        self.grow(bytes)?;
        Ok(self.since(offset))
    }

    /// Where the next content begins, in bytes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Adds a piece of a content whose end is not known yet.
    ///
    /// # Errors
    /// Writing fails.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.end)?;
        self.grow(bytes.len() as u64)
    }

    /// Refuses a small archive that unpacks without end, before it fills the disk.
    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        self.end += bytes;
        if self.end <= LAYER_UNPACKED_BYTES_MAX {
            return Ok(());
        }
        let what = format!(
            "there is more in it than the {LAYER_UNPACKED_BYTES_MAX} bytes that a layer may have"
        );
        Err(io::Error::other(what))
    }

    /// The content from `offset`, which was the end once, to the end.
    #[must_use]
    pub fn since(&self, offset: u64) -> Content {
        Content::Spool {
            file: Arc::clone(&self.file),
            offset,
            bytes: self.end - offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_changed_or_replaced_is_not_read_as_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "before").unwrap();
        let content = Content::of_file(path.clone(), &path.metadata().unwrap());
        assert_eq!(content.read().unwrap(), b"before");
        let other = dir.path().join("other");
        std::fs::write(&other, "behind").unwrap();
        std::fs::rename(&other, &path).unwrap();
        let refused = content.read().unwrap_err().to_string();
        assert!(refused.contains("was changed while"), "{refused}");
        let content = Content::of_file(path.clone(), &path.metadata().unwrap());
        std::fs::write(&path, "short").unwrap();
        assert!(content.read().is_err());
    }

    #[test]
    fn what_unpacks_to_more_than_a_layer_may_have_is_refused() {
        let mut spool = Spool::new().unwrap();
        spool.end = LAYER_UNPACKED_BYTES_MAX - 5;
        assert_eq!(spool.add(&mut &b"fits"[..]).unwrap().len(), 4);
        let refused = spool.add(&mut io::repeat(0)).unwrap_err().to_string();
        assert!(refused.contains("more in it than"), "{refused}");
        assert!(spool.append(b"x").is_err());
    }
}
